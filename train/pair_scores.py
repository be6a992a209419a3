"""The scores of many images with many sentences by a model of two towers, tile after tile.

Per word and region this is one matrix product. The regions of all images come one region number after the other, each
with a running maximum (Eq. 8) or sum (Eq. 7) over what came before, so that no matrix is larger than a tile of some
words with some images and every operation runs along contiguous memory. Where an image has one region, the sum over
words commutes with Eq. 8, and the words of a sentence are added up before the product.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mrnn.train.features import RegionRows
from mrnn.train.models.two_towers import TwoTowers
from mrnn.train.pairs import packed_words
from mrnn.train.products import product
from mrnn.train.sentences import Sentences

WORDS, IMAGES = 1024, 512  # of a tile: 2 MB of products, which stay in a processor's second cache
BATCH = 256  # sentences, or images, whose vectors are computed at a time


@dataclass(frozen=True)
class WordVectors:
    """Vectors of the words of S sentences, one sentence after the other.

    vectors : (W, h). starts : (S + 1,) int64, where each sentence begins.
    """

    vectors: Tensor
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    def chosen(self, sentences: np.ndarray) -> "WordVectors":
        """Those of some sentences, (n,) int64 numbers."""
        lengths = np.diff(self.starts)[sentences]
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        rows = np.repeat(self.starts[sentences] - starts[:-1], lengths) + np.arange(starts[-1])
        return WordVectors(self.vectors[torch.from_numpy(rows).to(self.vectors.device)], starts)

    def sums(self) -> "WordVectors":
        """The sum of each sentence's vectors in their place."""
        lengths = torch.from_numpy(np.diff(self.starts)).to(self.vectors.device)
        return WordVectors(
            torch.segment_reduce(self.vectors, "sum", lengths=lengths, axis=0), np.arange(len(self.starts))
        )


@torch.no_grad()
def word_vectors(
    model: TwoTowers, sentences: Sentences, *, after_batch: Callable[[int], None] = lambda sentences: None
) -> WordVectors:
    """The vectors s_t of all words of some sentences, in evaluation mode, where the model's parameters lie."""
    device = model.feature_mean.device
    found = torch.empty(int(sentences.starts[-1]), model.config.joint, device=device)
    was_training = model.training
    model.eval()
    by_length = np.argsort(-sentences.lengths, kind="stable")
    for start in range(0, len(by_length), BATCH):
        numbers = by_length[start : start + BATCH]
        packed = packed_words(sentences, numbers, device=device)
        lengths = sentences.lengths[numbers]
        steps = np.arange(lengths[0])[:, None]
        rows = (sentences.starts[numbers] + steps)[steps < lengths]  # of each packed word among all words
        found[torch.from_numpy(rows).to(device)] = model.words(packed)[: len(rows)].to(found.dtype)
        after_batch(len(numbers))
    model.train(was_training)
    return WordVectors(found, sentences.starts)


@torch.no_grad()
def region_vectors(model: TwoTowers, features: RegionRows, images: np.ndarray) -> Tensor:
    """The vectors v_i of some images in evaluation mode: (R, n, h), region number first."""
    device, was_training = model.feature_mean.device, model.training
    model.eval()
    parts = [features.regions(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    found = torch.cat([model.regions(rows.to(device), valid.to(device)) for rows, valid in parts], dim=1)
    model.train(was_training)
    return found


@torch.no_grad()
def pair_scores(words: WordVectors, regions: Tensor, *, score: str) -> Tensor:
    """Scores of S sentences with n images: (S, n) on the device of the vectors.

    words : the sentences' vectors. regions : (R, n, h), the images'. score : 'max' (Eq. 8) or 'sum' (Eq. 7).
    A score does not depend on what else is scored, up to float32 rounding.
    """
    if len(regions) == 1 and score == "max":
        words = words.sums()
    found = torch.empty(len(words), regions.shape[1], device=regions.device)
    for begin, end in sentence_tiles(words.starts):
        rows = words.vectors[words.starts[begin] : words.starts[end]]
        lengths = torch.from_numpy(np.diff(words.starts[begin : end + 1])).to(rows.device)
        for left in range(0, regions.shape[1], IMAGES):
            tile = best_products(rows, regions[:, left : left + IMAGES], score=score)
            found[begin:end, left : left + IMAGES] = torch.segment_reduce(tile, "sum", lengths=lengths, axis=0)
    return found


def best_products(rows: Tensor, regions: Tensor, *, score: str) -> Tensor:
    """What each word contributes to the score of each image: (w, h) and (R, n, h) -> (w, n)."""
    best: Tensor | None = None
    for region in regions:
        products = product(rows, region)
        if score == "sum":
            products.relu_()
        if best is None:
            best = products
        elif score == "max":
            torch.maximum(best, products, out=best)
        else:
            best += products
    if best is None:
        raise ValueError("an image needs at least one region")
    return best


def sentence_tiles(starts: np.ndarray) -> list[tuple[int, int]]:
    """Begin and end of stretches of sentences with at most WORDS words, or of single sentences."""
    tiles, begin = [], 0
    while begin < len(starts) - 1:
        end = int(np.searchsorted(starts, starts[begin] + WORDS, side="right")) - 1
        end = max(end, begin + 1)
        tiles.append((begin, end))
        begin = end
    return tiles
