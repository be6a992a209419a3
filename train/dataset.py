"""The captions of a feature cache as a Dataset of torch, for training loops of one's own.

mrnn's own training does not use it: packed batches of many sentences (mrnn.train.batches) are several times faster than
items that are collated one by one.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mrnn.data.cache import FeatureCache, open_cache
from mrnn.data.errors import CacheError
from mrnn.data.vocabulary import BOUNDARY_ID, Vocabulary, build_vocabulary
from mrnn.train.features import valid_rows
from mrnn.train.sentences import Sentences, encode_sentences, tokenized_sentences
from mrnn.train.settings import TrainSettings


class CaptionItem(NamedTuple):
    """A sentence with its image.

    features : float32, (D,), or in a cache with regions (R, D), zeros in rows without a region.
    words : (T,) int64, word numbers without START and END.
    image_id : of the image. sentence : the raw text.
    """

    features: Tensor
    words: Tensor
    image_id: str
    sentence: str


class CaptionItems(NamedTuple):
    """B items side by side, by `CaptionDataset.collate`.

    features : (B, D) or (B, R, D) float32.
    words : (B, T) int64 for the longest sentence's T words; shorter ones are followed by END, which is number 0.
    lengths : (B,) int64, words of each sentence.
    image_ids, sentences : of each item.
    """

    features: Tensor
    words: Tensor
    lengths: Tensor
    image_ids: list[str]
    sentences: list[str]


class CaptionDataset(Dataset[CaptionItem]):
    """The sentences of a split, in the order of the cache: one item for each that has a word.

    A process that is forked shares the mapped features. Pickled, as for a process that is spawned, a dataset is the
    path of its cache, the name of the split and the vocabulary; it opens the cache again when it is used.
    """

    def __init__(
        self,
        cache: str | Path | FeatureCache,
        split: str = "train",
        *,
        vocabulary: Vocabulary | None = None,
        allow_partial: bool = False,
    ) -> None:
        """
        cache : a feature cache, its file or opened.
        split : 'train', 'val' or 'test'.
        vocabulary : words by number, of a model for instance (`open_run(...).trained.vocabulary`); None for the one
            that train-mrnn makes of this cache by default.
        allow_partial : whether a cache with pending images is accepted.

        Raises CacheError if the cache cannot be opened, or the split has no sentence with a word.
        """
        opened = cache if isinstance(cache, FeatureCache) else open_cache(cache, allow_partial=allow_partial)
        self.split = split
        self.vocabulary = vocabulary or _words_of(opened)
        self._path, self._allow_partial, self._cache = opened.path.resolve(), allow_partial, opened
        if not len(self):
            raise CacheError(f"{opened.path} has no sentence of an image with features in the split {split!r}")

    @cached_property
    def _cache(self) -> FeatureCache:
        return open_cache(self._path, allow_partial=self._allow_partial)

    @cached_property
    def _sentences(self) -> tuple[Sentences, list[str]]:
        """The sentences that have a word, as numbers and as text."""
        images = self._cache.done(self.split)
        words, image = tokenized_sentences(self._cache, images)
        texts = [text for number in images for text in self._cache.images[number].sentences]
        kept = [text for text, found in zip(texts, words, strict=True) if found]
        return encode_sentences(words, image, self.vocabulary), kept

    @cached_property
    def _valid(self) -> np.ndarray:
        return valid_rows(self._cache)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "split": self.split,
            "words": self.vocabulary.words,
            "_path": self._path,
            "_allow_partial": self._allow_partial,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.vocabulary = Vocabulary(state.pop("words"))
        self.__dict__.update(state)

    def __len__(self) -> int:
        return len(self._sentences[0])

    def __getitem__(self, number: int) -> CaptionItem:
        sentences, texts = self._sentences
        if not -len(sentences) <= number < len(sentences):
            raise IndexError(f"there are {len(sentences)} sentences, and no number {number}")
        number %= len(sentences)
        image = int(sentences.image[number])
        rows = self._cache.read(np.array([image])).astype(np.float32)
        rows[~self._valid[image]] = 0
        words = sentences.tokens[sentences.starts[number] : sentences.starts[number + 1]].astype(np.int64)
        return CaptionItem(
            torch.from_numpy(rows if self._cache.rows_per_image > 1 else rows[0]),
            torch.from_numpy(words),
            self._cache.images[image].id,
            texts[number],
        )

    @staticmethod
    def collate(items: Sequence[CaptionItem]) -> CaptionItems:
        """Put items side by side: the `collate_fn` of a DataLoader."""
        return CaptionItems(
            torch.stack([item.features for item in items]),
            torch.nn.utils.rnn.pad_sequence(
                [item.words for item in items], batch_first=True, padding_value=float(BOUNDARY_ID)
            ),
            torch.tensor([len(item.words) for item in items]),
            [item.image_id for item in items],
            [item.sentence for item in items],
        )


def _words_of(cache: FeatureCache) -> Vocabulary:
    """The vocabulary that train-mrnn makes by default."""
    words, _ = tokenized_sentences(cache, cache.done("train"))
    return build_vocabulary(words, cutoff=TrainSettings().cutoff)
