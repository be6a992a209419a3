"""Initial weights. The papers do not describe theirs; these were chosen by dev perplexity (docs/experiments.md)."""

import numpy as np
import torch
from torch import nn

from mrnn.data.vocabulary import BOUNDARY_ID
from mrnn.train.models.captioner_configs import RecurrentConfig
from mrnn.train.models.matching_configs import RegionConfig
from mrnn.train.sentences import Sentences


def initialise_captioner(
    model: nn.Module, config: RecurrentConfig, generator: torch.Generator, *, embedding: str, recurrence: str
) -> None:
    """Draw all weights of a captioner on the CPU from one generator; see `draw_weights` and `draw_recurrence`.

    model : the model, whose output layer is called `output`; its own matrix is multiplied by output_scale.
    config : scales and kind of recurrence.
    generator : source of all random numbers.
    embedding, recurrence : names of the embedding and of the recurrent layer in the model.
    """
    draw_weights(model, generator, embedding=embedding, embedding_scale=config.embedding_scale)
    with torch.no_grad():
        for parameter in model.get_submodule("output").parameters():
            if parameter.ndim == 2:
                parameter.mul_(config.output_scale)
    draw_recurrence(model.get_parameter(f"{recurrence}.weight"), config, generator)


@torch.no_grad()
def draw_weights(model: nn.Module, generator: torch.Generator, *, embedding: str, embedding_scale: float) -> None:
    """Draw all weights of a model from one generator, in the order of their names.

    Word vectors are uniform in [-embedding_scale, embedding_scale]. Matrices are uniform in +-sqrt(3 / inputs), which
    keeps the variance. Biases are 0.

    model : the model.
    generator : source of all random numbers.
    embedding : name of the embedding layer in the model.
    embedding_scale : bound of the word vectors.
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
def draw_recurrence(weight: torch.Tensor, config: RecurrentConfig | RegionConfig, generator: torch.Generator) -> None:
    """Make a matrix, drawn before, a recurrent one, or the square matrix of each gate of a gated layer.

    It becomes recurrence_scale times the identity (as ReLU networks want it: Le et al. 2015, arXiv 1504.00941), a
    random orthogonal matrix, or what it was.
    """
    for square in weight.split(weight.shape[1]):
        if config.recurrence_init == "identity":
            nn.init.eye_(square)
        elif config.recurrence_init == "orthogonal":
            nn.init.orthogonal_(square, generator=generator)
    weight.mul_(config.recurrence_scale)


def word_log_frequencies(sentences: Sentences, vocabulary_size: int) -> torch.Tensor:
    """Log relative frequency of each word among the targets, END counted, for the output bias as in DVSA section 6.

    Returns (V,) float32. A word that does not occur, as `<unk>` may not, has a count of one half.
    """
    counts = np.bincount(sentences.tokens, minlength=vocabulary_size).astype(np.float64)
    counts[BOUNDARY_ID] += len(sentences)
    counts = np.maximum(counts, 0.5)
    return torch.from_numpy(np.log(counts / counts.sum())).float()
