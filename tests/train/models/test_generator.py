"""The DVSA generator against Eqs. 13 to 15, written out a word at a time."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from mrnn.data.cache import FeatureCache
from mrnn.train.batches import pack
from mrnn.train.features import Features
from mrnn.train.models import GeneratorConfig
from mrnn.train.models.captioner import Captioner
from mrnn.train.sentences import Sentences
from mrnn.train.tasks.captioning import batch_bits

Data = tuple[Sentences, Features, int]
Small = Callable[..., Captioner]


def bits_by_the_equations(model: Captioner, tokens: list[int], feature: np.ndarray) -> float:
    """Eqs. 13 to 15 for one sentence, in numpy: b_v enters at t = 1 only."""
    weights = {name: parameter.detach().double().numpy() for name, parameter in model.named_parameters()}
    image = weights["image_to_hidden.weight"] @ ((feature - model.feature_mean.numpy()) * float(model.feature_scale))
    h, bits = np.zeros(len(image)), 0.0
    for t, (word, following) in enumerate(zip([0, *tokens], [*tokens, 0], strict=True), start=1):
        x = weights["embedding.weight"][word]
        h = weights["word_to_hidden.weight"] @ x + weights["recurrence.weight"] @ h + weights["hidden_bias"]
        h = np.maximum(h + (image if t == 1 else 0), 0)
        logits = weights["output.weight"] @ h + weights["output.bias"]
        probabilities = np.exp(logits) / np.exp(logits).sum()
        bits -= math.log2(probabilities[following])
    return bits


def test_batch_equals_the_paper_written_out(small: Small, data: Data, cache: FeatureCache) -> None:
    sentences, features, vocabulary = data
    model = small("generator", vocabulary).double()
    torch.nn.init.normal_(model.get_parameter("hidden_bias"))
    model.feature_scale.fill_(0.25)
    model.feature_mean.uniform_()
    numbers = np.arange(3, 20)
    batch = pack(sentences, numbers, features)
    batch = replace(batch, features=batch.features.double())
    expected = sum(
        bits_by_the_equations(
            model,
            sentences.tokens[sentences.starts[n] : sentences.starts[n + 1]].tolist(),
            cache.features[sentences.image[n]].astype(np.float64),
        )
        for n in numbers
    )
    assert batch_bits(model, batch).item() == pytest.approx(expected, rel=1e-12)


def test_the_image_enters_at_the_first_step_only(small: Small, data: Data) -> None:
    sentences, features, vocabulary = data
    model = small("generator", vocabulary, recurrence_scale=0.0)  # without a recurrence nothing is handed on
    batch = pack(sentences, np.arange(8), features)
    changed = replace(batch, features=batch.features + 1)
    same = (model(batch) == model(changed)).all(dim=1)
    assert not same[: batch.sizes[0]].any()
    assert same[batch.sizes[0] : sum(batch.sizes)].all()


def test_the_papers_hidden_size_is_the_default() -> None:
    assert GeneratorConfig(2538, 4096).hidden == 512
