"""From a feature cache to batches: sentences as word numbers, packed step by step, with the features of their images.

Packing: a batch is laid out time-major, all first words, then all second words and so on, its sentences by falling
length. So no padding exists anywhere, and step t of the recurrence works on the first sizes[t] rows of step t - 1.
Rectangular batches, for CUDA graphs, go on to their longest sentence's end in every sentence.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from mrnn.data.cache import FeatureCache
from mrnn.data.tokenize import tokenize
from mrnn.data.vocabulary import BOUNDARY_ID, Vocabulary

TOKEN_ROWS, IMAGE_ROWS = 64, 16  # multiples that the rows of a batch are rounded up to
NOTHING = -1  # the target of a row that predicts nothing


@dataclass(frozen=True)
class Sentences:
    """Tokenised sentences of chosen images.

    tokens : (sum of lengths,) int32, word numbers of all sentences one after another, without signs.
    starts : (S + 1,) int64, where each begins in tokens. image : (S,) int64, the number of its image in the cache.
    skipped : how many sentences were left out because they hold no word.
    """

    tokens: np.ndarray
    starts: np.ndarray
    image: np.ndarray
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.image)

    @property
    def lengths(self) -> np.ndarray:
        """(S,) int64, words of each sentence without signs."""
        return np.diff(self.starts)

    @property
    def targets(self) -> int:
        """Words to predict: those of the sentences and an END for each."""
        return len(self.tokens) + len(self)


def tokenized_sentences(cache: FeatureCache, images: Sequence[int] | np.ndarray) -> tuple[list[list[str]], np.ndarray]:
    """The sentences of some images of a cache as words, empty ones included, and the image number of each."""
    pairs = [(tokenize(sentence), int(i)) for i in images for sentence in cache.images[i].sentences]
    return [words for words, _ in pairs], np.array([i for _, i in pairs], dtype=np.int64)


def encode_sentences(words: Sequence[Sequence[str]], image: np.ndarray, vocabulary: Vocabulary) -> Sentences:
    """Number the words of sentences; those without a word are skipped and counted."""
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
    """The sentences of those images of a split that have features."""
    return encode_sentences(*tokenized_sentences(cache, cache.done(split)), vocabulary)


class Features:
    """Feature vectors by image number: in memory where they fit the budget, else memory-mapped; equal either way.

    In memory means in that of the device, so that on a GPU nothing but numbers of images travels. Where an image has
    several rows (regions), its first is taken: the whole image.
    """

    def __init__(self, cache: FeatureCache, *, budget: float = 4.0, device: torch.device | str = "cpu") -> None:
        """budget : GB (1e9 bytes) that the features may take in memory."""
        self._mapped = cache.features[:: cache.rows_per_image]
        self.size = cache.feature_size
        self.in_memory = self._mapped.nbytes <= budget * 1e9
        self._held = torch.from_numpy(np.array(self._mapped)).to(device) if self.in_memory else None

    def __getitem__(self, images: np.ndarray) -> Tensor:
        """(n, D) float32 for n image numbers, on the device if held there."""
        if self._held is not None:
            return self._held[torch.from_numpy(images).to(self._held.device)].float()
        return torch.from_numpy(self._mapped[images].astype(np.float32))

    def moments(self, images: np.ndarray) -> tuple[np.ndarray, float]:
        """Mean over some images, (D,) float64, and the root of the mean square of what is left without it."""
        total, squares = np.zeros(self.size), 0.0
        for start in range(0, len(images), 256):
            rows = self[images[start : start + 256]]
            total += rows.sum(dim=0).cpu().numpy()
            squares += rows.square_().sum(dtype=torch.float64).item()
        mean = total / len(images)
        variance = squares / len(images) - np.square(mean).sum()
        return mean, float(max(variance, 0) / self.size) ** 0.5


@dataclass(frozen=True)
class Batch:
    """Packed sentences with what predicts them, on the device of the model.

    inputs, targets, image_of_token : (P,) int64, P rows; a target is NOTHING where a row is there for the shape only
    and takes no part in the loss. sizes : how many rows the t-th step has; the sentences' steps come first, then
    whatever rounds P up. image_of_token points into features : (I, D) float32, a row for every distinct image, and
    some more to round I up. sentences : (B,) their numbers, in the batch's order. words : to predict. share : these
    words over those of all processes' parts of the batch.
    Numbers of rows are rounded so that few shapes occur: oneDNN makes a kernel for each, in half a millisecond, and
    keeps it.
    """

    inputs: Tensor
    targets: Tensor
    sizes: list[int]
    image_of_token: Tensor
    features: Tensor
    sentences: np.ndarray
    words: int
    share: float = 1.0


def pack(
    sentences: Sentences,
    numbers: np.ndarray,
    features: Features,
    *,
    device: torch.device | str = "cpu",
    rectangular: bool = False,
) -> Batch:
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

    return Batch(
        inputs=to_device(inputs, 0),
        targets=to_device(targets, NOTHING),
        sizes=cells.sum(axis=1).tolist(),
        image_of_token=to_device(image_of_token, 0),
        features=features[np.pad(images, (0, more_images), mode="edge")].to(device, non_blocking=True),
        sentences=numbers,
        words=int(present.sum()),
    )


def epoch_order(lengths: np.ndarray, batch_size: int, *, seed: int, epoch: int, window: int = 20) -> list[np.ndarray]:
    """The sentence numbers of the batches of one epoch; every sentence occurs once.

    Sentences are shuffled, sorted by length within windows of `window` batches, cut, and the batches shuffled: a batch
    then holds sentences of nearly one length, and the recurrence few steps. Depends on seed and epoch alone, so a run
    that goes on needs nothing but the number of batches done.
    """
    generator = np.random.default_rng([seed, epoch])
    shuffled = generator.permutation(len(lengths))
    batches = []
    for start in range(0, len(shuffled), window * batch_size):
        part = shuffled[start : start + window * batch_size]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[at : at + batch_size] for at in range(0, len(part), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


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
) -> Iterator[Batch]:
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
