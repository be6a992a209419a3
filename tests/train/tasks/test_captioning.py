import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from mrnn.data.cache import FeatureCache
from mrnn.data.vocabulary import UNKNOWN_ID, build_vocabulary
from mrnn.train.batches import pack
from mrnn.train.features import Features
from mrnn.train.initialise import word_log_frequencies
from mrnn.train.models import MRNNConfig
from mrnn.train.models.mrnn import MRNN
from mrnn.train.sentences import encode_sentences, sentences_of, tokenized_sentences
from mrnn.train.tasks.captioning import perplexity


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
