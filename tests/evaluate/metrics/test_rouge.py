"""ROUGE-L by hand, and the longest common subsequence against the plain dynamic programme."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnn.evaluate.metrics.rouge import common_words, rouge_l_score

SENTENCES = st.lists(st.sampled_from("abcde"), max_size=80)


def plain(one: list[str], other: list[str]) -> int:
    """The longest common subsequence by the textbook's table."""
    row = [0] * (len(other) + 1)
    for word in one:
        above, row = row, [0]
        for place, known in enumerate(other):
            row.append(above[place] + 1 if word == known else max(above[place + 1], row[place]))
    return row[-1]


@settings(max_examples=100, deadline=None)
@given(SENTENCES, st.lists(SENTENCES, max_size=3))
def test_the_longest_common_subsequence(candidate: list[str], references: list[list[str]]) -> None:
    assert common_words(candidate, references) == [plain(candidate, each) for each in references]


def test_by_hand() -> None:
    """Precision 3/4 from the first reference, recall 2/2 from the second: coco-caption takes the best of each."""
    candidate, references = ["a", "dog", "runs", "fast"], [["a", "big", "dog", "never", "runs"], ["dog", "runs"]]
    assert common_words(candidate, references) == [3, 2]
    precision, recall = 3 / 4, 1.0
    expected = (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)
    assert rouge_l_score(candidate, references) == pytest.approx(expected)
    assert rouge_l_score(candidate, [candidate]) == pytest.approx(1)
    assert rouge_l_score([], references) == rouge_l_score(["cat"], references) == 0
