"""CIDEr-D of single sentences with many others, whose n-grams are counted once.

The similarity is what pycocoevalcap's scorer gives for one reference (Vedantam et al. 2015, arXiv 1411.5726, Eqs. 1 to
4, with the clipping and the penalty on lengths of CIDEr-D); it lies between 0 and 10. For n = 1 to 4, a_n is the vector
of the n-gram counts of the sentence a, each times log N - log(how many of N images have a sentence with the n-gram):

    similarity(a, b) = 10/4 sum_n min(a_n, b_n) . b_n / (|a_n| |b_n|) * exp(-(bigrams of a - bigrams of b)^2 / 72)

An n-gram that no sentence has weighs as much as one of a single image.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

ORDERS = 4
SIGMA = 6.0  # of the penalty on lengths
MISSING = -1  # number of an n-gram that no sentence has


class SentenceVectors:
    """The n-gram vectors of S sentences, and their similarity with other sentences."""

    def __init__(self, sentences: Sequence[Sequence[str]], images: np.ndarray) -> None:
        """
        sentences : words of each.
        images : (S,) int, number of the image of each.
        """
        self._words = {word: number for number, word in enumerate(dict.fromkeys(chain.from_iterable(sentences)))}
        lengths = np.fromiter(map(len, sentences), np.int64, len(sentences))
        words = np.fromiter((self._words[word] for each in sentences for word in each), np.int64, int(lengths.sum()))
        self._bigrams = np.maximum(lengths - 1, 0)
        self._orders: list[NgramVectors] = []
        # N-grams are numbered by their first n - 1 words and their last one, so none is ever held as text.
        owners, starts, prefixes = np.repeat(np.arange(len(sentences)), lengths), np.arange(len(words)), 0 * words
        for order in range(ORDERS):
            inside = starts + order < len(words)
            inside[inside] = owners[starts[inside]] == owners[starts[inside] + order]
            starts, prefixes = starts[inside], prefixes[inside]
            keys, prefixes = np.unique(prefixes * len(self._words) + words[starts + order], return_inverse=True)
            self._orders.append(NgramVectors.count(keys, prefixes, owners[starts], images))

    def similarities(self, candidates: Sequence[Sequence[str]], sentences: np.ndarray) -> np.ndarray:
        """The similarity of C candidates with n of the sentences: (C, n) float64, from 0 to 10.

        candidates : words of each. sentences : (n,) int, numbers of the sentences.
        """
        total = np.zeros((len(candidates), len(sentences)))
        numbers: dict[tuple[str, ...], int] = {(): 0}
        for order, vectors in enumerate(self._orders):
            counts = [
                Counter(tuple(words[i : i + order + 1]) for i in range(len(words) - order)) for words in candidates
            ]
            for ngram in chain.from_iterable(counts):
                word, prefix = self._words.get(ngram[-1], MISSING), numbers[ngram[:-1]]
                known = MISSING not in (word, prefix)
                numbers[ngram] = vectors.number(prefix * len(self._words) + word) if known else MISSING
            ngrams = sorted(set(chain.from_iterable(counts)), key=lambda ngram: (numbers[ngram], ngram))
            table = np.array([[each[ngram] for ngram in ngrams] for each in counts], dtype=np.float64)
            total += vectors.cosines(table, np.array([numbers[each] for each in ngrams], dtype=np.int64), sentences)
        own = np.array([max(len(words) - 1, 0) for words in candidates])
        difference = own[:, None] - self._bigrams[sentences]
        return total * (10 / ORDERS) * np.exp(-np.square(difference) / (2 * SIGMA**2))


@dataclass(frozen=True)
class NgramVectors:
    """The weighted counts of the n-grams of one length in S sentences, without the zeros.

    keys : (G,) int64, rising: by what an n-gram is found.
    weights : (G + 1,), log N - log(images that have the n-gram); the last one is of n-grams that no sentence has.
    starts : (S + 1,) int64, where the entries of each sentence start.
    numbers : (E,) int64, the n-gram of each entry.
    values : (E,), its count in the sentence times its weight.
    norms : (S,), length of each sentence's vector.
    """

    keys: np.ndarray
    weights: np.ndarray
    starts: np.ndarray
    numbers: np.ndarray
    values: np.ndarray
    norms: np.ndarray

    @classmethod
    def count(cls, keys: np.ndarray, numbers: np.ndarray, owners: np.ndarray, images: np.ndarray) -> "NgramVectors":
        """The vectors of sentences.

        keys : see the class.
        numbers, owners : (n,) int64, of every n-gram of the sentences its number among `keys`, and its sentence.
        images : as in `SentenceVectors`.
        """
        size = max(1, len(keys))
        in_images = np.unique(images[owners] * size + numbers) % size
        frequency = np.bincount(in_images, minlength=len(keys))
        weights = np.log(len(np.unique(images))) - np.log(np.append(frequency, 1))
        entries, counts = np.unique(owners * size + numbers, return_counts=True)
        owners, numbers = np.divmod(entries, size)
        values = counts * weights[numbers]
        starts = np.searchsorted(owners, np.arange(len(images) + 1))
        norms = np.sqrt(np.bincount(owners, np.square(values), minlength=len(images)))
        return cls(keys, weights, starts, numbers, values, norms)

    def number(self, key: int) -> int:
        """The number of the n-gram with this key, or MISSING."""
        place = int(np.searchsorted(self.keys, key))
        return place if place < len(self.keys) and self.keys[place] == key else MISSING

    def cosines(self, counts: np.ndarray, numbers: np.ndarray, sentences: np.ndarray) -> np.ndarray:
        """min(a, b) . b / (|a| |b|) of C vectors a with those b of n sentences: (C, n); 0 where a vector is 0.

        counts : (C, U), how often each a has each of U different n-grams.
        numbers : (U,) int64, which n-grams these are, rising; MISSING may occur several times.
        sentences : (n,) int, numbers of the sentences.
        """
        vectors = counts * self.weights[numbers]  # MISSING is -1 and takes the last weight
        lengths = self.starts[sentences + 1] - self.starts[sentences]
        before = np.cumsum(lengths) - lengths
        entries = np.arange(int(lengths.sum())) + np.repeat(self.starts[sentences] - before, lengths)
        place = np.searchsorted(numbers, self.numbers[entries])
        shared = np.append(numbers, MISSING)[place] == self.numbers[entries]
        place, value, rows = (
            place[shared],
            self.values[entries[shared]],
            np.repeat(np.arange(len(lengths)), lengths)[shared],
        )
        products = np.minimum(vectors[:, place], value) * value
        sums = np.stack([np.bincount(rows, each, minlength=len(sentences)) for each in products])
        scale = np.sqrt(np.square(vectors).sum(1))[:, None] * self.norms[sentences]
        return np.divide(sums, scale, out=np.zeros(sums.shape), where=scale > 0)
