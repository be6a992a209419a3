"""Matrix products by the faster of two libraries.

On a CPU, torch computes float32 products by MKL, which on AMD processors with AVX-512 reaches at most half the rate of
oneDNN. (torch contains both libraries; it uses oneDNN for convolutions.) benchmarks/training.py measures the two side
by side. On other devices and for other types, the functions here are plain torch.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def has_onednn(tensor: Tensor) -> bool:
    """Whether products of this tensor are computed by oneDNN: float32 on a CPU, if torch was built with oneDNN."""
    # The operator is internal to torch, so it may be missing from another version.
    return (
        not torch.compiler.is_exporting()  # an exported program is to run anywhere
        and tensor.device.type == "cpu"
        and tensor.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """left right^T + bias, without gradients: (P, K), (N, K), (N,) -> (P, N). Any strides are allowed."""
    # The operator has no derivative that autograd knows; `linear` adds it for the layers that need one.
    if has_onednn(left) and left.numel() and right.numel():
        result: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
        return result
    return functional.linear(left, right, bias)


def linear(inputs: Tensor, weight: Tensor) -> Tensor:
    """inputs weight^T, differentiable once: (..., K), (N, K) -> (..., N)."""
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
        # Image features are not trained, so V_I needs no gradient of its inputs.
        of_inputs = product(gradients[0], weight.t()) if needs_inputs else None
        return of_inputs, weight_gradient(gradients[0], inputs) if needs_weight else None


def weight_gradient(of_outputs: Tensor, inputs: Tensor) -> Tensor:
    """of_outputs^T inputs: (P, N), (P, K) -> (N, K), which may be a transposed view."""
    # oneDNN copies a transposed left operand, so the narrower operand goes there. For N > K (the output layer) this
    # computes the transposed result and returns a view of it.
    if has_onednn(inputs) and of_outputs.shape[1] > inputs.shape[1]:
        return product(inputs.t(), of_outputs.t()).t()
    return product(of_outputs.t(), inputs.t())
