"""The gated recurrent layers against torch's own."""

import pytest
import torch
from torch import nn

from mrnn.train.models.recurrences import GRU, LSTM, Gated

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


def test_an_untrained_lstm_remembers() -> None:
    layer = LSTM(3, 4)
    memory = layer.step(torch.zeros(1, 3), torch.tensor([[0.0] * 4 + [1.0] * 4]))
    assert memory[0, 4:].tolist() == pytest.approx([torch.tensor(1.0).sigmoid().item()] * 4)
