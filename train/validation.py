"""Perplexity of sentences given their images."""

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


@torch.no_grad()
def perplexity(model: MRNN, sentences: Sentences, features: Features, *, batch_size: int = 256) -> Perplexity:
    """Perplexity of all the sentences, in evaluation mode (no dropout); the model's mode is left as it was.

    Runs where the model's parameters lie. Independent of batch_size up to float32 rounding. Raises ValueError if there
    are no sentences.
    """
    if not len(sentences):
        raise ValueError("there are no sentences to take the perplexity of")
    device = model.output.weight.device
    was_training = model.training
    model.eval()
    bits, known_bits, unknown = 0.0, 0.0, 0
    by_length = np.argsort(sentences.lengths, kind="stable")
    for start in range(0, len(by_length), batch_size):
        batch = pack(sentences, by_length[start : start + batch_size], features, device=device)
        hidden = model(batch.inputs, batch.sizes, batch.features, batch.image_of_token)
        each = token_bits(hidden, model.output.weight, model.output.bias, batch.targets).double()
        is_unknown = batch.targets == UNKNOWN_ID
        bits += each.sum().item()
        known_bits += each[~is_unknown].sum().item()
        unknown += int(is_unknown.sum().item())
    model.train(was_training)
    tokens = len(sentences.tokens) + len(sentences)
    return Perplexity(
        bits=bits / tokens,
        perplexity=2 ** (bits / tokens),
        perplexity_known=2 ** (known_bits / (tokens - unknown)),
        tokens=tokens,
        unknown=unknown,
    )
