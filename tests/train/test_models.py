import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mrnn.data.cache import FeatureCache
from mrnn.data.vocabulary import build_vocabulary
from mrnn.train import batches, products
from mrnn.train.batches import Batch, Features, Sentences, epoch_batches, pack, sentences_of, tokenized_sentences
from mrnn.train.initialise import initialise, word_log_frequencies
from mrnn.train.losses import batch_bits
from mrnn.train.models import MODELS, MRNN, MRNNConfig, RNNBase
from mrnn.train.models.layers import Dropout, recur_packed
from mrnn.train.validation import perplexity

SMALL = MRNNConfig(vocabulary=0 + 1, features=16, embedding1=5, embedding2=6, recurrent=6, multimodal=7, dropout=0.0)


@pytest.fixture(scope="module")
def data(cache: FeatureCache) -> tuple[Sentences, Features, int]:
    words, _ = tokenized_sentences(cache, cache.done("train"))
    vocabulary = build_vocabulary(words, cutoff=2)
    return sentences_of(cache, "train", vocabulary), Features(cache), len(vocabulary)


def small_model(vocabulary: int, kind: type[MRNN] = MRNN, **changes: float) -> MRNN:
    model = kind(replace(SMALL, vocabulary=vocabulary, **changes))
    initialise(model, generator=torch.Generator().manual_seed(1), recurrence="orthogonal", output_scale=1.0)
    return model


def bits_by_the_equations(model: MRNN, tokens: list[int], feature: np.ndarray) -> float:
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


