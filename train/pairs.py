"""Batches of matching pairs: sentences packed step by step without signs, each with the regions of its own picture.

A batch never holds two sentences of one picture: the second would be a false negative of the first (DVSA leaves this
open; see C3 of its re-implementation notes).
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from mrnn.train.batches import TOKEN_ROWS, Batch
from mrnn.train.features import Features
from mrnn.train.sentences import Sentences

NO_SENTENCE = -1  # of a row that is there for the shape only


@dataclass(frozen=True, kw_only=True)
class PackedWords:
    """The words of B sentences in order of falling length: all first words, then all second words, and so on.

    tokens : (P,) int64. sizes : rows of each step; they come first, then whatever rounds P up.
    mirrored : (P,) int64, the row of the word at the same distance from the other end of the sentence.
    sentence : (P,) int64, which of the B sentences a row belongs to, or NO_SENTENCE.
    lengths : (B,) int64, words of each sentence.
    """

    tokens: Tensor
    sizes: list[int]
    mirrored: Tensor
    sentence: Tensor
    lengths: Tensor

    def sentence_lengths(self) -> Tensor:
        """Words of the sentence that a row belongs to: (P,) int64, 1 for a row of no sentence."""
        return self.lengths[self.sentence.clamp(min=0)].masked_fill(self.sentence == NO_SENTENCE, 1)


@dataclass(frozen=True, kw_only=True)
class MatchingBatch(Batch, PackedWords):
    """B pairs: sentence k belongs to image k and to no other; `count` is their number.

    features : (B, R, D) float32. valid : (B, R) bool, which rows hold a region.
    hardest : whether only the hardest false pair of each image and sentence counts.
    """

    features: Tensor
    valid: Tensor
    hardest: bool

    def shape(self) -> Hashable:
        """See `Batch`."""
        return super().shape(), self.hardest


def pack_words(
    sentences: Sentences, numbers: np.ndarray, *, rectangular: bool = False, rounded: bool = True
) -> tuple[np.ndarray, dict[str, np.ndarray | list[int]]]:
    """The order in which sentences of these numbers are packed, and the fields of their `PackedWords` as arrays.

    rectangular : every step has a row for every sentence, so that batches of as many sentences, of which the longest
    are as long, have one shape. rounded : P is rounded up, so that few shapes occur.
    """
    order = np.argsort(-sentences.lengths[numbers], kind="stable")
    numbers = numbers[order]
    lengths = sentences.lengths[numbers]
    steps = np.arange(lengths[0])[:, None]
    present = steps < lengths
    cells = np.ones_like(present) if rectangular else present
    row = np.cumsum(cells).reshape(cells.shape) - 1  # of each word in the packed order
    column = np.broadcast_to(np.arange(len(numbers)), cells.shape)
    mirrored = np.where(present, row[np.where(present, lengths - 1 - steps, 0), column], row)
    tokens = sentences.tokens[np.where(present, sentences.starts[numbers] + steps, 0)]
    more = -int(cells.sum()) % TOKEN_ROWS if rounded and not rectangular else 0
    rows = int(cells.sum())
    return order, {
        "tokens": np.pad(tokens[cells].astype(np.int64), (0, more)),
        "sizes": cells.sum(axis=1).tolist(),
        "mirrored": np.concatenate([mirrored[cells], np.arange(rows, rows + more)]),
        "sentence": np.pad(np.where(present, column, NO_SENTENCE)[cells], (0, more), constant_values=NO_SENTENCE),
        "lengths": lengths,
    }


def on_device(arrays: dict[str, np.ndarray | list[int]], device: torch.device | str) -> dict[str, Tensor | list[int]]:
    """The arrays as tensors on a device; lists stay."""
    return {
        name: value if isinstance(value, list) else torch.from_numpy(value).to(device, non_blocking=True)
        for name, value in arrays.items()
    }


def packed_words(sentences: Sentences, numbers: np.ndarray, *, device: torch.device | str = "cpu") -> PackedWords:
    """Sentences of these numbers, which must be in order of falling length."""
    order, arrays = pack_words(sentences, numbers)
    if (order != np.arange(len(order))).any():
        raise ValueError("the sentences must be in order of falling length")
    return PackedWords(**on_device(arrays, device))  # type: ignore[arg-type]


def pack_pairs(
    sentences: Sentences,
    numbers: np.ndarray,
    features: Features,
    *,
    device: torch.device | str = "cpu",
    hardest: bool = False,
    rectangular: bool = False,
) -> MatchingBatch:
    """The batch of the sentences of these numbers, which must be of different images, and the regions of those."""
    order, arrays = pack_words(sentences, numbers, rectangular=rectangular)
    images = sentences.image[numbers[order]]
    if len(np.unique(images)) < len(images):
        raise ValueError("two sentences of a batch are of one image")
    regions, valid = features.regions(images)
    return MatchingBatch(
        **on_device(arrays, device),  # type: ignore[arg-type]
        features=regions.to(device, non_blocking=True),
        valid=valid.to(device, non_blocking=True),
        hardest=hardest,
        sentences=numbers[order],
        count=len(numbers),
    )


def rounds(sentences: Sentences) -> np.ndarray:
    """The size of each round of an epoch: how many images have a first sentence, a second one, and so on."""
    _, counts = np.unique(sentences.image, return_counts=True)
    return (counts[:, None] > np.arange(counts.max())).sum(axis=0)


def round_cuts(size: int, batch_size: int) -> np.ndarray:
    """Where a round is cut into batches of nearly equal size, none larger than batch_size: begins and the end."""
    batches = -(-size // batch_size)
    return np.arange(batches + 1) * size // batches


def epoch_pairs(sentences: Sentences, batch_size: int, *, seed: int, epoch: int) -> list[np.ndarray]:
    """The sentence numbers of the batches of one epoch: every sentence occurs once, no image twice in a batch.

    An epoch consists of rounds, each with one sentence of every image that still has one. Sentences and images are
    shuffled, and batches of all rounds. Depends on seed and epoch alone, so a run that resumes needs nothing but the
    number of batches done.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(sentences))
    image = sentences.image[order]
    grouped = np.argsort(image, kind="stable")  # by image; within one, in the shuffled order
    first = np.r_[True, np.diff(image[grouped]) != 0]
    start = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    turn = np.arange(len(order)) - start  # which sentence of its image this one is
    batches = []
    for number, size in enumerate(rounds(sentences)):
        chosen = generator.permutation(order[grouped[turn == number]])
        cuts = round_cuts(int(size), batch_size)
        batches += [chosen[begin:end] for begin, end in pairwise(cuts)]
    return [batches[i] for i in generator.permutation(len(batches))]


def batch_count(sentences: Sentences, batch_size: int) -> int:
    """Batches of an epoch."""
    return sum(len(round_cuts(int(size), batch_size)) - 1 for size in rounds(sentences))


def epoch_batches(
    sentences: Sentences,
    features: Features,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    skip: int = 0,
    device: torch.device | str = "cpu",
    hardest: bool = False,
    rectangular: bool = False,
) -> Iterator[MatchingBatch]:
    """The batches of one epoch from batch number `skip` on."""
    for numbers in epoch_pairs(sentences, batch_size, seed=seed, epoch=epoch)[skip:]:
        yield pack_pairs(sentences, numbers, features, device=device, hardest=hardest, rectangular=rectangular)
