"""Layers written by hand because that is faster than torch's own; benchmarks/training.py measures the ratios."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from mrnn.train.products import linear, product, weight_gradient


def recur_packed(words: Tensor, weight: Tensor, sizes: Sequence[int]) -> Tensor:
    """r(t) = ReLU(U r(t-1) + w(t)) of packed sentences from r(0) = 0, differentiable once.

    The gradient of U is one matrix product over all steps, where autograd would compute one product per step.

    words : (P, H), w(t) step after step.
    weight : (H, H), U.
    sizes : number of rows of each step, never increasing. Rows beyond their sum only fill up the shape.

    Returns (P, H), r(t) in the same order; ReLU(w) in the rows that fill up the shape.
    """
    states: Tensor = _PackedRecurrence.apply(words, weight, sizes)
    return states


class _PackedRecurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, words: Tensor, weight: Tensor, sizes: Sequence[int]) -> Tensor:
        with torch.autocast(words.device.type, enabled=False):
            factor = weight.to(words.dtype)
            states = torch.relu(words)  # is the result of the first step, as r(0) = 0; later steps are overwritten
            previous = states[: sizes[0]]
            start = sizes[0]
            for size in sizes[1:]:
                # Sentences are sorted by decreasing length, so those that continue are the first rows of the step
                # before: a slice, without masks or gathering.
                state = states[start : start + size]
                torch.add(words[start : start + size], product(previous[:size], factor), out=state)
                previous = state.relu_()
                start += size
        ctx.save_for_backward(states, factor)  # U as it was multiplied, so both passes use the same rounded values
        ctx.sizes, ctx.weight_dtype = list(sizes), weight.dtype  # type: ignore[attr-defined]
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        states, factor = ctx.saved_tensors  # type: ignore[attr-defined]
        sizes: list[int] = ctx.sizes  # type: ignore[attr-defined]
        # Becomes the gradient of ReLU's argument, from the last step to the first. Cloned, since autograd may still
        # use the gradient it passes in.
        delta = gradients[0].clone(memory_format=torch.contiguous_format)
        end = sum(sizes)
        through_relu(delta[end:], states[end:])
        for size, before in zip(sizes[:0:-1], sizes[-2::-1], strict=True):
            start = end - size
            through_relu(delta[start:end], states[start:end])
            # Only the sentences that reached this step, the first `size` of the step before, get a gradient from it.
            delta[start - before : start - before + size] += product(delta[start:end], factor.t())
            end = start
        through_relu(delta[:end], states[:end])
        # r(t-1) for each row of the second and later steps. zip drops the last step and the rows that fill up the
        # shape, which precede no step; a batch with a single step leaves nothing to concatenate.
        steps = zip(states.split([*sizes, len(states) - sum(sizes)]), sizes[1:], strict=False)
        previous = torch.cat([step[:size] for step, size in steps] or [states[:0]])
        later = delta[sizes[0] : sum(sizes)]
        of_weight = weight_gradient(later, previous).to(ctx.weight_dtype)  # type: ignore[attr-defined]
        return delta, of_weight, None


def through_relu(gradient: Tensor, result: Tensor) -> None:
    """Turn the gradient of ReLU's result into the gradient of its argument, in place."""
    torch.ops.aten.threshold_backward(gradient, result, 0, grad_input=gradient)


class Projection(nn.Linear):
    """A linear layer without bias, computed by the faster library (mrnn.train.products)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight)


@dataclass(frozen=True)
class ScaledTanh:
    """g(x) = outer tanh(inner x), the activation of the multimodal layer (LeCun et al., Efficient BackProp).

    The two constants are defined here only; retrieval folds them into its weights (mrnn.evaluate.retrieval).
    """

    inner: float = 2 / 3
    outer: float = 1.7159

    def __call__(self, x: Tensor) -> Tensor:
        """g of every element, in the shape and type of x."""
        # tanh y = 2 sigmoid(2y) - 1, and on a CPU torch's sigmoid is ten times as fast as its tanh. In bfloat16, which
        # GPUs use, the subtraction would lose accuracy.
        if x.device.type != "cpu" or x.dtype == torch.bfloat16:
            return torch.tanh(x * self.inner) * self.outer
        return torch.sigmoid(x * (2 * self.inner)) * (2 * self.outer) - self.outer


class Dropout(nn.Module):
    """Inverted dropout: in training, zeroes each value with probability `share` and scales up the others.

    On a CPU, `share` is rounded to a multiple of 1/65,536. Random numbers come from torch's global generator.
    """

    # On a CPU, torch's own dropout draws its numbers one by one and takes a tenth of a training step. Here each 64-bit
    # draw gives four 16-bit numbers.

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
        # int16 is signed: `dropped` of its 65,536 values are below dropped - 2**15. Compared as floats, since torch
        # does not vectorise comparisons of small integers.
        kept = draws.view(torch.int16)[: x.numel()].view(x.shape).to(x.dtype).ge_(dropped - 2**15)
        return x * kept.mul_(2**16 / (2**16 - dropped))  # by the rounded share, so the expected value stays exact

    def extra_repr(self) -> str:
        return f"share={self.share}"
