"""The log-bilinear models against their equations, written out a word at a time."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from mrnn.data.cache import FeatureCache
from mrnn.train.batches import pack
from mrnn.train.features import Features
from mrnn.train.models import KINDS
from mrnn.train.models.log_bilinear import LBL, MLBLB, MLBLF
from mrnn.train.sentences import Sentences
from mrnn.train.tasks.captioning import batch_bits

Data = tuple[Sentences, Features, int]
Small = Callable[..., LBL]


def bits_by_the_equations(model: LBL, tokens: list[int], feature: np.ndarray) -> float:
    weights = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    context, width = model.config.context, model.config.embedding
    by_word = weights["output.weight"]  # R, or W_v
    vectors = by_word @ weights["word_to_factors.weight"] if isinstance(model, MLBLF) else by_word
    words, bits = [0] * context + tokens, 0.0
    for t, following in enumerate([*tokens, 0]):
        r = np.zeros(width)
        for i in range(context):
            r += weights["contexts.weight"][:, i * width : (i + 1) * width] @ vectors[words[t + i]]
        if isinstance(model, MLBLB):
            seen = (feature - model.feature_mean.numpy()) * float(model.feature_scale)
            x = np.maximum(weights["image_layer.weight"] @ seen + weights["image_layer.bias"], 0)
            r += weights["image_to_word.weight"] @ x
        if isinstance(model, MLBLF):
            r = (weights["word_to_factors.weight"] @ r) * (weights["image_to_factors.weight"] @ x)
        logits = by_word @ r + weights["output.bias"]
        bits -= math.log2(np.exp(logits[following]) / np.exp(logits).sum())
    return bits


@pytest.mark.parametrize("name", ["lbl", "mlbl-b", "mlbl-f"])
@pytest.mark.parametrize("context", [1, 5, 30])
def test_batch_equals_the_equations(name: str, context: int, small: Small, data: Data, cache: FeatureCache) -> None:
    sentences, features, vocabulary = data
    model = small(name, vocabulary, context=context, embedding_scale=1.0).double()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter)
    model.feature_scale.fill_(0.25)
    model.feature_mean.uniform_()
    numbers = np.arange(3, 20)
    expected = sum(
        bits_by_the_equations(
            model,
            sentences.tokens[sentences.starts[n] : sentences.starts[n + 1]].tolist(),
            cache.features[sentences.image[n]].astype(np.float64),
        )
        for n in numbers
    )
    for rectangular in (False, True):
        batch = pack(sentences, numbers, features, rectangular=rectangular)
        batch = replace(batch, features=batch.features.double())
        assert batch_bits(model, batch).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["lbl", "mlbl-b", "mlbl-f"])
def test_words_before_the_context_are_forgotten(name: str, small: Small) -> None:
    model = small(name, 30, context=3).eval()

    def after(words: list[int]) -> torch.Tensor:
        state = model.start(torch.ones(1, 16))
        for word in words:
            hidden, state = model.step(torch.tensor([word]), state)
        return hidden

    assert torch.equal(after([0, 5, 6, 7, 8]), after([0, 9, 6, 7, 8]))
    assert not torch.equal(after([0, 5, 6, 7, 8]), after([0, 5, 9, 7, 8]))


def test_the_papers_context_is_the_default() -> None:
    assert all(KINDS[name].config(2538, 4096).own_settings()["context"] == 5 for name in ("lbl", "mlbl-b", "mlbl-f"))
