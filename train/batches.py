"""Batches of captions: sentences as word numbers, packed step by step, with the features of their images.

A packed batch is laid out time-major: all first words, then all second words, and so on, with the sentences sorted by
decreasing length. There is no padding, and step t of the recurrence works on the first sizes[t] rows of step t - 1.
Rectangular batches, which CUDA graphs need, extend every sentence to the length of the longest.
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mrnn.data.vocabulary import BOUNDARY_ID
from mrnn.train.features import Features
from mrnn.train.sentences import Sentences

TOKEN_ROWS, IMAGE_ROWS = 64, 16  # multiples that the rows of a batch are rounded up to
NOTHING = -1  # the target of a row that predicts nothing
WINDOW = 20  # batches whose sentences are sorted by length together


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The part of a batch that training uses, whatever the task; CUDA graphs and processes use nothing else.

    sentences : (B,) int64, sentence numbers in the order of the batch.
    count : number of units that the cost is summed over.
    share : `count` divided by its sum over all processes' parts of the batch.
    """

    sentences: np.ndarray
    count: int
    share: float = 1.0

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by field name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}

    def shape(self) -> Hashable:
        """A key that is equal for two batches if one recorded computation can serve both."""
        # Lists count too: `sizes` decides which kernels the recurrence launches, and a CUDA graph cannot branch.
        lists = [tuple(value) for field in fields(self) if isinstance(value := getattr(self, field.name), list)]
        return tuple(tuple(tensor.shape) for tensor in self.tensors().values()), tuple(lists)


@dataclass(frozen=True, kw_only=True)
class CaptionBatch(Batch):
    """Packed sentences and their image features, on the device of the model; `count` is the number of words to predict.

    inputs : (P,) int64, word numbers that the model reads.
    targets : (P,) int64, word numbers to predict; NOTHING in rows that only fill up the shape and have no loss.
    sizes : number of rows of each step; the steps of the sentences come first, then the rows that round P up.
    image_of_token : (P,) int64, row of `features` for each row.
    features : (I, D) float32, one row per distinct image, then the rows that round I up.
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
    """Pack some sentences, given by number, into a batch.

    sentences : the sentences to choose from.
    numbers : (B,) int, numbers of the chosen ones.
    features : features by image number.
    device : device of the batch.
    rectangular : whether every step has one row per sentence, and `features` one row per sentence. Batches with equally
        many sentences and equally long longest sentences then have one shape; a tenth of their rows predict nothing.
    """
    lengths = sentences.starts[numbers + 1] - sentences.starts[numbers]
    order = np.argsort(-lengths, kind="stable")
    numbers, lengths = numbers[order], lengths[order]
    # Row t, column b: whether sentence b has a t-th input, and where its words are. The inputs are START and the words;
    # the targets are the words and END. Boolean indexing by `cells` reads row by row, which is the time-major order.
    steps = np.arange(lengths[0] + 1)[:, None]
    present = steps <= lengths
    cells = np.ones_like(present) if rectangular else present
    positions = sentences.starts[numbers] + steps
    # Positions outside a sentence are clipped to valid ones: in a rectangular batch, the inputs past its end are the
    # words that happen to follow it, which does no harm since their targets are NOTHING.
    last = len(sentences.tokens) - 1
    inputs = np.where(steps == 0, BOUNDARY_ID, sentences.tokens[np.clip(positions - 1, 0, last)])[cells]
    targets = np.where(steps < lengths, sentences.tokens[np.clip(positions, 0, last)], BOUNDARY_ID)
    targets = np.where(present, targets, NOTHING)[cells]
    images, image_of_sentence = np.unique(sentences.image[numbers], return_inverse=True)
    image_of_token = np.broadcast_to(image_of_sentence, present.shape)[cells]
    # Row counts are rounded up so that few shapes occur: oneDNN builds a kernel for each new shape, which takes half a
    # millisecond, and keeps it.
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


def as_table(batch: CaptionBatch) -> tuple[Tensor, Tensor]:
    """The inputs of a packed batch as a table of sentences, for models that see more than one word at a time.

    Returns (B, T) int64 word numbers, a sentence in each row and anything after its end, and (P,) int64, the place of
    every row of the batch in the flattened table; 0 for rows that only fill up the shape.
    """
    # By operations on the device alone, which a CUDA graph can record.
    steps = len(batch.sizes)
    first = torch.arange(batch.sizes[0], device=batch.inputs.device) * steps
    rows = torch.cat([first[:size] + step for step, size in enumerate(batch.sizes)])
    table = rows.new_full((batch.sizes[0] * steps,), BOUNDARY_ID).scatter_(0, rows, batch.inputs[: len(rows)])
    return table.view(-1, steps), functional.pad(rows, (0, len(batch.inputs) - len(rows)))


def batch_bounds(sentences: int, batch_size: int, *, window: int = WINDOW) -> list[tuple[int, int]]:
    """Start and stop of each batch within the shuffled sentences of an epoch; no batch crosses a window's border.

    sentences : number of sentences.
    batch_size : sentences per batch.
    window : number of batches in a window.
    """
    windows = range(0, sentences, window * batch_size)
    return [
        (begin, min(begin + batch_size, start + window * batch_size, sentences))
        for start in windows
        for begin in range(start, min(start + window * batch_size, sentences), batch_size)
    ]


def epoch_order(
    lengths: np.ndarray, batch_size: int, *, seed: int, epoch: int, window: int = WINDOW
) -> list[np.ndarray]:
    """The sentence numbers of each batch of one epoch; every sentence occurs once.

    Sentences are shuffled, sorted by length within windows of `window` batches, and cut into batches, which are then
    shuffled. So the sentences of a batch have nearly the same length, and the recurrence takes few steps.

    lengths : (S,) int, number of words of each sentence.
    batch_size : sentences per batch.
    seed, epoch : the order depends on these alone, so a run that resumes needs only the number of batches done.
    window : number of batches whose sentences are sorted together.
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
    """The batches of one epoch.

    sentences, features, batch_size, device, rectangular : as for `pack` and `epoch_order`.
    seed, epoch : decide the order of the sentences.
    skip : number of batches to leave out at the start.
    part : (I, N), to yield only part I of N of each batch: every N-th sentence.
    """
    lengths = sentences.lengths
    for numbers in epoch_order(lengths, batch_size, seed=seed, epoch=epoch)[skip:]:
        chosen, share = part_of_batch(numbers, lengths + 1, *part)
        yield replace(pack(sentences, chosen, features, device=device, rectangular=rectangular), share=share)


def part_of_batch(numbers: np.ndarray, words: np.ndarray, index: int, count: int) -> tuple[np.ndarray, float]:
    """The sentences of one part of a batch, and the share of the batch's words that they hold.

    The parts together make up the batch and hold about equally many words.

    numbers : (B,) int, the sentences of the batch.
    words : (S,) int, number of words of every sentence, END included.
    index, count : number of the part, from 0, and number of parts.
    """
    chosen = numbers[index::count]
    if not len(chosen):
        # A short batch can have fewer sentences than there are processes. No process may skip a step, since the others
        # wait for its gradients; so it works on a sentence whose share is 0.
        return numbers[:1], 0.0
    return chosen, float(words[chosen].sum() / words[numbers].sum())
