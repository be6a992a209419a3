"""N-grams of one to four words, as numbers and counted sentence by sentence: what BLEU and CIDEr are computed from.

An n-gram is found by the number of its first n - 1 words and the number of its last word, so none is held as text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

ORDERS = 4  # lengths of n-grams that are counted; place 0 of a list by length belongs to single words
KEY = 2**31  # two numbers a, b below this make one key, a * KEY + b


@dataclass(frozen=True)
class NgramCounts:
    """The n-grams of one length in S sentences, without zeros: E entries in the order of sentences and numbers.

    owners : (E,) int64, the sentence of each entry
    numbers : (E,) int64, its n-gram
    counts : (E,) int64, how often the sentence has it
    """

    owners: np.ndarray
    numbers: np.ndarray
    counts: np.ndarray

    def keys(self, groups: np.ndarray | None = None) -> np.ndarray:
        """(E,) keys of (sentence, n-gram), or with groups (S,) int, one of each sentence, of (group, n-gram)."""
        return (self.owners if groups is None else groups[self.owners]) * KEY + self.numbers


class NgramIndex:
    """The numbers of the n-grams of some sentences, for each length from 0 on. Made by `index_ngrams`."""

    def __init__(self) -> None:
        self._words: dict[str, int] = {}
        self._keys: list[np.ndarray] = []  # by length, rising: an n-gram's number is the place of its key

    def size(self, order: int) -> int:
        """How many n-grams of order + 1 words have a number."""
        return len(self._keys[order])

    def count(self, sentences: Sequence[Sequence[str]]) -> list[NgramCounts]:
        """The n-grams of other sentences, by length.

        N-grams that the index lacks get numbers from `size` on, which hold for this call only.
        """
        return self._count(sentences, learn=False)

    def _count(self, sentences: Sequence[Sequence[str]], *, learn: bool) -> list[NgramCounts]:
        lengths = np.fromiter(map(len, sentences), np.int64, len(sentences))
        numbered = self._words if learn else dict(self._words)
        each = (numbered.setdefault(word, len(numbered)) for word in chain.from_iterable(sentences))
        words = np.fromiter(each, np.int64, int(lengths.sum()))
        owners = np.repeat(np.arange(len(sentences)), lengths)
        found: list[NgramCounts] = []
        starts, numbers = np.arange(len(words)), np.zeros(len(words), dtype=np.int64)
        for order in range(ORDERS):
            inside = starts + order < len(words)
            inside[inside] = owners[starts[inside]] == owners[starts[inside] + order]
            starts = starts[inside]
            keys = numbers[inside] * KEY + words[starts + order]
            if learn:
                self._keys.append(np.unique(keys))
            numbers = self._numbers(keys, order)
            entries, counts = np.unique(owners[starts] * KEY + numbers, return_counts=True)
            found.append(NgramCounts(*np.divmod(entries, KEY), counts))
        return found

    def _numbers(self, keys: np.ndarray, order: int) -> np.ndarray:
        known = self._keys[order]
        numbers = np.searchsorted(known, keys)
        new = np.append(known, -1)[numbers] != keys
        numbers[new] = len(known) + np.unique(keys[new], return_inverse=True)[1]
        return numbers


def index_ngrams(sentences: Sequence[Sequence[str]]) -> tuple[NgramIndex, list[NgramCounts]]:
    """Number all n-grams of sentences, given as words; the counts of these sentences, by length of n-gram."""
    index = NgramIndex()
    return index, index._count(sentences, learn=True)


def look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each wanted key, 0 where there is none: (E,) rising keys, (E,) values, (W,) keys -> (W,)."""
    places = np.searchsorted(keys, wanted)
    return np.where(np.append(keys, -1)[places] == wanted, np.append(values, 0)[places], 0)
