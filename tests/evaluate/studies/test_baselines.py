"""Baselines against brute force, simulation and hand-made cases."""

import numpy as np
import pytest

from mrnn.evaluate.retrieval.ranking import recalls
from mrnn.evaluate.studies.baselines import (
    chance_retrieval,
    consensus_captions,
    most_frequent_caption,
    nearest,
    random_captions,
)
from tests.evaluate.retrieval.plain_ranks import image_to_sentence_ranks, sentence_to_image_ranks


def test_nearest_equals_the_cosine_around_the_mean() -> None:
    generator = np.random.default_rng(0)
    candidates = generator.standard_normal((30, 5)).astype(np.float32) + 8  # without the mean all look alike
    queries = generator.standard_normal((1200, 5)).astype(np.float32) + 8  # more than one chunk
    found = nearest(queries, candidates)
    mean = candidates.astype(np.float64).mean(axis=0)
    for query, place in zip(queries[:50], found[:50], strict=True):
        cosines = [
            (query - mean) @ (c - mean) / np.linalg.norm(query - mean) / np.linalg.norm(c - mean) for c in candidates
        ]
        assert place == np.argmax(cosines)
    assert (nearest(candidates, candidates) == np.arange(30)).all()
    assert (nearest(np.ones((2, 3)), np.ones((4, 3))) == 0).all(), "nothing to tell them apart by: the first"


def test_the_consensus_is_what_the_others_say() -> None:
    dogs = [
        "a brown dog runs in snow",
        "the brown dog runs in deep snow",
        "happy animal",
        "a brown dog runs fast in snow",
    ]
    boats = ["a boat", "two men row a small boat on water", "men row a boat on the water", "somebody at sea"]
    captions = [[text.split() for text in texts] for texts in (dogs, boats, ["only one"])]
    chosen = [" ".join(words) for words in consensus_captions(captions)]
    assert chosen[0] in (dogs[0], dogs[3])
    assert chosen[1] in (boats[1], boats[2])
    assert chosen[2] == "only one"
    assert consensus_captions([[["a"]], [["b"]]]) == [["a"], ["b"]]


def test_frequent_and_random_captions() -> None:
    training = [["a", "cat"], ["a", "dog"], ["a", "dog"], ["a", "cat"], ["snow"]]
    assert most_frequent_caption(training) == (("a", "cat"), 2)
    drawn = random_captions(training, 1000, generator=np.random.default_rng(3))
    assert drawn == random_captions(training, 1000, generator=np.random.default_rng(3))
    assert drawn != random_captions(training, 1000, generator=np.random.default_rng(4))
    assert 130 < sum(words == ["snow"] for words in drawn) < 270


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
        for name, tolerance in (("R@1", 1.0), ("R@5", 1.0), ("R@10", 1.0), ("median_rank", 1.0)):
            assert expected[name] == pytest.approx(measured[name], abs=tolerance), name


def test_chance_on_flickr8k() -> None:
    """1,000 images of five sentences: 5000 (1 - 2^(-1/5)) = 647; the papers' random rows say 635 and 537."""
    chance = chance_retrieval([5] * 1000)
    assert chance["image_to_sentence"]["R@1"] == pytest.approx(0.1)
    assert chance["image_to_sentence"]["R@10"] == pytest.approx(1.0, abs=0.01)
    assert chance["image_to_sentence"]["median_rank"] == 647
    assert chance["sentence_to_image"] == pytest.approx({"R@1": 0.1, "R@5": 0.5, "R@10": 1.0, "median_rank": 500})
    assert chance_retrieval([2])["image_to_sentence"]["R@10"] == 100
