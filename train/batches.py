"""Batches of captions: sentences as word numbers, packed step by step, with the features of their images.

Packing: a batch is laid out time-major, all first words, then all second words and so on, its sentences in order of
falling length. So no padding exists anywhere, and step t of the recurrence works on the first sizes[t] rows of step
t - 1. Rectangular batches, for CUDA graphs, continue every sentence to the end of the longest.
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from mrnn.data.vocabulary import BOUNDARY_ID
from mrnn.train.features import Features
from mrnn.train.sentences import Sentences

TOKEN_ROWS, IMAGE_ROWS = 64, 16  # multiples that the rows of a batch are rounded up to
NOTHING = -1  # the target of a row that predicts nothing
WINDOW = 20  # batches whose sentences are sorted by length together


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What training sees of a batch, whatever the task; CUDA graphs and processes know no more of it.

    sentences : (B,) their numbers, in the batch's order. count : units that the cost is summed over. share : this
    count over that of all processes' parts of the batch.
    """

    sentences: np.ndarray
    count: int
    share: float = 1.0

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by the names of their fields."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}

    def shape(self) -> Hashable:
        """Equal for two batches whose tensors can take each other's place in memory in one and the same computation."""
        lists = [tuple(value) for field in fields(self) if isinstance(value := getattr(self, field.name), list)]
        return tuple(tuple(tensor.shape) for tensor in self.tensors().values()), tuple(lists)


@dataclass(frozen=True, kw_only=True)
class CaptionBatch(Batch):
    """Packed sentences with what predicts them, on the device of the model; `count` is the number of words to predict.

    inputs, targets, image_of_token : (P,) int64, P rows; a target is NOTHING where a row is there for the shape only
    and takes no part in the loss. sizes : how many rows the t-th step has; the sentences' steps come first, then
    whatever rounds P up. image_of_token points into features : (I, D) float32, a row for every distinct image, and
    some more to round I up.
    Numbers of rows are rounded so that few shapes occur: oneDNN makes a kernel for each, in half a millisecond, and
    keeps it.
    """

    inputs: Tensor
    targets: Tensor
    sizes: list[int]
    image_of_token: Tensor
    features: Tensor


def pack(
    sentences: Sentences,
    numbers: np.ndarray,
    features: Features,
    *,
    device: torch.device | str = "cpu",
    rectangular: bool = False,
) -> CaptionBatch:
    """The batch of the sentences of these numbers.

    rectangular : every step has a row for every sentence, and every sentence a row of features. Batches of as many
    sentences, of which the longest are as long, then have one shape; a tenth of their rows predict nothing. (The
    inputs there are the words that happen to follow.)
    """
    lengths = sentences.starts[numbers + 1] - sentences.starts[numbers]
    order = np.argsort(-lengths, kind="stable")
    numbers, lengths = numbers[order], lengths[order]
    # Row t, column b: is there a t-th input in sentence b, and where do its words lie. Inputs are START and the words,
    # targets the words and END.
    steps = np.arange(lengths[0] + 1)[:, None]
    present = steps <= lengths
    cells = np.ones_like(present) if rectangular else present
    positions = sentences.starts[numbers] + steps
    last = len(sentences.tokens) - 1
    inputs = np.where(steps == 0, BOUNDARY_ID, sentences.tokens[np.clip(positions - 1, 0, last)])[cells]
    targets = np.where(steps < lengths, sentences.tokens[np.clip(positions, 0, last)], BOUNDARY_ID)
    targets = np.where(present, targets, NOTHING)[cells]
    images, image_of_sentence = np.unique(sentences.image[numbers], return_inverse=True)
    image_of_token = np.broadcast_to(image_of_sentence, present.shape)[cells]
    more_images = len(numbers) - len(images) if rectangular else -len(images) % IMAGE_ROWS

    def to_device(array: np.ndarray, filling: int) -> Tensor:
        more = 0 if rectangular else -len(array) % TOKEN_ROWS
        rounded = np.pad(array.astype(np.int64), (0, more), constant_values=filling)
        return torch.from_numpy(rounded).to(device, non_blocking=True)

    return CaptionBatch(
        inputs=to_device(inputs, 0),
        targets=to_device(targets, NOTHING),
        sizes=cells.sum(axis=1).tolist(),
        image_of_token=to_device(image_of_token, 0),
        features=features[np.pad(images, (0, more_images), mode="edge")].to(device, non_blocking=True),
        sentences=numbers,
        count=int(present.sum()),
    )


def batch_bounds(sentences: int, batch_size: int, *, window: int = WINDOW) -> list[tuple[int, int]]:
    """Begin and end of every batch of an epoch among its shuffled sentences; no batch crosses a window's border."""
    windows = range(0, sentences, window * batch_size)
    return [
        (begin, min(begin + batch_size, start + window * batch_size, sentences))
        for start in windows
        for begin in range(start, min(start + window * batch_size, sentences), batch_size)
    ]


def epoch_order(
    lengths: np.ndarray, batch_size: int, *, seed: int, epoch: int, window: int = WINDOW
) -> list[np.ndarray]:
    """The sentence numbers of the batches of one epoch; every sentence occurs once.

    Sentences are shuffled, sorted by length within windows of `window` batches, cut, and the batches shuffled: a batch
    then holds sentences of nearly one length, and the recurrence few steps. Depends on seed and epoch alone, so a run
    that resumes needs nothing but the number of batches done.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    for start in range(0, len(order), window * batch_size):
        part = order[start : start + window * batch_size]
        order[start : start + window * batch_size] = part[np.argsort(lengths[part], kind="stable")]
    bounds = batch_bounds(len(order), batch_size, window=window)
    return [order[slice(*bounds[i])] for i in generator.permutation(len(bounds))]


def epoch_batches(
    sentences: Sentences,
    features: Features,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    skip: int = 0,
    device: torch.device | str = "cpu",
    part: tuple[int, int] = (0, 1),
    rectangular: bool = False,
) -> Iterator[CaptionBatch]:
    """The batches of one epoch from batch number `skip` on; of each, part I of N (every N-th sentence)."""
    lengths = sentences.lengths
    for numbers in epoch_order(lengths, batch_size, seed=seed, epoch=epoch)[skip:]:
        chosen, share = part_of_batch(numbers, lengths + 1, *part)
        yield replace(pack(sentences, chosen, features, device=device, rectangular=rectangular), share=share)


def part_of_batch(numbers: np.ndarray, words: np.ndarray, index: int, count: int) -> tuple[np.ndarray, float]:
    """The sentences of part `index` of `count` of a batch, and the share of the batch's words that they hold.

    words : (S,) words of every sentence, END included. The parts tile the batch, with about as many words each. A part
    that would be empty, which a short batch can leave, gets a sentence with the share 0: no process may sit a step out.
    """
    chosen = numbers[index::count]
    if not len(chosen):
        return numbers[:1], 0.0
    return chosen, float(words[chosen].sum() / words[numbers].sum())
