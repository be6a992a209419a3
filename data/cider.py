"""CIDEr-D (Vedantam et al. 2015, arXiv 1411.5726), of captions with their references and of any pairs of sentences.

For n = 1 to 4, a_n is the vector of the n-gram counts of the sentence a, each times log N - log(how many of N images
have a sentence with the n-gram) (Eq. 1). The similarity of a caption a with a sentence b is that of CIDEr-D with one
reference (Eqs. 2 to 4, with clipped counts and a penalty on lengths l, sigma 6); it lies between 0 and 10:

    similarity(a, b) = 10/4 sum_n min(a_n, b_n) . b_n / (|a_n| |b_n|) * exp(-(l_a - l_b)^2 / (2 sigma^2))

The CIDEr-D of a caption is the mean of its similarities with its references. Where the paper is silent, this is what
coco-caption does: a length is the number of bigrams, and an n-gram that no image has weighs as much as one of a single
image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from mrnn.data.ngrams import KEY, ORDERS, NgramCounts, NgramIndex, index_ngrams, look_up

SIGMA = 6.0  # of the penalty on lengths


@dataclass(frozen=True)
class DocumentFrequencies:
    """In how many of N images each n-gram occurs.

    images : N
    index : the n-grams
    weights : by length of n-gram, log N - log(images that have it); one more, the last, of those that no image has
    """

    images: int
    index: NgramIndex
    weights: list[np.ndarray]

    @classmethod
    def of(cls, index: NgramIndex, counts: Sequence[NgramCounts], images: np.ndarray) -> "DocumentFrequencies":
        """From the sentences of some images.

        index, counts : what `index_ngrams` returns for the sentences
        images : (S,) int, number of the image of each sentence
        """
        total = len(np.unique(images))
        weights = []
        for order, each in enumerate(counts):
            frequency = np.bincount(np.unique(each.keys(images)) % KEY, minlength=index.size(order))
            weights.append(np.log(total) - np.log(np.append(frequency, 1)))
        return cls(total, index, weights)

    @classmethod
    def count(cls, references: Sequence[Sequence[Sequence[str]]]) -> "DocumentFrequencies":
        """From the sentences of each image, as words."""
        return cls.of(*index_ngrams(list(chain.from_iterable(references))), _owners(references))


@dataclass(frozen=True)
class _Vectors:
    """The vectors of S sentences, for n-grams of one length, without zero counts.

    keys : (E,) int64, rising, see `NgramCounts.keys`
    values : (E,) count times weight
    starts : (S + 1,) int64, where the entries of each sentence start
    norms : (S,) length of each vector
    """

    keys: np.ndarray
    values: np.ndarray
    starts: np.ndarray
    norms: np.ndarray

    @classmethod
    def weigh(cls, counts: NgramCounts, weights: np.ndarray, sentences: int) -> "_Vectors":
        values = counts.counts * weights[np.minimum(counts.numbers, len(weights) - 1)]
        norms = np.sqrt(np.bincount(counts.owners, np.square(values), minlength=sentences))
        return cls(counts.keys(), values, np.searchsorted(counts.owners, np.arange(sentences + 1)), norms)


class SentenceVectors:
    """The n-gram vectors of S sentences, by which they are compared with each other or with other sentences."""

    def __init__(
        self, sentences: Sequence[Sequence[str]], counts: Sequence[NgramCounts], frequencies: DocumentFrequencies
    ) -> None:
        """
        sentences : words of each
        counts : of their n-grams, numbered by the index of `frequencies`
        """
        self._frequencies = frequencies
        self._lengths = np.array([max(len(words) - 1, 0) for words in sentences])
        self._orders = [
            _Vectors.weigh(each, weights, len(sentences))
            for each, weights in zip(counts, frequencies.weights, strict=True)
        ]

    @classmethod
    def of_images(cls, sentences: Sequence[Sequence[str]], images: np.ndarray) -> "SentenceVectors":
        """With the sentences' own document frequencies; images : (S,) int, number of the image of each."""
        index, counts = index_ngrams(sentences)
        return cls(sentences, counts, DocumentFrequencies.of(index, counts, images))

    def similarities(self, candidates: Sequence[Sequence[str]], sentences: np.ndarray) -> np.ndarray:
        """The similarity of C candidates with n of the sentences: (C, n) float64, from 0 to 10.

        candidates : words of each
        sentences : (n,) int, numbers of the sentences
        """
        said = SentenceVectors(candidates, self._frequencies.index.count(candidates), self._frequencies)
        rows = np.repeat(np.arange(len(candidates)), len(sentences))
        pairs = said.pairs(rows, self, np.tile(sentences, len(candidates)))
        return pairs.reshape(len(candidates), len(sentences))

    def pairs(self, candidates: np.ndarray, other: "SentenceVectors", sentences: np.ndarray) -> np.ndarray:
        """The similarity of P pairs: (P,) float64.

        candidates : (P,) int, numbers of sentences of this object
        other : this object, or one in whose index all of its own n-grams are
        sentences : (P,) int, numbers of sentences of `other`
        """
        total = np.zeros(len(candidates))
        for said, known in zip(self._orders, other._orders, strict=True):
            sizes = known.starts[sentences + 1] - known.starts[sentences]
            pair = np.repeat(np.arange(len(sentences)), sizes)
            entries = np.arange(len(pair)) + np.repeat(known.starts[sentences] - (np.cumsum(sizes) - sizes), sizes)
            wanted = candidates[pair] * KEY + known.keys[entries] % KEY
            values = known.values[entries]
            products = np.minimum(look_up(said.keys, said.values, wanted), values) * values
            sums = np.bincount(pair, products, minlength=len(sentences))
            scale = said.norms[candidates] * known.norms[sentences]
            total += np.divide(sums, scale, out=np.zeros(len(sums)), where=scale > 0)
        difference = self._lengths[candidates] - other._lengths[sentences]
        return total * (10 / ORDERS) * np.exp(-np.square(difference) / (2 * SIGMA**2))


def cider_d(
    candidates: Sequence[Sequence[str]],
    references: Sequence[Sequence[Sequence[str]]],
    frequencies: DocumentFrequencies | None = None,
) -> np.ndarray:
    """CIDEr-D of each candidate: (N,) float64, from 0 to 10.

    candidates : N captions as words
    references : of each, sentences as words, at least one
    frequencies : None for those of the references
    """
    if frequencies is None:
        frequencies = DocumentFrequencies.count(references)
    sentences = [*candidates, *chain.from_iterable(references)]
    vectors = SentenceVectors(sentences, frequencies.index.count(sentences), frequencies)
    owners = _owners(references)
    each = vectors.pairs(owners, vectors, np.arange(len(candidates), len(sentences)))
    return np.bincount(owners, each, minlength=len(candidates)) / [len(own) for own in references]


def _owners(references: Sequence[Sequence[Sequence[str]]]) -> np.ndarray:
    """(S,) the image of each sentence."""
    return np.repeat(np.arange(len(references)), [len(own) for own in references])
