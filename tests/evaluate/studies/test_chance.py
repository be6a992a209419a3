"""Expected retrieval of a random ranking, against a simulation and the papers' figures."""

import numpy as np
import pytest

from mrnn.evaluate.retrieval.ranking import recalls
from mrnn.evaluate.studies.chance import chance_retrieval
from tests.evaluate.retrieval.plain_ranks import image_to_sentence_ranks, sentence_to_image_ranks


def test_chance_equals_a_simulation() -> None:
    sentences = [1, 5, 3, 5, 2, 5, 4, 5, 5, 1, 5, 5]
    owner = np.repeat(np.arange(len(sentences)), sentences)
    generator = np.random.default_rng(0)
    ranks: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for _ in range(2000):
        scores = generator.random((len(sentences), len(owner)))
        ranks[0].append(image_to_sentence_ranks(scores, owner))
        ranks[1].append(sentence_to_image_ranks(scores, owner))
    for expected, simulated in zip(chance_retrieval(sentences).values(), ranks, strict=True):
        measured = recalls(np.concatenate(simulated)).to_json()
        for name, tolerance in (("R@1", 1.0), ("R@5", 1.0), ("R@10", 1.0), ("median_rank", 1.0), ("mean_rank", 1.0)):
            assert expected[name] == pytest.approx(measured[name], abs=tolerance), name


def test_chance_on_flickr8k() -> None:
    """1,000 images of five sentences: 5000 (1 - 2^(-1/5)) = 647; the papers' random rows say 635 and 537."""
    chance = chance_retrieval([5] * 1000)
    assert chance["image_to_sentence"]["R@1"] == pytest.approx(0.1)
    assert chance["image_to_sentence"]["R@10"] == pytest.approx(1.0, abs=0.01)
    assert chance["image_to_sentence"]["median_rank"] == 647
    assert chance["sentence_to_image"] == pytest.approx(
        {"R@1": 0.1, "R@5": 0.5, "R@10": 1.0, "median_rank": 500, "mean_rank": 500.5}
    )
    assert chance_retrieval([2])["image_to_sentence"]["R@10"] == 100
