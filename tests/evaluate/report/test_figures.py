"""What the figures draw."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from mrnn.evaluate.report.figures import (
    learning_curves,
    percent_curves,
    perplexity_by_length,
    pruning,
    recall_at_every_k,
    recall_curves,
)
from mrnn.evaluate.retrieval.ranking import recall_at_k


def test_recall_at_every_k_is_recall_at_k() -> None:
    ranks = np.random.default_rng(0).integers(1, 40, 200)
    expected = [recall_at_k(ranks, k) for k in range(1, 51)]
    assert recall_at_every_k(ranks, 50).tolist() == pytest.approx(expected)


def test_pruning_is_drawn_to_the_point_where_all_is_settled() -> None:
    course = [
        {"scored": scored, "settled": {"image_to_sentence": settled, "sentence_to_image": settled}}
        for scored, settled in ((0.0, 0.1), (0.05, 0.6), (0.14, 1.0))
    ]
    axes = Figure().add_subplot()
    draw = pruning(course)
    assert draw is not None
    draw(axes)
    assert axes.lines[0].get_xydata()[-1] == pytest.approx([14, 100])


def test_percents_are_drawn_as_they_are() -> None:
    within = {"image_to_sentence": {"1": 30.0, "10": 80.0}, "sentence_to_image": {"1": 20.0, "10": 70.0}}
    axes = Figure().add_subplot()
    draw = percent_curves(within)
    assert draw is not None
    draw(axes)
    assert [line.get_xydata().tolist() for line in axes.lines] == [
        [[1, 30], [10, 80]], [[1, 20], [10, 70]], [[1, 1], [10, 10]]
    ]  # fmt: skip


def test_nothing_is_drawn_without_data() -> None:
    assert learning_curves([{"kind": "step", "bits": 1.0}]) is None
    assert recall_curves([{"image_id": "a"}]) is None
    assert perplexity_by_length([]) is None
    assert pruning([]) is None
    assert percent_curves({}) is None