def test_rows_that_round_a_batch_change_neither_cost_nor_gradients(
    data: tuple[Sentences, Features, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences, features, vocabulary = data
    measured = []
    for tokens, images in ((64, 16), (1, 1)):
        monkeypatch.setattr(batches, "TOKEN_ROWS", tokens)
        monkeypatch.setattr(batches, "IMAGE_ROWS", images)
        model = small_model(vocabulary).double()
        batch = pack(sentences, np.arange(3, 20), features)
        batch = replace(batch, features=batch.features.double())
        bits = batch_bits(model, batch)
        bits.backward()
        measured.append([len(batch.inputs) - batch.words, bits.detach(), *(p.grad for p in model.parameters())])
    (rest, *rounded), (none, *plain) = measured
    assert rest > 0
    assert none == 0
    torch.testing.assert_close(rounded, plain, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_gives_nearly_the_bits_of_float32(
    name: str, data: tuple[Sentences, Features, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "has_onednn", lambda tensor: False)  # as on a GPU
    sentences, features, vocabulary = data
    torch.manual_seed(0)
    model = MODELS[name](small_model(vocabulary).config)
    batch = pack(sentences, np.arange(64), features)
    exact = batch_bits(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = batch_bits(model, batch)
        hidden = model(batch.inputs, batch.sizes, batch.features, batch.image_of_token)
    assert hidden.dtype == torch.bfloat16
    assert rough.dtype == torch.float32
    assert rough.item() != exact.item()
    assert rough.item() == pytest.approx(exact.item(), rel=5e-3)
    wanted, got = (torch.autograd.grad(bits, tuple(model.parameters())) for bits in (exact, rough))
    for one, other in zip(wanted, got, strict=True):
        assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.999


def test_batch_equals_the_paper_written_out(data: tuple[Sentences, Features, int], cache: FeatureCache) -> None:
    sentences, features, vocabulary = data
    model = small_model(vocabulary).double()
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


def test_whole_gradient_against_finite_differences(data: tuple[Sentences, Features, int]) -> None:
    sentences, features, vocabulary = data
    model = small_model(vocabulary).double()
    batch = pack(sentences, np.array([2, 5, 11, 12]), features)
    batch = replace(batch, features=batch.features.double())
    batch_bits(model, batch).backward()
    generator, step = np.random.default_rng(0), 1e-6
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            used = torch.nonzero(parameter.grad.flatten())[:, 0].numpy()
            assert len(used), name
            for at in generator.choice(used, size=min(12, len(used)), replace=False):
                values = parameter.view(-1)
                before = values[at].item()
                values[at] = before + step
                up = batch_bits(model, batch).item()
                values[at] = before - step
                down = batch_bits(model, batch).item()
                values[at] = before
                slope = (up - down) / (2 * step)
                assert parameter.grad.view(-1)[at].item() == pytest.approx(slope, rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize("sizes", [[4], [3, 3, 1], [5, 4, 4, 2, 1, 1]])
def test_packed_recurrence_equals_steps_of_autograd(sizes: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    words = torch.randn(sum(sizes), 6, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    state, states = words.new_zeros(sizes[0], 6), []
    for step in words.split(sizes):
        state = torch.relu(state[: len(step)] @ weight.t() + step)
        states.append(state)
    expected = torch.cat(states)
    out = recur_packed(words, weight, sizes)
    torch.testing.assert_close(out, expected)
    upstream = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    ours = torch.autograd.grad(out, (words, weight), upstream)
    theirs = torch.autograd.grad(expected, (words, weight), upstream, allow_unused=True)
    torch.testing.assert_close(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], torch.zeros_like(weight) if theirs[1] is None else theirs[1])


def test_rnn_base_is_the_mrnn_without_an_image(data: tuple[Sentences, Features, int]) -> None:
    sentences, features, vocabulary = data
    full, base = small_model(vocabulary), small_model(vocabulary, RNNBase)
    base.load_state_dict({name: value for name, value in full.state_dict().items() if "image" not in name})
    batch = pack(sentences, np.arange(10), features)
    blind = replace(batch, features=torch.zeros_like(batch.features))
    assert batch_bits(base, batch).item() == batch_bits(full, blind).item()
    assert batch_bits(full, batch).item() != batch_bits(full, blind).item()


def test_untrained_perplexity_is_about_the_vocabulary_size(data: tuple[Sentences, Features, int]) -> None:
    sentences, features, _ = data
    model = MRNN(MRNNConfig(vocabulary=2000, features=16))
    initialise(model, generator=torch.Generator().manual_seed(0))
    assert perplexity(model, sentences, features).perplexity == pytest.approx(2000, rel=0.05)


def test_frequency_bias_makes_an_untrained_model_a_unigram_model(data: tuple[Sentences, Features, int]) -> None:
    sentences, features, vocabulary = data
    model = small_model(vocabulary)
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.copy_(word_log_frequencies(sentences, vocabulary))
    batch = pack(sentences, np.arange(len(sentences)), features)
    targets = batch.targets[: batch.words].numpy()
    shares = np.bincount(targets, minlength=vocabulary) / len(targets)
    entropy = -sum(share * math.log2(share) for share in shares if share)
    assert perplexity(model, sentences, features).bits == pytest.approx(entropy, rel=1e-3)


def test_dropout_keeps_the_mean_and_the_share_and_depends_on_the_seed() -> None:
    x = torch.ones(1000, 301)
    layer = Dropout(0.3)
    torch.manual_seed(5)
    first = layer(x)
    torch.manual_seed(5)
    assert torch.equal(first, layer(x))
    assert not torch.equal(first, layer(x))
    assert (first == 0).float().mean().item() == pytest.approx(0.3, abs=0.005)
    assert first.mean().item() == pytest.approx(1, abs=0.01)
    for column in range(0, 301, 25):  # no position of a draw is favoured
        assert (first[:, column] == 0).float().mean().item() == pytest.approx(0.3, abs=0.06)
    assert torch.equal(layer.eval()(x), x)


def test_dropout_gradient_follows_the_mask() -> None:
    x = torch.ones(50, 7, requires_grad=True)
    out = Dropout(0.5)(x)
    out.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, out.detach())


def test_dropout_acts_in_training_only(data: tuple[Sentences, Features, int]) -> None:
    sentences, features, vocabulary = data
    model = small_model(vocabulary, dropout=0.5, image_dropout=0.5)
    batch: Batch = next(epoch_batches(sentences, features, 16, seed=0, epoch=0))
    assert batch_bits(model, batch).item() != batch_bits(model, batch).item()
    model.eval()
    assert batch_bits(model, batch).item() == batch_bits(model, batch).item()
