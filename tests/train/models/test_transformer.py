"""The Transformer captioner against its equations, written out a word and a head at a time."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from mrnn.data.cache import FeatureCache
from mrnn.train.batches import pack
from mrnn.train.features import Features
from mrnn.train.models import transformer
from mrnn.train.models.transformer import Transformer
from mrnn.train.sentences import Sentences
from mrnn.train.tasks.captioning import batch_bits

Data = tuple[Sentences, Features, int]
Small = Callable[..., Transformer]


def norm(x: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5)


def attend(queries: list[np.ndarray], keys: list[np.ndarray], values: list[np.ndarray]) -> list[np.ndarray]:
    """One head: each position takes the values up to its own, in the measure of softmax(q . k / sqrt(d))."""
    found = []
    for t, query in enumerate(queries):
        weights = np.exp([query @ key / np.sqrt(len(query)) for key in keys[: t + 1]])
        found.append(sum(w * v for w, v in zip(weights / weights.sum(), values[: t + 1], strict=True)))
    return found


def state_by_the_equations(weights: dict[str, np.ndarray], words: list[int], *, layers: int, heads: int) -> np.ndarray:
    """norm(x(t)) of the last of some words."""
    x = [weights["embedding.weight"][word] + weights["positions"][t] for t, word in enumerate(words)]
    for n in range(layers):
        w_qkv, w_o, w_1, w_2 = (
            weights[f"layers.{n}.{name}.weight"] for name in ("queries_keys_values", "from_heads", "widen", "narrow")
        )
        q, k, v = (np.stack([matrix @ norm(y) for y in x]) for matrix in np.split(w_qkv, 3))  # (T, W)
        parts = np.split(np.arange(q.shape[1]), heads)
        seen = [attend([*q[:, part]], [*k[:, part]], [*v[:, part]]) for part in parts]
        x = [y + w_o @ np.concatenate([head[t] for head in seen]) for t, y in enumerate(x)]
        x = [y + w_2 @ np.maximum(w_1 @ norm(y), 0) for y in x]
    return norm(x[-1])


def bits_by_the_equations(model: Transformer, tokens: list[int], feature: np.ndarray) -> float:
    weights = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    image = weights["image_to_multimodal.weight"] @ (
        (feature - model.feature_mean.numpy()) * float(model.feature_scale)
    )
    config, bits, words = model.config, 0.0, [0, *tokens]
    for t, following in enumerate([*tokens, 0]):
        last = words[max(0, t + 1 - config.context) : t + 1]
        state = state_by_the_equations(weights, last, layers=config.layers, heads=config.heads)
        m = 1.7159 * np.tanh(2 / 3 * (weights["words_to_multimodal.weight"] @ state + image))
        logits = weights["output.weight"] @ m + weights["output.bias"]
        bits -= math.log2(np.exp(logits[following]) / np.exp(logits).sum())
    return bits


@pytest.mark.parametrize("context", [1, 8, 64])
def test_batch_equals_the_equations(small: Small, data: Data, cache: FeatureCache, context: int) -> None:
    """Also of sentences that are longer than the context."""
    sentences, features, vocabulary = data
    model = small("transformer", vocabulary, context=context).double()
    torch.nn.init.normal_(model.positions)
    model.feature_scale.fill_(0.25)
    model.feature_mean.uniform_()
    numbers = np.arange(3, 20)
    assert sentences.lengths[numbers].min() < 8 < sentences.lengths[numbers].max()
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


@pytest.mark.parametrize("read", [1, 12, 10_000])
def test_sentences_of_different_lengths_are_continued_together(
    small: Small, read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As well as each alone, whatever the number of words that are read at a time."""
    monkeypatch.setattr(transformer, "READ", read)
    model = small("transformer", 30, context=4).double().eval()
    memory, expected = [], []
    for sentence in ([0, 7, 8], [0], [0, 2, 3, 4, 5, 6], []):
        own = torch.zeros(1, model.memory_size, dtype=torch.double)
        for word in sentence:
            _, own = model.language(torch.tensor([word]), own)
        memory.append(own)
        expected.append(model.language(torch.tensor([9]), own))
    language, after = model.language(torch.tensor([9] * 4), torch.cat(memory))
    torch.testing.assert_close(language, torch.cat([each for each, _ in expected]), rtol=1e-12, atol=1e-14)
    assert torch.equal(after, torch.cat([each for _, each in expected]))
    assert after.tolist() == [[1, 8, 9, 10], [1, 10, 0, 0], [5, 6, 7, 10], [10, 0, 0, 0]]
