"""Perplexity of sentences given their images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from mrnn.data.vocabulary import UNKNOWN_ID
from mrnn.train.batches import Features, Sentences, pack
from mrnn.train.losses import token_bits
from mrnn.train.models import MRNN


@dataclass(frozen=True)
class Perplexity:
    """How well sentences are predicted. END counts as a word, START does not.

    bits : mean of -log2 P a word. perplexity : 2 ** bits. perplexity_known : the same over the targets that are not
    `<unk>`. tokens, unknown : targets in all, and those that are `<unk>`.
    """

    bits: float
    perplexity: float
    perplexity_known: float
    tokens: int
    unknown: int


@dataclass(frozen=True)
class SentenceBits:
    """What each of S sentences costs under its image, words and END.

    bits, known_bits : (S,) float64, sum of -log2 P of its targets, and of those that are not `<unk>`.
    targets, unknown : (S,) int64, how many they are, and how many of them are `<unk>`.
    """

    bits: np.ndarray
    known_bits: np.ndarray
    targets: np.ndarray
    unknown: np.ndarray

    def perplexity(self, chosen: np.ndarray | slice = slice(None)) -> Perplexity:
        """Of all the sentences, or of some given by number or mask. Raises ValueError if there are none."""
        tokens, unknown = int(self.targets[chosen].sum()), int(self.unknown[chosen].sum())
        if not tokens:
            raise ValueError("there are no sentences to take the perplexity of")
        bits = float(self.bits[chosen].sum()) / tokens
        known = float(self.known_bits[chosen].sum()) / (tokens - unknown)
        return Perplexity(bits, perplexity=2**bits, perplexity_known=2**known, tokens=tokens, unknown=unknown)


def perplexity(model: MRNN, sentences: Sentences, features: Features, *, batch_size: int = 256) -> Perplexity:
    """Perplexity of all the sentences; see `sentence_bits`. Raises ValueError if there are no sentences."""
    return sentence_bits(model, sentences, features, batch_size=batch_size).perplexity()


@torch.no_grad()
def sentence_bits(
    model: MRNN,
    sentences: Sentences,
    features: Features,
    *,
    batch_size: int = 256,
    after_batch: Callable[[int], None] = lambda sentences: None,
) -> SentenceBits:
    """Bits of every sentence, in evaluation mode (no dropout); the model's mode is left as it was.

    Runs where the model's parameters lie. Independent of batch_size up to float32 rounding. after_batch is told how
    many sentences a batch had.
    """
    device = model.output.weight.device
    was_training = model.training
    model.eval()
    found = SentenceBits(
        np.zeros(len(sentences)), np.zeros(len(sentences)), sentences.lengths + 1, np.zeros(len(sentences), np.int64)
    )
    by_length = np.argsort(sentences.lengths, kind="stable")
    for start in range(0, len(by_length), batch_size):
        batch = pack(sentences, by_length[start : start + batch_size], features, device=device)
        hidden = model(batch.inputs, batch.sizes, batch.features, batch.image_of_token)
        bits = token_bits(hidden, model.output.weight, model.output.bias, batch.targets)
        each = bits[: batch.words].double().cpu().numpy()
        known = (batch.targets[: batch.words] != UNKNOWN_ID).cpu().numpy()
        column = np.concatenate([np.arange(size) for size in batch.sizes])  # the sentence of each token
        found.bits[batch.sentences] = np.bincount(column, each)
        found.known_bits[batch.sentences] = np.bincount(column, each * known)
        found.unknown[batch.sentences] = np.bincount(column, ~known)
        after_batch(len(batch.sentences))
    model.train(was_training)
    return found
