"""m-RNN against the paper's equations, written out a word at a time."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import SettingError
from mrnn.train.batches import pack
from mrnn.train.features import Features
from mrnn.train.models import ImageRecurrentConfig, MRNNConfig
from mrnn.train.models.captioner import Captioner
from mrnn.train.sentences import Sentences
from mrnn.train.tasks.captioning import batch_bits
from tests.variants import VARIANTS

Data = tuple[Sentences, Features, int]
Weights = dict[str, np.ndarray]
Vectors = tuple[np.ndarray, np.ndarray]
Small = Callable[..., Captioner]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def recurrent_step(kind: str, weights: Weights, w: np.ndarray, r: np.ndarray, c: np.ndarray) -> Vectors:
    """r(t) and the cell of an LSTM, by the equations in mrnn.train.models.recurrences."""
    if kind == "plain":
        return np.maximum(weights["recurrence.weight"] @ r + w, 0), c
    of_word = weights["recurrence.input.weight"] @ w + weights["recurrence.bias"]
    of_state = weights["recurrence.weight"] @ r
    if kind == "gru":
        (z, s, n), (of_z, of_s, of_n) = np.split(of_word, 3), np.split(of_state, 3)
        z, s = sigmoid(z + of_z), sigmoid(s + of_s)
        return z * r + (1 - z) * np.tanh(n + s * of_n), c
    f, i, o, n = np.split(of_word + of_state, 4)
    c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(n)
    return sigmoid(o) * np.tanh(c), c


def bits_by_the_equations(model: Captioner, tokens: list[int], feature: np.ndarray) -> float:
    """Section A1 of the paper for one sentence, a word at a time, in numpy; and the variants of the later papers."""
    weights = {name: parameter.detach().double().numpy() for name, parameter in model.named_parameters()}
    config = model.config
    assert isinstance(config, MRNNConfig)
    r = c = np.zeros(config.recurrent)
    image, bits = (feature - model.feature_mean.numpy()) * float(model.feature_scale), 0.0
    if config.share_words:
        output = weights["embedding1.weight"] @ weights["output.projection.weight"]
    else:
        output = weights["output.weight"]
    into_recurrence = np.zeros(config.embedding2)
    if "image_to_recurrent.weight" in weights:
        into_recurrence = weights["image_to_recurrent.weight"] @ image
    elif getattr(config, "image_into", "") == "both-shared":
        into_recurrence = weights["image_to_multimodal.weight"][: config.embedding2] @ image
    for word, following in zip([0, *tokens], [*tokens, 0], strict=True):
        w = weights["embedding1.weight"][word]
        if config.embedding1:
            w = weights["embedding2.weight"] @ w
        r, c = recurrent_step(config.recurrence, weights, w + into_recurrence, r, c)
        x = weights["recurrent_to_multimodal.weight"] @ r
        if config.word_path:
            x += weights["word_to_multimodal.weight"] @ w
        if "image_to_multimodal.weight" in weights:
            x += weights["image_to_multimodal.weight"] @ image
        m = 1.7159 * np.tanh(2 * x / 3)
        logits = output @ m + weights["output.bias"]
        probabilities = np.exp(logits) / np.exp(logits).sum()
        bits -= math.log2(probabilities[following])
    return bits


@pytest.mark.parametrize("name", ["mrnn", "rnn-base", "mrnn-image-recurrent", *VARIANTS])
def test_batch_equals_the_paper_written_out(name: str, small: Small, data: Data, cache: FeatureCache) -> None:
    sentences, features, vocabulary = data
    model = small(name, vocabulary).double()
    for parameter in model.parameters():  # biases too, which start at 0
        torch.nn.init.normal_(parameter, std=0.5)
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


def test_the_defaults_are_the_network_of_2014(small: Small) -> None:
    assert {name: tuple(parameter.shape) for name, parameter in small("mrnn", 9).named_parameters()} == {
        "embedding1.weight": (9, 5),
        "embedding2.weight": (6, 5),
        "recurrence.weight": (6, 6),
        "word_to_multimodal.weight": (7, 6),
        "recurrent_to_multimodal.weight": (7, 6),
        "image_to_multimodal.weight": (7, 16),
        "output.weight": (9, 7),
        "output.bias": (9,),
    }


def test_image_and_recurrence_of_every_width_that_fits_and_no_other() -> None:
    ImageRecurrentConfig(9, 4, 5, 6, 8, 6, recurrence="gru", image_into="both-shared")
    with pytest.raises(SettingError, match="both-shared needs a multimodal layer"):
        ImageRecurrentConfig(9, 4, 5, 7, 8, 6, recurrence="gru", image_into="both-shared")
    with pytest.raises(SettingError, match="as wide as the recurrent layer"):
        MRNNConfig(9, 4, 0, 6, 8, 7)
    with pytest.raises(SettingError, match="recurrence must be one of plain, gru, lstm"):
        MRNNConfig(9, 4, recurrence="rnn")


def test_rnn_base_is_the_mrnn_without_an_image(small: Small, data: Data) -> None:
    sentences, features, vocabulary = data
    full, base = small("mrnn", vocabulary), small("rnn-base", vocabulary)
    base.load_state_dict({name: value for name, value in full.state_dict().items() if "image" not in name})
    batch = pack(sentences, np.arange(10), features)
    blind = replace(batch, features=torch.zeros_like(batch.features))
    assert batch_bits(base, batch).item() == batch_bits(full, blind).item()
    assert batch_bits(full, batch).item() != batch_bits(full, blind).item()
