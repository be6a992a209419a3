"""Weights before training. The paper gives none of this; settings choose, dev perplexity decides."""

import numpy as np
import torch
from torch import nn

from mrnn.data.vocabulary import BOUNDARY_ID
from mrnn.train.batches import Sentences
from mrnn.train.models import MRNN

RECURRENCES = ("identity", "orthogonal", "uniform")


def initialise(
    model: MRNN,
    *,
    generator: torch.Generator,
    recurrence: str = "identity",
    recurrence_scale: float = 0.5,
    embedding_scale: float = 0.1,
    output_scale: float = 0.1,
) -> None:
    """Draw all weights of a model on the CPU from one generator.

    Embedding I is uniform in [-embedding_scale, embedding_scale]; every projection uniform in +-sqrt(3 / inputs), which
    keeps the variance, the output layer's times output_scale; the output bias 0. U is recurrence_scale times the
    identity (as ReLU networks want it: Le et al. 2015, arXiv 1504.00941), a random orthogonal matrix, or as the others.
    """
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if name == "embedding1.weight":
                parameter.uniform_(-embedding_scale, embedding_scale, generator=generator)
            elif name == "output.bias":
                parameter.zero_()
            else:
                bound = (3 / parameter.shape[1]) ** 0.5
                parameter.uniform_(-bound, bound, generator=generator)
        model.output.weight.mul_(output_scale)
        if recurrence == "identity":
            nn.init.eye_(model.recurrence.weight)
        elif recurrence == "orthogonal":
            nn.init.orthogonal_(model.recurrence.weight, generator=generator)
        model.recurrence.weight.mul_(recurrence_scale)


def word_log_frequencies(sentences: Sentences, vocabulary_size: int) -> torch.Tensor:
    """log of each word's share among the targets, END counted: (V,) float32, for the output bias as in DVSA section 6.

    A word that never occurs (`<unk>` may not) counts as seen half a time.
    """
    counts = np.bincount(sentences.tokens, minlength=vocabulary_size).astype(np.float64)
    counts[BOUNDARY_ID] += len(sentences)
    counts = np.maximum(counts, 0.5)
    return torch.from_numpy(np.log(counts / counts.sum())).float()
