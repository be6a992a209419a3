"""Ranks, recalls and medians against hand-worked examples, brute force and chance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrnn.evaluate.retrieval.ranking import Recalls, largest, largest_of_rows, recall_at_k, recalls
from tests.evaluate.retrieval.plain_ranks import image_to_sentence_ranks, rank_of_best, sentence_to_image_ranks


def test_hand_worked_example_with_ties() -> None:
    scores = np.array([[0.5, 0.9, 0.9, 0.1], [1.0, 1.0, 1.0, 1.0], [3.0, 2.0, 1.0, 0.0]])
    right = np.array([[False, True, False, False], [False, False, True, True], [False, False, False, True]])
    assert rank_of_best(scores, right, ties="worst").tolist() == [2, 3, 4]
    assert rank_of_best(scores, right, ties="best").tolist() == [1, 1, 4]


@given(st.data())
def test_rank_is_the_place_in_a_sorted_list(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 8))
    scores = np.array(data.draw(st.lists(st.integers(0, 4), min_size=size, max_size=size)), dtype=float)
    right = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size).filter(any)))
    for ties, wrong_first in (("worst", 0), ("best", 1)):
        order = sorted(range(size), key=lambda i: (-scores[i], right[i] if wrong_first == 0 else not right[i]))
        expected = 1 + next(place for place, i in enumerate(order) if right[i])
        assert rank_of_best(scores[None], right[None], ties=ties).tolist() == [expected]


def test_any_number_of_captions_per_image_and_both_directions() -> None:
    sentence_images = np.array([0, 0, 0, 2, 2, 1])
    scores = np.array(
        [
            [0.1, 0.7, 0.2, 0.9, 0.3, 0.0],
            [0.5, 0.6, 0.1, 0.2, 0.3, 0.4],
            [0.0, 0.8, 0.3, 0.1, 0.9, 0.2],
        ]
    )
    assert image_to_sentence_ranks(scores, sentence_images).tolist() == [2, 3, 1]
    assert sentence_to_image_ranks(scores, sentence_images).tolist() == [2, 2, 2, 3, 1, 1]


def test_an_image_without_sentences_asks_nothing_but_can_be_found_wrongly() -> None:
    scores = np.array([[1.0, 0.0], [0.0, 0.5], [2.0, 0.1]])
    sentence_images = np.array([0, 1])
    assert image_to_sentence_ranks(scores, sentence_images).tolist() == [1, 1]
    assert sentence_to_image_ranks(scores, sentence_images).tolist() == [2, 1]


def test_recalls_in_percent_and_median_of_an_even_number() -> None:
    summary = recalls(np.array([1, 2, 6, 11]))
    assert summary.to_json() == {"R@1": 25.0, "R@5": 50.0, "R@10": 75.0, "median_rank": 4.0, "mean_rank": 5.0}
    assert Recalls.from_json(summary.to_json()) == summary
    assert Recalls.mean([summary, recalls(np.array([1, 1]))]) == Recalls(62.5, 75.0, 87.5, 2.5, 3.0)


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(0, 15))
def test_the_largest_are_the_first_of_a_stable_sort(values: list[int], count: int) -> None:
    scores = np.array(values, dtype=float)
    in_order = sorted(range(len(values)), key=lambda place: -values[place])
    assert largest(scores, count).tolist() == in_order[:count]
    if count and len(values):
        rows = largest_of_rows(np.stack([scores, -scores]), count)
        assert scores[rows[0]].tolist() == sorted(values, reverse=True)[:count]
        assert scores[rows[1]].tolist() == sorted(values)[:count]


def test_refusals() -> None:
    with pytest.raises(ValueError, match="no right answer"):
        rank_of_best(np.zeros((1, 2)), np.zeros((1, 2), dtype=bool))
    with pytest.raises(ValueError, match="not a number"):
        rank_of_best(np.array([[np.nan, 1.0]]), np.array([[True, False]]))
    with pytest.raises(ValueError, match="at least one query"):
        recall_at_k(np.array([]), 1)
    with pytest.raises(ValueError, match="at least 1"):
        recall_at_k(np.array([1]), 0)


def test_chance_level_of_1000_images_with_five_sentences_each() -> None:
    # papers.md A6: median 5000 (1 - 2^(-1/5)) = 647 and 500; R@10 of 1.0 and 1.0 percent
    generator = np.random.default_rng(0)
    scores = generator.random((1000, 5000), dtype=np.float32)
    sentence_images = np.repeat(np.arange(1000), 5)
    to_sentence = recalls(image_to_sentence_ranks(scores, sentence_images))
    to_image = recalls(sentence_to_image_ranks(scores, sentence_images))
    assert to_sentence.median_rank == pytest.approx(647, abs=75)  # standard error 22
    assert to_image.median_rank == pytest.approx(500.5, abs=25)  # standard error 7
    assert to_sentence.recall_10 == pytest.approx(1.0, abs=1.0)
    assert to_image.recall_10 == pytest.approx(1.0, abs=0.5)
