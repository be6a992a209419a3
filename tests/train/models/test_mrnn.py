"""m-RNN against the paper's equations, written out a word at a time."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from mrnn.data.cache import FeatureCache
from mrnn.train.batches import pack
from mrnn.train.features import Features
from mrnn.train.models.captioner import Captioner
from mrnn.train.sentences import Sentences
from mrnn.train.tasks.captioning import batch_bits

Data = tuple[Sentences, Features, int]
Small = Callable[..., Captioner]


def bits_by_the_equations(model: Captioner, tokens: list[int], feature: np.ndarray) -> float:
    """Section A1 of the paper for one sentence, a word at a time, in numpy."""
    weights = {name: parameter.detach().double().numpy() for name, parameter in model.named_parameters()}
    r, bits = np.zeros(weights["recurrence.weight"].shape[0]), 0.0
    for word, following in zip([0, *tokens], [*tokens, 0], strict=True):
        w = weights["embedding2.weight"] @ weights["embedding1.weight"][word]
        r = np.maximum(weights["recurrence.weight"] @ r + w, 0)
        x = weights["word_to_multimodal.weight"] @ w + weights["recurrent_to_multimodal.weight"] @ r
        image = (feature - model.feature_mean.numpy()) * float(model.feature_scale)
        x += weights["image_to_multimodal.weight"] @ image
        m = 1.7159 * np.tanh(2 * x / 3)
        logits = weights["output.weight"] @ m + weights["output.bias"]
        probabilities = np.exp(logits) / np.exp(logits).sum()
        bits -= math.log2(probabilities[following])
    return bits


def test_batch_equals_the_paper_written_out(small: Small, data: Data, cache: FeatureCache) -> None:
    sentences, features, vocabulary = data
    model = small("mrnn", vocabulary).double()
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


def test_rnn_base_is_the_mrnn_without_an_image(small: Small, data: Data) -> None:
    sentences, features, vocabulary = data
    full, base = small("mrnn", vocabulary), small("rnn-base", vocabulary)
    base.load_state_dict({name: value for name, value in full.state_dict().items() if "image" not in name})
    batch = pack(sentences, np.arange(10), features)
    blind = replace(batch, features=torch.zeros_like(batch.features))
    assert batch_bits(base, batch).item() == batch_bits(full, blind).item()
    assert batch_bits(full, batch).item() != batch_bits(full, blind).item()
