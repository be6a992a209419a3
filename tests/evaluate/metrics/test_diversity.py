"""Diversity by hand."""

import pytest

from mrnn.evaluate.metrics.diversity import diversity


def test_by_hand() -> None:
    captions = [["a", "dog", "runs"], ["a", "dog"], ["a", "dog", "runs"], []]
    found = diversity(captions, {("a", "dog"), ("a", "cat")})
    assert found.captions == 4
    assert found.distinct_1 == pytest.approx(3 / 8)  # a, dog, runs among eight words
    assert found.distinct_2 == pytest.approx(2 / 5)  # a-dog, dog-runs among 2 + 1 + 2
    assert found.vocabulary_used == 3
    assert found.different == 3
    assert found.mean_words == 2
    assert found.in_training == 1 / 4, "whole sentences only: 'a dog runs' does not count for 'a dog'"


def test_edges() -> None:
    assert diversity([[]]).distinct_1 == 0
    assert diversity([["a"]]).in_training is None
    with pytest.raises(ValueError, match="no captions"):
        diversity([])
