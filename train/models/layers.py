"""Pieces of the network that are written out because that is faster; benchmarks/training.py has the ratios."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from mrnn.train.products import linear, product, weight_gradient


def recur_packed(words: Tensor, weight: Tensor, sizes: Sequence[int]) -> Tensor:
    """r(t) = ReLU(U r(t-1) + w(t)) of packed sentences from r(0) = 0, differentiable once.

    words : (P, H), w(t) step after step. weight : (H, H), U. sizes : rows of each step, never rising; rows beyond
    their sum are first steps of no consequence. Returns (P, H).
    The gradient of U is one matrix product over all steps, where autograd would take one a step.
    """
    states: Tensor = _PackedRecurrence.apply(words, weight, sizes)
    return states


class _PackedRecurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, words: Tensor, weight: Tensor, sizes: Sequence[int]) -> Tensor:
        with torch.autocast(words.device.type, enabled=False):
            factor = weight.to(words.dtype)
            states = torch.relu(words)  # all that the first step needs; the others are overwritten
            previous = states[: sizes[0]]
            start = sizes[0]
            for size in sizes[1:]:
                state = states[start : start + size]
                torch.add(words[start : start + size], product(previous[:size], factor), out=state)
                previous = state.relu_()
                start += size
        ctx.save_for_backward(states, factor)
        ctx.sizes, ctx.weight_dtype = list(sizes), weight.dtype  # type: ignore[attr-defined]
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        states, factor = ctx.saved_tensors  # type: ignore[attr-defined]
        sizes: list[int] = ctx.sizes  # type: ignore[attr-defined]
        delta = gradients[0].clone(memory_format=torch.contiguous_format)  # of ReLU's argument, from the last step on
        end = sum(sizes)
        through_relu(delta[end:], states[end:])
        for size, before in zip(sizes[:0:-1], sizes[-2::-1], strict=True):
            start = end - size
            through_relu(delta[start:end], states[start:end])
            delta[start - before : start - before + size] += product(delta[start:end], factor.t())
            end = start
        through_relu(delta[:end], states[:end])
        steps = zip(states.split([*sizes, len(states) - sum(sizes)]), sizes[1:], strict=False)
        previous = torch.cat([step[:size] for step, size in steps] or [states[:0]])
        later = delta[sizes[0] : sum(sizes)]
        of_weight = weight_gradient(later, previous).to(ctx.weight_dtype)  # type: ignore[attr-defined]
        return delta, of_weight, None


def through_relu(gradient: Tensor, result: Tensor) -> None:
    """Make the gradient of ReLU's result that of its argument, in place."""
    torch.ops.aten.threshold_backward(gradient, result, 0, grad_input=gradient)


class Projection(nn.Linear):
    """A matrix without bias, multiplied by the faster library."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight)


@dataclass(frozen=True)
class ScaledTanh:
    """g(x) = outer tanh(inner x), the activation of the multimodal layer (LeCun et al., Efficient BackProp).

    The only place of the two constants: retrieval folds them into its weights (mrnn.evaluate.retrieval).
    """

    inner: float = 2 / 3
    outer: float = 1.7159

    def __call__(self, x: Tensor) -> Tensor:
        """g of every element.

        On a CPU taken as outer (2 sigmoid(2 inner x) - 1), which is the same: torch's sigmoid is ten times as fast
        there as its tanh. (In bfloat16, for GPUs, it would lose accuracy.)
        """
        if x.device.type != "cpu" or x.dtype == torch.bfloat16:
            return torch.tanh(x * self.inner) * self.outer
        return torch.sigmoid(x * (2 * self.inner)) * (2 * self.outer) - self.outer


class Dropout(nn.Module):
    """Sets each value to zero with probability `share` in training, and divides the others by the chance to be kept.

    On a CPU torch's own dropout draws its numbers one by one and takes a tenth of a training step; here four 16-bit
    numbers come from each draw. So share is rounded to a 65,536th. Both use torch's global generator.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.share == 0:
            return x
        if x.device.type != "cpu":
            return nn.functional.dropout(x, self.share)
        dropped = round(self.share * 2**16)
        draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        # Compared as floats, since torch compares small integers one by one.
        kept = draws.view(torch.int16)[: x.numel()].view(x.shape).to(x.dtype).ge_(dropped - 2**15)
        return x * kept.mul_(2**16 / (2**16 - dropped))

    def extra_repr(self) -> str:
        return f"share={self.share}"
