"""The recurrent layers of m-RNN: the plain one of 2014, and the GRU and the LSTM of the papers that followed it.

Each offers one step and the pass over packed sentences. A gated layer passes over them in a loop over the same step,
which CUDA graphs record as they record the plain layer. On a CPU an LSTM leaves the pass to torch, whose fused layer is
faster; torch's GRU is not (docs/performance.md).

The memory is what a layer carries from word to word. Its first `width` numbers are r(t), all that the multimodal layer
sees.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from mrnn.train.models.layers import Projection, ScaledTanh, recur_packed
from mrnn.train.products import linear

tanh = ScaledTanh(inner=1.0, outer=1.0)


class Plain(Projection):
    """r(t) = ReLU(U r(t-1) + w(t)): no input matrix and no bias, so w(t) is as wide as r(t)."""

    def __init__(self, inputs: int, width: int) -> None:
        assert inputs == width  # MRNNConfig sees to it
        super().__init__(width, width)
        self.memory_size = width

    def step(self, words: Tensor, memory: Tensor) -> Tensor:
        """The memory after a word: two (B, H) -> (B, H)."""
        return torch.relu(self(memory) + words)

    def packed(self, words: Tensor, sizes: Sequence[int]) -> Tensor:
        """See mrnn.train.models.layers.recur_packed."""
        return recur_packed(words, self.weight, sizes)


class Gated(nn.Module):
    """What GRU and LSTM share: gates of w(t) and r(t-1), each with a matrix for either and a bias.

    inputs : width of w(t).
    width : H, width of r(t).
    """

    gates: int
    vectors = 1  # of width H that make up the memory

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.width, self.memory_size = width, self.vectors * width
        self.input = Projection(inputs, self.gates * width)
        self.weight = nn.Parameter(torch.zeros(self.gates * width, width))
        self.bias = nn.Parameter(torch.zeros(self.gates * width))

    def step(self, words: Tensor, memory: Tensor) -> Tensor:
        """The memory after a word: (B, inputs), (B, memory_size) -> (B, memory_size)."""
        return self.advance(self._of_words(words), memory)

    def packed(self, words: Tensor, sizes: Sequence[int]) -> Tensor:
        """r(t) of packed sentences from an empty memory.

        words : (P, inputs), w(t) step after step.
        sizes : number of rows of each step, never increasing. Rows beyond their sum only fill up the shape.

        Returns (P, H) in the same order; 0 in the rows that fill up the shape.
        """
        rest = len(words) - sum(sizes)
        *steps, _ = self._of_words(words).split([*sizes, rest])  # one product for all steps
        memory, states = words.new_zeros(sizes[0], self.memory_size), []
        for step in steps:
            memory = self.advance(step, memory[: len(step)])  # the sentences that go on are the first ones
            states.append(memory[:, : self.width])
        return torch.cat([*states, states[0].new_zeros(rest, self.width)])

    @abstractmethod
    def advance(self, inputs: Tensor, memory: Tensor) -> Tensor:
        """The memory after a word, from W w(t) + b of all gates: (B, gates * H), (B, memory_size) -> the latter."""

    def _of_words(self, words: Tensor) -> Tensor:
        gates = self.input(words)
        return gates + self.bias.to(gates.dtype)


class GRU(Gated):
    """Gated recurrent unit (Cho et al. 2014, arXiv 1406.1078), as nn.GRU computes it but for its second bias.

    z = sigmoid(W_z w + U_z r + b_z),  s = sigmoid(W_s w + U_s r + b_s),  n = tanh(W_n w + b_n + s (U_n r))
    r(t) = z r + (1 - z) n                                                   with w = w(t), r = r(t-1)
    """

    gates = 3

    def advance(self, inputs: Tensor, memory: Tensor) -> Tensor:
        """See `Gated`; the gates are z, s, n."""
        recurrent, width = linear(memory, self.weight), 2 * self.width
        update, reset = torch.sigmoid(inputs[:, :width] + recurrent[:, :width]).chunk(2, dim=1)
        candidate = tanh(inputs[:, width:] + reset * recurrent[:, width:])
        return candidate + update * (memory - candidate)


class LSTM(Gated):
    """Long short-term memory with a forget gate (Gers et al. 2000), as nn.LSTM computes it; memory [r, c].

        i, f, o = sigmoid(W w + U r + b),  n = tanh(W_n w + U_n r + b_n)         with w = w(t), r = r(t-1)
        c(t) = f c(t-1) + i n,  r(t) = o tanh(c(t))

    1 is added to the argument of f, so that an untrained layer remembers (Jozefowicz et al. 2015).
    """

    gates, vectors = 4, 2

    def packed(self, words: Tensor, sizes: Sequence[int]) -> Tensor:
        """See `Gated`."""
        if words.device.type != "cpu":
            return super().packed(words, sizes)
        # torch fuses (by oneDNN) the layer of a full table only. What is computed after the end of a sentence is left
        # out again; batches hold sentences of similar lengths, so it is little.
        table, lengths = pad_packed_sequence(PackedSequence(words[: sum(sizes)], torch.tensor(sizes)))
        inputs, recurrent, bias = map(_in_torch_order, (self.input.weight, self.weight, self.bias))
        one = functional.pad(bias.new_ones(self.width), (self.width, 2 * self.width))  # as in `advance`
        empty = table.new_zeros(1, sizes[0], self.width)
        states = torch.lstm(
            table,
            [empty, empty],
            [inputs, recurrent, bias, one],
            has_biases=True,
            num_layers=1,
            dropout=0.0,
            train=self.training,
            bidirectional=False,
            batch_first=False,
        )[0]
        states = pack_padded_sequence(states, lengths).data
        return functional.pad(states, (0, 0, 0, len(words) - len(states)))

    def advance(self, inputs: Tensor, memory: Tensor) -> Tensor:
        """See `Gated`; the gates are f, i, o, n."""
        width = self.width
        before, cell = memory.chunk(2, dim=1)
        gates = inputs + linear(before, self.weight)
        forget = torch.sigmoid(gates[:, :width] + 1)
        let_in, let_out = torch.sigmoid(gates[:, width : 3 * width]).chunk(2, dim=1)
        cell = forget * cell + let_in * tanh(gates[:, 3 * width :])
        return torch.cat([let_out * tanh(cell), cell], dim=1)


def _in_torch_order(parameter: Tensor) -> Tensor:
    """A parameter of `LSTM` with its gates f, i, o, n in the order i, f, n, o of torch.lstm."""
    forget, let_in, let_out, candidate = parameter.chunk(4)
    return torch.cat([let_in, forget, candidate, let_out])


LAYERS: dict[str, type[Plain | Gated]] = {"plain": Plain, "gru": GRU, "lstm": LSTM}
