"""Captions that take no model, against brute force and hand-made cases."""

import numpy as np

from mrnn.evaluate.studies.baseline_captions import (
    consensus_captions,
    most_frequent_caption,
    nearest,
    random_captions,
)


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
