"""The gated recurrent layers against torch's own, and their two forms against each other."""

import pytest
import torch
from torch import nn

from mrnn.train.models.recurrences import GRU, LSTM, Gated, Plain

SIZES = [5, 4, 4, 2, 1, 1]
ORDER = {"gru": (1, 0, 2), "lstm": (1, 0, 3, 2)}  # torch's reset, update, new; and input, forget, new, output


@pytest.mark.parametrize(
    ("name", "ours", "theirs"), [("gru", GRU(3, 4), nn.GRU(3, 4)), ("lstm", LSTM(3, 4), nn.LSTM(3, 4))]
)
def test_packed_values_and_gradients_equal_those_of_torch(name: str, ours: Gated, theirs: nn.RNNBase) -> None:
    ours, theirs = ours.double(), theirs.double()
    generator = torch.Generator().manual_seed(0)
    for parameter in ours.parameters():
        nn.init.normal_(parameter, generator=generator)

    def in_their_order(tensor: torch.Tensor) -> torch.Tensor:
        parts = tensor.split(4)
        return torch.cat([parts[n] for n in ORDER[name]])

    with torch.no_grad():
        theirs.weight_ih_l0.copy_(in_their_order(ours.input.weight))
        theirs.weight_hh_l0.copy_(in_their_order(ours.weight))
        theirs.bias_ih_l0.copy_(in_their_order(ours.bias))
        theirs.bias_hh_l0.zero_()
        if name == "lstm":
            theirs.bias_hh_l0[4:8] = 1  # of the forget gate
    words = torch.randn(sum(SIZES) + 2, 3, generator=generator, dtype=torch.float64)
    found = ours.packed(words, SIZES)
    packed = nn.utils.rnn.PackedSequence(words[: sum(SIZES)], torch.tensor(SIZES))
    expected = theirs(packed)[0].data
    torch.testing.assert_close(found[: sum(SIZES)], expected)
    assert not found[sum(SIZES) :].any(), "rows that fill up the shape"
    upstream = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    mine = torch.autograd.grad(found[: sum(SIZES)], (ours.input.weight, ours.weight, ours.bias), upstream)
    others = torch.autograd.grad(expected, (theirs.weight_ih_l0, theirs.weight_hh_l0, theirs.bias_ih_l0), upstream)
    for one, other in zip(mine, others, strict=True):
        torch.testing.assert_close(in_their_order(one), other)


@pytest.mark.parametrize("layer", [Plain(4, 4), GRU(3, 4), LSTM(3, 4)], ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize("kind", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("sizes", [SIZES, [5, 5, 5], [2], [1, 1]], ids=str)
def test_packed_equals_step_after_step(layer: Plain | Gated, kind: torch.dtype, sizes: list[int]) -> None:
    """Values and gradients, also in float32, where an LSTM is computed by another library."""
    layer = layer.to(kind)
    generator = torch.Generator().manual_seed(1)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, generator=generator)
    width = 4 if isinstance(layer, Plain) else 3
    words = torch.randn(sum(sizes), width, generator=generator, dtype=kind).requires_grad_()
    memory, states = words.new_zeros(sizes[0], layer.memory_size), []
    for step in words.split(sizes):
        memory = layer.step(step, memory[: len(step)])
        states.append(memory[:, :4])
    found, expected = layer.packed(words, sizes), torch.cat(states)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if kind == torch.float32 else {"rtol": 1e-9, "atol": 1e-12}
    torch.testing.assert_close(found, expected, **tolerance)
    upstream = torch.randn(expected.shape, generator=generator, dtype=kind)
    wanted = (words, *layer.parameters())
    mine, others = (torch.autograd.grad(result, wanted, upstream, allow_unused=True) for result in (found, expected))
    for one, other in zip(mine, others, strict=True):
        # With a single step there is no r(t-1), so the gradient of its matrix is zero or absent.
        one, other = (torch.zeros(()) if gradient is None else gradient for gradient in (one, other))
        torch.testing.assert_close(one.expand_as(other), other.expand_as(one), **tolerance, check_dtype=False)


@pytest.mark.parametrize("layer", [GRU(3, 4), LSTM(3, 4)], ids=lambda layer: type(layer).__name__)
def test_the_loop_of_gpus_computes_the_same(layer: Gated) -> None:
    for parameter in layer.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(2))
    words = torch.randn(sum(SIZES) + 2, 3, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(Gated.packed(layer, words, SIZES), layer.packed(words, SIZES), rtol=1e-4, atol=1e-5)


def test_an_untrained_lstm_remembers() -> None:
    layer = LSTM(3, 4)
    memory = layer.step(torch.zeros(1, 3), torch.tensor([[0.0] * 4 + [1.0] * 4]))
    assert memory[0, 4:].tolist() == pytest.approx([torch.tensor(1.0).sigmoid().item()] * 4)
