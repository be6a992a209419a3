"""Predicting the words of a caption: bits, perplexity, and the task that minimises them.

The cost of the m-RNN paper, in bits (A3 of its re-implementation notes; Eq. 6 of arXiv 1410.1090):

    C = -(1/N) sum_n log2 P(w_n | w_1..w_{n-1}, I) + lambda ||theta||^2        N words, END counted

The optimiser adds lambda ||theta||^2 (mrnn.train.optim). Settings change what training minimises, not what validation
measures:

    --label-smoothing E     takes the cross-entropy with (1 - E) onehot(w_n) + E/V in place of w_n
    --word-dropout P        lets the model read <unk> in place of a fraction P of the words, drawn afresh in each step
                            (Bowman et al. 2016, arXiv 1511.06349; Gal's variant drops every occurrence of a word)
    --contrast W            adds W times the contrastive term (mrnn.train.tasks.contrast) to C
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import log2

import numpy as np
import torch
from torch import Tensor

from mrnn.data.vocabulary import BOUNDARY_ID, UNKNOWN_ID
from mrnn.train.batches import NOTHING, CaptionBatch, batch_bounds, epoch_batches, pack
from mrnn.train.features import Features
from mrnn.train.initialise import word_log_frequencies
from mrnn.train.losses import linear_cross_entropy
from mrnn.train.measures import BITS, PERPLEXITY, SAMPLE_SECONDS, SELECTIONS
from mrnn.train.models.captioner import Captioner, LateFusion, Predictor
from mrnn.train.sentences import Sentences
from mrnn.train.settings import TrainSettings
from mrnn.train.tasks.contrast import ContrastBatch, contrast_batches, contrast_bits
from mrnn.train.tasks.dev_sample import sample_cider, sample_recalls, sampled_images
from mrnn.train.tasks.task import TrainingData

EXPLODED = 10  # times the cost of uniform distributions: log2 V bits per word


class Captioning:
    """The task (mrnn.train.tasks.task.Task) of every captioner: minimise the bits per word."""

    name = "captioning"
    criterion = PERPLEXITY
    measure = BITS

    def __init__(self, settings: TrainSettings) -> None:
        self._settings = settings
        self.criterion = SELECTIONS[settings.select]
        # The contrastive term compares the sentences and images of a batch, and so depends on how it is divided.
        self.divisible = settings.contrast == 0

    def batches(
        self,
        data: TrainingData,
        settings: TrainSettings,
        *,
        epoch: int,
        skip: int,
        part: tuple[int, int],
        rectangular: bool,
    ) -> Iterator[CaptionBatch]:
        """See `Task`."""
        batches = epoch_batches(
            data.train,
            data.features,
            settings.batch_size,
            seed=settings.seed,
            epoch=epoch,
            skip=skip,
            device=data.device,
            part=part,
            rectangular=rectangular,
        )
        if not settings.contrast:
            return batches
        return contrast_batches(
            batches,
            data.train.image,
            images=settings.contrast_pictures,
            sentences=settings.contrast_sentences,
            seed=[settings.seed, epoch],
            skip=skip,
        )

    def batch_count(self, data: TrainingData, settings: TrainSettings) -> int:
        """See `Task`."""
        return len(batch_bounds(len(data.train), settings.batch_size))

    def cost(self, model: Captioner, batch: CaptionBatch) -> Tensor:
        """See `Task`: bits, summed over words, and the contrastive term for every word."""
        if self._settings.word_dropout:
            batch = replace(batch, inputs=drop_words(batch.inputs, self._settings.word_dropout))
        if not isinstance(batch, ContrastBatch):
            return batch_bits(model, batch, smoothing=self._settings.label_smoothing)
        assert isinstance(model, LateFusion)
        language, image = model.language_packed(batch), model.image(batch.features)
        hidden = model.fuse(language, image.index_select(0, batch.image_of_token))
        bits = output_bits(model, hidden, batch, smoothing=self._settings.label_smoothing)
        contrast = contrast_bits(model, batch, language=language, image=image)
        # Not batch.count, a number that a CUDA graph would keep for later batches of the shape.
        count = (batch.targets != NOTHING).sum()
        return bits + self._settings.contrast * contrast * count

    def validate(self, model: Captioner, data: TrainingData) -> dict[str, float]:
        """See `Task`: bits per word and perplexity of the dev split, and what `select` asks of a sample of it."""
        found = perplexity(model, data.val, data.features)
        return {
            "val_bits": found.bits,
            "val_perplexity": found.perplexity,
            "val_perplexity_known": found.perplexity_known,
        } | self._sample(model, data)

    def _sample(self, model: Captioner, data: TrainingData) -> dict[str, float]:
        if self.criterion == PERPLEXITY:
            return {}
        start, was_training = time.perf_counter(), model.training
        model.eval()
        images = sampled_images(data.val, self._settings.select_images)
        if self._settings.select == "recall":
            found = sample_recalls(model, data.val, data.features, images=images)
        else:
            found = {self.criterion.key: sample_cider(model, data.val, data.features, images=images)}
        model.train(was_training)
        return found | {SAMPLE_SECONDS: time.perf_counter() - start}

    def begin(self, model: Captioner, data: TrainingData, settings: TrainSettings) -> None:
        """See `Task`: sets the output bias to the words' log frequencies, and the mean and scale of image features."""
        if model.config.frequency_bias:
            model.output.bias.data.copy_(word_log_frequencies(data.train, len(data.vocabulary)))
        model.take_moments(*data.features.moments(np.unique(data.train.image)), scale=model.config.image_scale)

    def limit(self, data: TrainingData) -> float:
        """See `Task`."""
        settings = self._settings
        chance = log2(len(data.vocabulary))
        if settings.contrast:
            chance += settings.contrast * (log2(settings.contrast_pictures) + log2(settings.contrast_sentences))
        return EXPLODED * chance


