"""N-grams as numbers: their counts are those of plain counters."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mrnn.data.ngrams import ORDERS, index_ngrams, look_up

SENTENCES = st.lists(st.lists(st.sampled_from("abcde"), max_size=8), max_size=6)


@settings(max_examples=60, deadline=None)
@given(SENTENCES, SENTENCES)
def test_counts_are_those_of_a_counter(known: list[list[str]], others: list[list[str]]) -> None:
    """Up to the numbers: each n-gram is a column of counts, one for each sentence, marked if the index has it."""
    index, counts = index_ngrams(known)
    sentences = [*known, *others]
    for order, (found, first) in enumerate(zip(index.count(sentences), counts, strict=True)):
        plain = [Counter(tuple(each[i : i + order + 1]) for i in range(len(each) - order)) for each in sentences]
        ngrams = set().union(*plain)
        inside = set().union(*plain[: len(known)])
        assert index.size(order) == len(inside)
        expected = sorted((ngram in inside, *(each[ngram] for each in plain)) for ngram in ngrams)
        table = np.zeros((len(ngrams), len(sentences)), dtype=np.int64)
        table[found.numbers, found.owners] = found.counts
        assert sorted((number < len(inside), *row) for number, row in enumerate(table.tolist())) == expected
        same = len(first.owners)
        for name in ("owners", "numbers", "counts"):
            assert (getattr(found, name)[:same] == getattr(first, name)).all(), "known sentences get the same numbers"
    assert len(counts) == ORDERS


def test_keys_of_sentences_and_of_groups_of_them() -> None:
    _, (words, *_) = index_ngrams([["a", "b"], ["a"], ["b"]])
    assert len(set(words.keys().tolist())) == 4
    assert len(set(words.keys(np.array([0, 0, 1])).tolist())) == 3


def test_looking_up_keys() -> None:
    keys, values = np.array([2, 5]), np.array([7, 8])
    assert look_up(keys, values, np.array([5, 1, 2, 9])).tolist() == [8, 0, 7, 0]
    assert look_up(keys[:0], values[:0], np.array([5])).tolist() == [0]
