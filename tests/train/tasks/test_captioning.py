import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import SettingError
from mrnn.data.vocabulary import BOUNDARY_ID, UNKNOWN_ID, build_vocabulary
from mrnn.train.batches import CaptionBatch, pack
from mrnn.train.features import Features
from mrnn.train.initialise import word_log_frequencies
from mrnn.train.models import MRNNConfig
from mrnn.train.models.mrnn import MRNN
from mrnn.train.prepare import prepare
from mrnn.train.sentences import encode_sentences, sentences_of, tokenized_sentences
from mrnn.train.settings import RunOptions, TrainSettings
from mrnn.train.tasks.captioning import Captioning, batch_bits, drop_words, perplexity


def test_perplexity_word_by_word(cache: FeatureCache) -> None:
    vocabulary = build_vocabulary(tokenized_sentences(cache, cache.done("train"))[0], cutoff=30)
    sentences, features = sentences_of(cache, "val", vocabulary), Features(cache)
    model = MRNN(MRNNConfig(len(vocabulary), 16, 5, 6, 6, 7, embedding_scale=1.0, output_scale=1.0))
    model.initialise(torch.Generator().manual_seed(1))
    model.train()
    found = perplexity(model, sentences, features, batch_size=7)
    assert model.training

    model.eval()
    bits, known = [], []
    for n in range(len(sentences)):
        words = sentences.tokens[sentences.starts[n] : sentences.starts[n + 1]].tolist()
        image, state = model.image(features[sentences.image[n : n + 1]]), torch.zeros(1, 6)
        for word, target in zip([0, *words], [*words, 0], strict=True):
            w = model.words(torch.tensor([word]))
            state = model.recur(w, state)
            logits = model.output(model.fuse(model.combine(w, state), image))
            bits.append(functional.cross_entropy(logits, torch.tensor([target])).item() / math.log(2))
            known.append(target != UNKNOWN_ID)
    assert found.tokens == len(bits)
    assert found.unknown == len(bits) - sum(known) > 0
    assert found.bits == pytest.approx(np.mean(bits), rel=1e-5)
    assert found.perplexity == pytest.approx(2 ** np.mean(bits), rel=1e-5)
    assert found.perplexity_known == pytest.approx(2 ** np.mean(np.array(bits)[known]), rel=1e-5)
    assert found.bits == pytest.approx(perplexity(model, sentences, features, batch_size=1).bits, rel=1e-6)


def test_no_sentences_is_an_error(cache: FeatureCache) -> None:
    vocabulary = build_vocabulary([["a"]], cutoff=1)
    model = MRNN(MRNNConfig(len(vocabulary), 16, 5, 6, 6, 7))
    with pytest.raises(ValueError, match="no sentences"):
        perplexity(model, encode_sentences([], np.zeros(0, dtype=np.int64), vocabulary), Features(cache))


def test_frequency_bias_makes_an_untrained_model_a_unigram_model(cache: FeatureCache) -> None:
    vocabulary = build_vocabulary(tokenized_sentences(cache, cache.done("train"))[0], cutoff=2)
    sentences, features = sentences_of(cache, "train", vocabulary), Features(cache)
    model = MRNN(MRNNConfig(len(vocabulary), 16, 5, 6, 6, 7))
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.copy_(word_log_frequencies(sentences, len(vocabulary)))
    batch = pack(sentences, np.arange(len(sentences)), features)
    targets = batch.targets[: batch.count].numpy()
    shares = np.bincount(targets, minlength=len(vocabulary)) / len(targets)
    entropy = -sum(share * math.log2(share) for share in shares if share)
    assert perplexity(model, sentences, features).bits == pytest.approx(entropy, rel=1e-3)


def make_task(tiny: TrainSettings, **changes: Any) -> Captioning:
    return Captioning(tiny.but(dropout=0.0, image_dropout=0.0, **changes))


def whole_split(cache: FeatureCache) -> tuple[MRNN, CaptionBatch]:
    vocabulary = build_vocabulary(tokenized_sentences(cache, cache.done("train"))[0], cutoff=2)
    model = MRNN(MRNNConfig(len(vocabulary), 16, 5, 6, 6, 7, dropout=0.0, image_dropout=0.0, output_scale=1.0))
    model.initialise(torch.Generator().manual_seed(1))
    sentences = sentences_of(cache, "train", vocabulary)
    return model, pack(sentences, np.arange(len(sentences)), Features(cache))


def test_label_smoothing_spreads_the_target_over_all_words(cache: FeatureCache, tiny: TrainSettings) -> None:
    model, batch = whole_split(cache)
    plain = make_task(tiny).cost(model, batch).item()
    assert plain == batch_bits(model, batch).item()
    every = torch.log_softmax(model.output(model(batch)), 1)[batch.targets >= 0].mean(1).sum().item() / -math.log(2)
    smoothed = make_task(tiny, label_smoothing=0.2).cost(model, batch).item()
    assert smoothed == pytest.approx(0.8 * plain + 0.2 * every, rel=1e-5)


def test_word_dropout_replaces_words_that_are_read_but_not_start_or_targets(
    cache: FeatureCache, tiny: TrainSettings
) -> None:
    model, batch = whole_split(cache)
    torch.manual_seed(0)
    inputs = drop_words(batch.inputs, 0.3)
    words = batch.inputs != BOUNDARY_ID
    assert torch.equal(inputs[~words], batch.inputs[~words])
    replaced = inputs != batch.inputs
    assert set(inputs[replaced].tolist()) == {UNKNOWN_ID}
    assert replaced.sum().item() == pytest.approx(0.3 * words.sum().item(), rel=0.15)
    torch.manual_seed(0)
    cost = make_task(tiny, word_dropout=0.3).cost(model, batch).item()
    assert cost == batch_bits(model, replace(batch, inputs=inputs)).item() != batch_bits(model, batch).item()


@pytest.mark.parametrize("changes", [{"label_smoothing": 0.1}, {"word_dropout": 0.2}], ids=str)
def test_validation_stays_plain(changes: dict[str, float], cache: FeatureCache, tiny: TrainSettings) -> None:
    quiet = RunOptions(device="cpu", tensorboard=False)
    runs = [prepare(cache, tiny.but(**more), quiet, last=None, report=lambda line: None) for more in ({}, changes)]
    plain, changed = (training.task.validate(training.model, training.data) for training in runs)
    assert plain == changed


@pytest.mark.parametrize("name", ["label_smoothing", "word_dropout"])
def test_levers_of_captioners_are_refused_for_models_that_match(name: str) -> None:
    with pytest.raises(SettingError, match=rf"{name} is for captioners \(mrnn.*\), not alignment"):
        TrainSettings.of(model="alignment", **{name: 0.1})
