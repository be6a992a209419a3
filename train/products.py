"""Matrix products by the faster of two libraries.

On a processor torch sends float32 products to MKL, which on AMD processors with AVX-512 runs at half the rate of oneDNN
or less (torch carries both; oneDNN does its convolutions). benchmarks/training.py prints the two side by side. On other
devices and in other types this is plain torch.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def has_onednn(tensor: Tensor) -> bool:
    """Whether products of this tensor go to oneDNN: float32 on a processor, and torch was built with it."""
    return (
        tensor.device.type == "cpu"
        and tensor.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """left right^T + bias, without gradients: (P, K), (N, K), (N,) -> (P, N). Any strides are fine."""
    if has_onednn(left) and left.numel() and right.numel():
        result: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
        return result
    return functional.linear(left, right, bias)


def linear(inputs: Tensor, weight: Tensor) -> Tensor:
    """inputs weight^T, differentiable: (..., K), (N, K) -> (..., N)."""
    if not has_onednn(inputs):
        return functional.linear(inputs, weight)
    flat: Tensor = _Linear.apply(inputs.reshape(-1, inputs.shape[-1]), weight)
    return flat.reshape(*inputs.shape[:-1], len(weight))


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, *operands: Tensor) -> Tensor:
        inputs, weight = operands
        ctx.save_for_backward(inputs, weight)
        return product(inputs, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        inputs, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        needs_inputs, needs_weight = ctx.needs_input_grad  # type: ignore[attr-defined]
        of_inputs = product(gradients[0], weight.t()) if needs_inputs else None
        return of_inputs, weight_gradient(gradients[0], inputs) if needs_weight else None


def weight_gradient(of_outputs: Tensor, inputs: Tensor) -> Tensor:
    """of_outputs^T inputs: (P, N), (P, K) -> (N, K).

    oneDNN copies a left operand that is transposed, so the narrower one is put there; the result of N > K is then
    transposed in memory.
    """
    if has_onednn(inputs) and of_outputs.shape[1] > inputs.shape[1]:
        return product(inputs.t(), of_outputs.t()).t()
    return product(of_outputs.t(), inputs.t())
