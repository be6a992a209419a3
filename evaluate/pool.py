"""The images of a pool with their sentences, listed and tokenised once; everything else joins to them by id."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mrnn.data.cache import FeatureCache
from mrnn.data.tokenize import tokenize


@dataclass(frozen=True)
class PoolSentence:
    """A sentence with at least one word.

    image_id : id of its image
    number : its place among all sentences of the image, from 0; sentences without a word count, too
    text : as the data set has it
    words : its tokens, those that the models learn
    """

    image_id: str
    number: int
    text: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Pool:
    """Images and those of their sentences that have a word.

    images : (N,) int64, numbers in the cache
    ids : (N,) the data set's ids of the images
    sentences : (S,) in the order of the images
    owners : (S,) int64, row of each sentence's image
    """

    images: np.ndarray
    ids: tuple[str, ...]
    sentences: tuple[PoolSentence, ...]
    owners: np.ndarray

    def rows_with_sentences(self) -> np.ndarray:
        """Rows, in order, of the images that have a sentence."""
        return np.unique(self.owners)

    def part(self, rows: np.ndarray) -> "Pool":
        """The pool of some of the images, given by their rows in increasing order."""
        kept = np.isin(self.owners, rows)
        return Pool(
            self.images[rows],
            tuple(self.ids[row] for row in rows.tolist()),
            tuple(sentence for sentence, keep in zip(self.sentences, kept, strict=True) if keep),
            np.searchsorted(rows, self.owners[kept]),
        )

    def references(self) -> dict[str, list[list[str]]]:
        """The sentences as words by image id; images without a sentence are left out."""
        found: dict[str, list[list[str]]] = {}
        for sentence in self.sentences:
            found.setdefault(sentence.image_id, []).append(list(sentence.words))
        return found


def build_pool(cache: FeatureCache, images: Sequence[int] | np.ndarray) -> Pool:
    """List the sentences of some images of a cache, given by their numbers."""
    sentences, owners = [], []
    for row, image in enumerate(cache.images[i] for i in images):
        for number, text in enumerate(image.sentences):
            words = tuple(tokenize(text))
            if words:
                sentences.append(PoolSentence(image.id, number, text, words))
                owners.append(row)
    ids = tuple(cache.images[i].id for i in images)
    return Pool(np.asarray(images, dtype=np.int64), ids, tuple(sentences), np.array(owners, dtype=np.int64))
