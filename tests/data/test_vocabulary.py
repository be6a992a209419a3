"""Words and their numbers."""

import pytest

from mrnn.data.vocabulary import BOUNDARY, BOUNDARY_ID, UNKNOWN, UNKNOWN_ID, Vocabulary, build_vocabulary

SENTENCES = [["a", "dog", "runs"], ["a", "cat", "runs"], ["a", "bird"], [BOUNDARY, BOUNDARY, BOUNDARY]]


def test_cutoff_and_order() -> None:
    assert build_vocabulary(SENTENCES, cutoff=2).words == (BOUNDARY, UNKNOWN, "a", "runs")
    assert build_vocabulary(SENTENCES, cutoff=1).words == (BOUNDARY, UNKNOWN, "a", "runs", "bird", "cat", "dog")
    assert build_vocabulary(SENTENCES[::-1], cutoff=1) == build_vocabulary(SENTENCES, cutoff=1)
    assert len(build_vocabulary([], cutoff=1)) == 2


def test_encode_and_decode() -> None:
    vocabulary = build_vocabulary(SENTENCES, cutoff=2)
    assert vocabulary.encode(["a", "dog", "runs"]) == [2, UNKNOWN_ID, 3]
    assert vocabulary.decode([2, UNKNOWN_ID, 3]) == ["a", UNKNOWN, "runs"]
    assert vocabulary.decode([2, 3, BOUNDARY_ID, 2]) == ["a", "runs"]
    assert vocabulary.decode([]) == []


@pytest.mark.parametrize("words", [(), ("a",), (UNKNOWN, BOUNDARY), (BOUNDARY, UNKNOWN, "a", "a")])
def test_vocabulary_of_another_form_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="vocabulary"):
        Vocabulary(words)
