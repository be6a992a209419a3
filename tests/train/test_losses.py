import math

import pytest
import torch
from torch.nn import functional

from mrnn.train import losses
from mrnn.train.losses import linear_cross_entropy, token_bits


def problem(tokens: int = 23, width: int = 7, words: int = 31, scale: float = 1.0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return (scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).requires_grad_()

    return (
        normal(tokens, width),
        normal(words, width),
        normal(words),
        torch.randint(words, (tokens,), generator=generator),
    )


@pytest.mark.parametrize("chunk", [1, 31 * 5, 31 * 23, 10**6])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_and_gradients_are_those_of_cross_entropy_in_bits(
    chunk: int, smoothing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(losses.CHUNK, "cpu", chunk)
    hidden, weight, bias, targets = problem()
    targets[4] = -1  # ignored
    logits = functional.linear(hidden, weight, bias)
    each = functional.cross_entropy(logits, targets, reduction="none", ignore_index=-1, label_smoothing=smoothing)
    plain = each.sum() / math.log(2)
    expected = torch.autograd.grad(0.3 * plain, (hidden, weight, bias))
    fused = linear_cross_entropy(hidden, weight, bias, targets, smoothing=smoothing)
    torch.testing.assert_close(fused, plain, rtol=1e-12, atol=0)
    for ours, theirs in zip(torch.autograd.grad(0.3 * fused, (hidden, weight, bias)), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)
    if not smoothing:
        counted = token_bits(hidden, weight, bias, targets)[targets >= 0]
        torch.testing.assert_close(counted.sum(), plain.detach(), rtol=1e-12, atol=0)


def test_a_second_backward_pass_is_refused_not_wrong() -> None:
    hidden, weight, bias, targets = problem()
    bits = linear_cross_entropy(hidden, weight, bias, targets)
    bits.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="only once"):
        bits.backward()


def test_no_more_than_a_chunk_of_logits_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(losses.CHUNK, "cpu", 31 * 4)
    chunks = list(losses._chunks(torch.zeros(23, 7), 31))
    assert max(rows.stop - rows.start for rows in chunks) == 4
    assert [row for rows in chunks for row in range(rows.start, rows.stop)] == list(range(23))


def test_hopeless_targets_cost_a_finite_number_of_bits() -> None:
    hidden, weight, bias, targets = (x.float() if x.is_floating_point() else x for x in problem(scale=60.0))
    each = token_bits(hidden.detach(), weight.detach(), bias.detach(), targets)
    expected = functional.cross_entropy(functional.linear(hidden, weight, bias), targets, reduction="none") / math.log(
        2
    )
    assert each.max() > 1000  # probability 2 ** -1000 is 0 in float32
    torch.testing.assert_close(each, expected.detach())
    assert math.isfinite(linear_cross_entropy(hidden, weight, bias, targets).item())
