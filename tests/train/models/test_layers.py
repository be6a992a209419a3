"""Pieces of networks that are written out because that is faster, against autograd and their definitions."""

import pytest
import torch

from mrnn.train.models.layers import Dropout, ScaledTanh, recur_packed


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


def test_scaled_tanh_is_lecuns() -> None:
    x = torch.linspace(-9, 9, 1001, dtype=torch.float64)
    torch.testing.assert_close(ScaledTanh()(x), 1.7159 * torch.tanh(2 * x / 3), rtol=1e-13, atol=1e-14)
    assert ScaledTanh()(torch.ones(1)).item() == pytest.approx(1, abs=1e-4)  # what the constants are chosen for
