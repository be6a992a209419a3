"""Weights before training. The papers give none of this; settings choose, dev perplexity decides."""

import numpy as np
import torch
from torch import nn

from mrnn.data.vocabulary import BOUNDARY_ID
from mrnn.train.models.kinds import RecurrentConfig
from mrnn.train.sentences import Sentences


def initialise_captioner(
    model: nn.Module, config: RecurrentConfig, generator: torch.Generator, *, embedding: str, recurrence: str
) -> None:
    """Draw all weights of a model with a layer `output` on the CPU from one generator, in the order of their names.

    Word vectors are uniform in [-embedding_scale, embedding_scale]; every matrix uniform in +-sqrt(3 / inputs), which
    keeps the variance, the output layer's times output_scale; biases 0. The recurrence is recurrence_scale times the
    identity (as ReLU networks want it: Le et al. 2015, arXiv 1504.00941), a random orthogonal matrix, or as the others.

    embedding, recurrence : names of those two layers in the model.
    """
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if name == f"{embedding}.weight":
                parameter.uniform_(-config.embedding_scale, config.embedding_scale, generator=generator)
            elif parameter.ndim == 1:
                parameter.zero_()
            else:
                bound = (3 / parameter.shape[1]) ** 0.5
                parameter.uniform_(-bound, bound, generator=generator)
        model.get_parameter("output.weight").mul_(config.output_scale)
        recurrent = model.get_parameter(f"{recurrence}.weight")
        if config.recurrence_init == "identity":
            nn.init.eye_(recurrent)
        elif config.recurrence_init == "orthogonal":
            nn.init.orthogonal_(recurrent, generator=generator)
        recurrent.mul_(config.recurrence_scale)


def word_log_frequencies(sentences: Sentences, vocabulary_size: int) -> torch.Tensor:
    """log of each word's share among the targets, END counted: (V,) float32, for the output bias as in DVSA section 6.

    A word that never occurs (`<unk>` may not) counts as seen half a time.
    """
    counts = np.bincount(sentences.tokens, minlength=vocabulary_size).astype(np.float64)
    counts[BOUNDARY_ID] += len(sentences)
    counts = np.maximum(counts, 0.5)
    return torch.from_numpy(np.log(counts / counts.sum())).float()
