"""The cost of the m-RNN paper, in bits (A3 of its re-implementation notes; Eq. 6 of arXiv 1410.1090).

    C = -(1/N) sum_n log2 P(w_n | w_1..w_{n-1}, I) + lambda ||theta||^2        N words, END counted

The sum over words is `linear_cross_entropy`: output layer, softmax and cross-entropy in one, since the logits (words of
the batch x vocabulary) are by far the largest thing in training. lambda ||theta||^2 is the optimiser's (optim.py).
"""

from collections.abc import Iterator
from math import log

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mrnn.train.products import product

LN2 = log(2)
CHUNK = {"cpu": 2**22, "cuda": 2**26}  # logits held at a time: 16 MB on a CPU, which stays in its last cache
ROUND = 64  # chunks of more rows hold a multiple of this many, see mrnn.train.batches.Batch


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Sum over P tokens of -log2 softmax(hidden weight^T + bias)[target]: a scalar in bits, differentiable one time.

    hidden : (P + rest, M), where rows without a target count for nothing (see `mrnn.train.batches.Batch`).
    weight : (V, M). bias : (V,). targets : (P,) int64.
    The gradients are computed in the forward pass, chunk by chunk: softmax - onehot overwrites the logits. So no more
    than a chunk of logits exists at any time and no logit is computed twice. Where hidden is bfloat16 (autocast), so
    are the matrix products, while softmax and sums are float32.
    """
    bits: Tensor = _LinearCrossEntropy.apply(hidden, weight, bias, targets)
    return bits


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, *inputs: Tensor) -> Tensor:
        hidden, weight, bias, targets = inputs
        with torch.autocast(hidden.device.type, enabled=False):
            factor = weight.to(hidden.dtype)
            hidden_gradient = torch.empty_like(hidden)
            weight_gradient: Tensor | None = None
            bias_gradient = torch.zeros_like(bias)
            bits = weight.new_zeros(())
            for rows in _chunks(hidden, len(weight)):
                target = targets[rows, None]
                difference = _log_softmax(hidden[rows], factor, bias)
                bits -= difference.gather(1, target).sum() / LN2
                difference.exp_()
                difference.scatter_add_(1, target, difference.new_full((), -1.0).expand(target.shape))
                difference[len(target) :] = 0
                bias_gradient += difference.sum(0)
                difference = difference.to(hidden.dtype)
                hidden_gradient[rows] = product(difference, factor.t())
                # Transposed, since the left operand is copied where it is not contiguous, and this one is the smaller.
                part = product(hidden[rows].t(), difference.t()).t().to(weight.dtype)
                weight_gradient = part if weight_gradient is None else weight_gradient.add_(part)
                del difference  # before the next chunk takes its place
        ctx.gradients = (hidden_gradient, weight_gradient, bias_gradient)  # type: ignore[attr-defined]
        return bits

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scale = gradients[0] / LN2
        ours = ctx.__dict__.pop("gradients", None)
        if ours is None:
            raise RuntimeError("linear_cross_entropy can be differentiated one time only")
        return *(gradient.mul_(scale) for gradient in ours), None


@torch.no_grad()
def token_bits(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """-log2 softmax(hidden weight^T + bias)[target] of every token: (P,), without gradients. Shapes as above."""
    bits = weight.new_empty(len(targets))
    for rows in _chunks(hidden, len(weight)):
        logarithms = _log_softmax(hidden[rows].to(weight.dtype), weight, bias)
        bits[rows] = logarithms.gather(1, targets[rows, None]).squeeze(1) / -LN2
    return bits


def _chunks(hidden: Tensor, vocabulary: int) -> Iterator[slice]:
    """Stretches of rows whose logits together are no more than CHUNK, or single rows."""
    length = max(1, CHUNK.get(hidden.device.type, CHUNK["cpu"]) // vocabulary)
    length -= length % ROUND if length > ROUND else 0
    for start in range(0, len(hidden), length):
        yield slice(start, min(start + length, len(hidden)))


def _log_softmax(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """ln softmax(hidden weight^T + bias), (n, V) in bias's type; no second array of that size is made."""
    same = hidden.dtype == bias.dtype
    logits = product(hidden, weight, bias) if same else product(hidden, weight) + bias
    return torch.log_softmax(logits, 1, out=logits)
