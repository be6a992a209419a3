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
CHUNK = {"cpu": 2**23, "cuda": 2**26}  # logits held at a time: 32 MB on a CPU


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Sum over P tokens of -log2 softmax(hidden weight^T + bias)[target]: a scalar in bits, differentiable one time.

    hidden : (P, M). weight : (V, M). bias : (V,). targets : (P,) int64.
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
            weight_gradient = torch.zeros_like(weight)
            bias_gradient = torch.zeros_like(bias)
            bits = weight.new_zeros(())
            for rows in _chunks(hidden, len(weight)):
                target = targets[rows, None]
                each, difference = _bits_and_softmax(hidden[rows], factor, bias, target)
                bits += each.sum()
                difference.scatter_add_(1, target, difference.new_full((), -1.0).expand(target.shape))
                bias_gradient += difference.sum(0)
                difference = difference.to(hidden.dtype)
                hidden_gradient[rows] = product(difference, factor.t())
                # Transposed, since the left operand is copied where it is not contiguous, and this one is the smaller.
                weight_gradient += product(hidden[rows].t(), difference.t()).t()
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
        bits[rows] = _bits_and_softmax(hidden[rows].to(weight.dtype), weight, bias, targets[rows, None])[0]
    return bits


def _chunks(hidden: Tensor, vocabulary: int) -> Iterator[slice]:
    """Stretches of rows whose logits together are no more than CHUNK, or single rows."""
    length = max(1, CHUNK.get(hidden.device.type, CHUNK["cpu"]) // vocabulary)
    for start in range(0, len(hidden), length):
        yield slice(start, min(start + length, len(hidden)))


def _bits_and_softmax(hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Bits of each target (n, 1) as (n,), and the softmax, which overwrites the logits, (n, V); both of bias's type."""
    same = hidden.dtype == bias.dtype
    logits = product(hidden, weight, bias) if same else product(hidden, weight) + bias
    target_logit = logits.gather(1, target)
    largest = logits.amax(1, keepdim=True)
    probability = torch.softmax(logits, 1, out=logits)
    # The softmax's denominator comes from the largest probability, which cannot underflow.
    bits = (largest - probability.amax(1, keepdim=True).log_() - target_logit) / LN2
    return bits.squeeze(1), probability
