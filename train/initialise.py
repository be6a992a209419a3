"""Weights before training. The papers give none of this; settings choose, dev perplexity decides."""

import numpy as np
import torch
from torch import nn

from mrnn.data.vocabulary import BOUNDARY_ID
from mrnn.train.models.kinds import AlignmentConfig, RecurrentConfig
from mrnn.train.sentences import Sentences


def initialise_captioner(
    model: nn.Module, config: RecurrentConfig, generator: torch.Generator, *, embedding: str, recurrence: str
) -> None:
    """Draw all weights of a model with a layer `output` on the CPU from one generator; see `draw_weights`.

    The output layer's are multiplied by output_scale. embedding, recurrence : names of those two layers in the model.
    """
    draw_weights(model, generator, embedding=embedding, embedding_scale=config.embedding_scale)
    with torch.no_grad():
        model.get_parameter("output.weight").mul_(config.output_scale)
    draw_recurrence(model.get_parameter(f"{recurrence}.weight"), config, generator)


@torch.no_grad()
def draw_weights(model: nn.Module, generator: torch.Generator, *, embedding: str, embedding_scale: float) -> None:
    """Draw all weights in the order of their names.

    Word vectors are uniform in [-embedding_scale, embedding_scale]; every matrix uniform in +-sqrt(3 / inputs), which
    keeps the variance; biases 0. embedding : name of the layer of word vectors.
    """
    for name, parameter in sorted(model.named_parameters()):
        if name == f"{embedding}.weight":
            parameter.uniform_(-embedding_scale, embedding_scale, generator=generator)
        elif parameter.ndim == 1:
            parameter.zero_()
        else:
            bound = (3 / parameter.shape[1]) ** 0.5
            parameter.uniform_(-bound, bound, generator=generator)


@torch.no_grad()
def draw_recurrence(
    weight: torch.Tensor, config: RecurrentConfig | AlignmentConfig, generator: torch.Generator
) -> None:
    """Make a matrix, drawn before, a recurrent one.

    It becomes recurrence_scale times the identity (as ReLU networks want it: Le et al. 2015, arXiv 1504.00941), a
    random orthogonal matrix, or what it was.
    """
    if config.recurrence_init == "identity":
        nn.init.eye_(weight)
    elif config.recurrence_init == "orthogonal":
        nn.init.orthogonal_(weight, generator=generator)
    weight.mul_(config.recurrence_scale)


def word_log_frequencies(sentences: Sentences, vocabulary_size: int) -> torch.Tensor:
    """log of each word's share among the targets, END counted: (V,) float32, for the output bias as in DVSA section 6.

    A word that never occurs (`<unk>` may not) counts as seen half a time.
    """
    counts = np.bincount(sentences.tokens, minlength=vocabulary_size).astype(np.float64)
    counts[BOUNDARY_ID] += len(sentences)
    counts = np.maximum(counts, 0.5)
    return torch.from_numpy(np.log(counts / counts.sum())).float()