def batch_bits(model: Captioner, batch: CaptionBatch, *, smoothing: float = 0.0) -> Tensor:
    """Sum over the words of a batch of -log2 P(word | words before, image), with label smoothing if requested."""
    return output_bits(model, model(batch), batch, smoothing=smoothing)


def output_bits(model: Captioner, hidden: Tensor, batch: CaptionBatch, *, smoothing: float) -> Tensor:
    """The same from the hidden vectors of the batch, (P, M)."""
    output = model.output
    return linear_cross_entropy(hidden, output.weight, output.bias, batch.targets, smoothing=smoothing)


def drop_words(inputs: Tensor, share: float) -> Tensor:
    """Word numbers, (P,) int64, of which each is `<unk>` with probability `share`; START is kept."""
    # From torch's global generator, as dropout draws.
    dropped = torch.rand(inputs.shape, device=inputs.device) < share
    return inputs.masked_fill(dropped & (inputs != BOUNDARY_ID), UNKNOWN_ID)


@dataclass(frozen=True)
class Perplexity:
    """How well sentences are predicted. END counts as a word, START does not.

    bits : mean of -log2 P per word.
    perplexity : 2 ** bits.
    perplexity_known : perplexity over the targets that are not `<unk>`.
    tokens : number of targets.
    unknown : number of targets that are `<unk>`.
    """

    bits: float
    perplexity: float
    perplexity_known: float
    tokens: int
    unknown: int


@dataclass(frozen=True)
class SentenceBits:
    """The cost of each of S sentences given its image, words and END.

    bits : (S,) float64, sum of -log2 P over its targets.
    known_bits : (S,) float64, the same sum over the targets that are not `<unk>`.
    targets : (S,) int64, number of targets.
    unknown : (S,) int64, number of targets that are `<unk>`.
    """

    bits: np.ndarray
    known_bits: np.ndarray
    targets: np.ndarray
    unknown: np.ndarray

    def perplexity(self, chosen: np.ndarray | slice = slice(None)) -> Perplexity:
        """Perplexity of all sentences, or of some given by number or mask. Raises ValueError if there are none."""
        tokens, unknown = int(self.targets[chosen].sum()), int(self.unknown[chosen].sum())
        if not tokens:
            raise ValueError("there are no sentences to take the perplexity of")
        bits = float(self.bits[chosen].sum()) / tokens
        known = float(self.known_bits[chosen].sum()) / (tokens - unknown)
        return Perplexity(bits, perplexity=2**bits, perplexity_known=2**known, tokens=tokens, unknown=unknown)


def perplexity(model: Predictor, sentences: Sentences, features: Features, *, batch_size: int = 256) -> Perplexity:
    """Perplexity of all sentences, with the arguments of `sentence_bits`. Raises ValueError if there are none."""
    return sentence_bits(model, sentences, features, batch_size=batch_size).perplexity()


@torch.no_grad()
def sentence_bits(
    model: Predictor,
    sentences: Sentences,
    features: Features,
    *,
    batch_size: int = 256,
    after_batch: Callable[[int], None] = lambda sentences: None,
) -> SentenceBits:
    """Bits of every sentence, in evaluation mode (no dropout); the mode of the model is restored afterwards.

    model : the model; the computation runs on its device.
    sentences : the sentences to score.
    features : features by image number.
    batch_size : sentences per batch; the result depends on it by float32 rounding only.
    after_batch : called with the number of sentences of each finished batch.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    found = SentenceBits(
        np.zeros(len(sentences)), np.zeros(len(sentences)), sentences.lengths + 1, np.zeros(len(sentences), np.int64)
    )
    by_length = np.argsort(sentences.lengths, kind="stable")
    for start in range(0, len(by_length), batch_size):
        batch = pack(sentences, by_length[start : start + batch_size], features, device=device)
        bits = model.target_bits(batch)
        each = bits[: batch.count].double().cpu().numpy()
        known = (batch.targets[: batch.count] != UNKNOWN_ID).cpu().numpy()
        # Each step lists the sentences that are long enough in the same order, so rows of step t are 0 .. sizes[t] - 1.
        column = np.concatenate([np.arange(size) for size in batch.sizes])
        found.bits[batch.sentences] = np.bincount(column, each)
        found.known_bits[batch.sentences] = np.bincount(column, each * known)
        found.unknown[batch.sentences] = np.bincount(column, ~known)
        after_batch(len(batch.sentences))
    model.train(was_training)
    return found
