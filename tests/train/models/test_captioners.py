"""What every captioner must be: a property of each kind in CAPTIONERS, and of the variants of m-RNN."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from mrnn.train import batches, products
from mrnn.train.batches import epoch_batches, pack
from mrnn.train.features import Features
from mrnn.train.models import CAPTIONERS, KINDS
from mrnn.train.models.captioner import Captioner, LateFusion, select
from mrnn.train.sentences import Sentences
from mrnn.train.tasks.captioning import batch_bits, perplexity
from tests.variants import VARIANTS

Data = tuple[Sentences, Features, int]
Small = Callable[..., Captioner]
EVERY = (*CAPTIONERS, *VARIANTS)


def is_late_fusion(name: str) -> bool:
    kind = KINDS[name.split(" ")[0]]
    return isinstance(kind.build(kind.config(2, 1)), LateFusion)


@pytest.mark.parametrize("name", EVERY)
def test_steps_equal_the_packed_pass(name: str, small: Small, data: Data) -> None:
    """forward() of a batch and step() word by word give the same hidden vectors."""
    sentences, features, vocabulary = data
    model = small(name, vocabulary).double().eval()
    model.feature_mean.uniform_()
    batch = pack(sentences, np.arange(3, 20), features)
    batch = replace(batch, features=batch.features.double())
    packed = model(batch)
    first = batch.sizes[0]
    state, start = model.start(batch.features[batch.image_of_token[:first]]), 0
    for size in batch.sizes:
        state = select(state, torch.arange(size))  # the sentences that go on are the first ones
        hidden, state = model.step(batch.inputs[start : start + size], state)
        torch.testing.assert_close(hidden, packed[start : start + size], rtol=1e-12, atol=1e-14)
        start += size


@pytest.mark.parametrize("name", EVERY)
def test_a_word_changes_nothing_before_it(name: str, small: Small, data: Data) -> None:
    sentences, features, vocabulary = data
    model = small(name, vocabulary).double().eval()
    batch = pack(sentences, np.arange(3, 20), features)
    batch = replace(batch, features=batch.features.double())
    first, after = sum(batch.sizes[:4]), sum(batch.sizes[:5])
    words = batch.inputs.clone()
    words[first:] = (words[first:] + 1) % vocabulary
    before, now = model(batch), model(replace(batch, inputs=words))
    torch.testing.assert_close(now[:first], before[:first], rtol=1e-12, atol=1e-14)
    assert ((now - before)[first:after].abs().amax(1) > 1e-6).all(), "the changed words do change what follows them"


@pytest.mark.parametrize("name", EVERY)
def test_another_image_changes_every_sentence_if_images_are_seen(name: str, small: Small, data: Data) -> None:
    sentences, features, vocabulary = data
    model = small(name, vocabulary).eval()
    batch = pack(sentences, np.arange(3, 20), features)
    other = replace(batch, features=batch.features.roll(1, 0) + 1)
    first = batch.sizes[0]
    changed = (model(batch) != model(other)).any(1)[:first]
    assert changed.tolist() == [model.sees_images] * first


@pytest.mark.parametrize("name", [*filter(is_late_fusion, EVERY)])
def test_late_fusion_is_the_step_in_two_halves(name: str, small: Small, data: Data) -> None:
    _, features, vocabulary = data
    model = small(name, vocabulary).eval()
    assert isinstance(model, LateFusion)
    words, stored = torch.tensor([4, 5, 6]), features[np.arange(3)]
    hidden, (_, memory) = model.step(words, model.start(stored))
    language, alone = model.language(words, torch.zeros(3, model.memory_size))
    assert torch.equal(alone, memory)
    assert torch.equal(model.fusion(language + model.image(stored)), hidden)


@pytest.mark.parametrize("name", EVERY)
def test_rows_that_round_a_batch_change_neither_cost_nor_gradients(
    name: str, small: Small, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences, features, vocabulary = data
    measured = []
    for tokens, images in ((64, 16), (1, 1)):
        monkeypatch.setattr(batches, "TOKEN_ROWS", tokens)
        monkeypatch.setattr(batches, "IMAGE_ROWS", images)
        model = small(name, vocabulary).double()
        batch = pack(sentences, np.arange(3, 20), features)
        batch = replace(batch, features=batch.features.double())
        bits = batch_bits(model, batch)
        bits.backward()
        measured.append([len(batch.inputs) - batch.count, bits.detach(), *(p.grad for p in model.parameters())])
    (rest, *rounded), (none, *plain) = measured
    assert rest > 0
    assert none == 0
    torch.testing.assert_close(rounded, plain, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", EVERY)
def test_bfloat16_gives_nearly_the_bits_of_float32(
    name: str, small: Small, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "has_onednn", lambda tensor: False)  # as on a GPU
    sentences, features, vocabulary = data
    model = small(name, vocabulary)
    batch = pack(sentences, np.arange(64), features)
    exact = batch_bits(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = batch_bits(model, batch)
        hidden = model(batch)
    assert hidden.dtype == torch.bfloat16
    assert rough.dtype == torch.float32
    assert rough.item() != exact.item()
    assert rough.item() == pytest.approx(exact.item(), rel=5e-3)
    wanted, got = (torch.autograd.grad(bits, tuple(model.parameters())) for bits in (exact, rough))
    for one, other in zip(wanted, got, strict=True):
        assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.999


@pytest.mark.parametrize("name", EVERY)
def test_whole_gradient_against_finite_differences(name: str, small: Small, data: Data) -> None:
    sentences, features, vocabulary = data
    model = small(name, vocabulary).double()
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


@pytest.mark.parametrize("name", EVERY)
def test_untrained_perplexity_is_about_the_vocabulary_size(name: str, small: Small, data: Data) -> None:
    sentences, features, _ = data
    model = small(name, 2000, output_scale=0.1, recurrence_init="identity", embedding_scale=0.05)
    assert perplexity(model, sentences, features).perplexity == pytest.approx(2000, rel=0.05)


@pytest.mark.parametrize("name", EVERY)
def test_dropout_acts_in_training_only(name: str, small: Small, data: Data) -> None:
    sentences, features, vocabulary = data
    model = small(name, vocabulary, dropout=0.5, image_dropout=0.5)
    batch = next(epoch_batches(sentences, features, 16, seed=0, epoch=0))
    assert batch_bits(model, batch).item() != batch_bits(model, batch).item()
    model.eval()
    assert batch_bits(model, batch).item() == batch_bits(model, batch).item()
