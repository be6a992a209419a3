"""Captions as word numbers, for training, perplexity and retrieval."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from mrnn.data.cache import FeatureCache
from mrnn.data.tokenize import tokenize
from mrnn.data.vocabulary import Vocabulary


@dataclass(frozen=True)
class Sentences:
    """Tokenised sentences of some images.

    tokens : (sum of lengths,) int32, word numbers of all sentences one after another, without START and END.
    starts : (S + 1,) int64, where each sentence starts in `tokens`; the last entry is their number.
    image : (S,) int64, number of the image of each sentence in the cache.
    skipped : number of sentences that were left out because they contain no word.
    """

    tokens: np.ndarray
    starts: np.ndarray
    image: np.ndarray
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.image)

    @property
    def lengths(self) -> np.ndarray:
        """(S,) int64, number of words of each sentence, without END."""
        return np.diff(self.starts)

    @property
    def targets(self) -> int:
        """Number of words to predict: the words of the sentences, and END once per sentence."""
        return len(self.tokens) + len(self)


def tokenized_sentences(cache: FeatureCache, images: Sequence[int] | np.ndarray) -> tuple[list[list[str]], np.ndarray]:
    """The sentences of some images of a cache as words, empty ones included, and the image number of each."""
    pairs = [(tokenize(sentence), int(i)) for i in images for sentence in cache.images[i].sentences]
    return [words for words, _ in pairs], np.array([i for _, i in pairs], dtype=np.int64)


def encode_sentences(words: Sequence[Sequence[str]], image: np.ndarray, vocabulary: Vocabulary) -> Sentences:
    """Encode sentences as word numbers; sentences without a word are skipped and counted.

    words : the words of each sentence.
    image : (S,) int64, image number of each sentence.
    vocabulary : words by number.
    """
    kept = np.array([bool(sentence) for sentence in words], dtype=bool)
    encoded = [vocabulary.encode(sentence) for sentence in words if sentence]
    lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
    return Sentences(
        tokens=np.fromiter(chain.from_iterable(encoded), dtype=np.int32, count=int(lengths.sum())),
        starts=np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)]),
        image=image[kept],
        skipped=int((~kept).sum()),
    )


def sentences_of(cache: FeatureCache, split: str, vocabulary: Vocabulary) -> Sentences:
    """The sentences of the images of a split that have features."""
    return encode_sentences(*tokenized_sentences(cache, cache.done(split)), vocabulary)
