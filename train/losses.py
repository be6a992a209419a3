"""The cost of the m-RNN paper, in bits (A3 of its re-implementation notes; Eq. 6 of arXiv 1410.1090).

    C = -(1/N) sum_n log2 P(w_n | w_1..w_{n-1}, I) + lambda ||theta||^2        N words, END counted

The sum over words is `linear_cross_entropy`: output layer, softmax and cross-entropy in one, since the logits (words of
the batch x vocabulary) are by far the largest thing in training. lambda ||theta||^2 is the optimiser's (train/optim.py).
"""

from math import log

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LN2 = log(2)
CHUNK = {"cpu": 2**22, "cuda": 2**26}  # logits held at a time: 16 MB on a CPU, where more no longer pays


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Sum over P tokens of -log2 softmax(hidden weight^T + bias)[target]: a scalar in bits, differentiable once.

    hidden : (P, M). weight : (V, M). bias : (V,). targets : (P,) int64.
    The gradients are computed in the forward pass, chunk by chunk: softmax - onehot overwrites the logits. So no more
    than a chunk of logits exists at any time and no logit is computed twice. Where hidden is bfloat16 (autocast), so are
    the matrix products, while softmax and sums are float32.
    """
    bits: Tensor = _LinearCrossEntropy.apply(hidden, weight, bias, targets)
    return bits


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, *inputs: Tensor) -> Tensor:
        hidden, weight, bias, targets = inputs
        with torch.autocast(hidden.device.type, enabled=False):
            half = hidden.dtype != weight.dtype
            factor = weight.to(hidden.dtype) if half else weight
            hidden_gradient = torch.empty_like(hidden)
            weight_gradient = torch.zeros_like(weight)
            bias_gradient = torch.zeros_like(bias)
            bits = weight.new_zeros(())
            for rows, logits in _logits(hidden, factor, bias):
                target = targets[rows, None]
                target_logit = logits.gather(1, target)
                largest = logits.amax(1, keepdim=True)
                probability = torch.softmax(logits, 1, out=logits)
                # log of the softmax's denominator, from the largest probability, which cannot underflow
                denominator = largest - probability.amax(1, keepdim=True).log_()
                bits += (denominator - target_logit).sum()
                difference = probability.scatter_add_(
                    1, target, target_logit.new_full((), -1.0).expand_as(target_logit)
                )
                bias_gradient += difference.sum(0)
                if half:
                    narrow = difference.to(hidden.dtype)
                    torch.mm(narrow, factor, out=hidden_gradient[rows])
                    weight_gradient += narrow.t() @ hidden[rows]
                else:
                    torch.mm(difference, factor, out=hidden_gradient[rows])
                    weight_gradient.addmm_(difference.t(), hidden[rows])
        ctx.save_for_backward(hidden_gradient, weight_gradient, bias_gradient)
        return bits / LN2

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scale = gradients[0] / LN2
        hidden_gradient, weight_gradient, bias_gradient = ctx.saved_tensors  # type: ignore[attr-defined]
        return hidden_gradient * scale, weight_gradient * scale, bias_gradient * scale, None


@torch.no_grad()
def token_bits(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """-log2 softmax(hidden weight^T + bias)[target] of every token: (P,), without gradients. Shapes as above."""
    bits = weight.new_empty(len(targets))
    for rows, logits in _logits(hidden.to(weight.dtype), weight, bias):
        target_logit = logits.gather(1, targets[rows, None])
        largest = logits.amax(1, keepdim=True)
        probability = torch.softmax(logits, 1, out=logits)
        bits[rows] = (largest - probability.amax(1, keepdim=True).log_() - target_logit).squeeze(1) / LN2
    return bits


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor):  # type: ignore[no-untyped-def]
    """Rows and logits (in bias's type) of one chunk after another, all in one buffer."""
    chunk = max(1, CHUNK.get(hidden.device.type, CHUNK["cpu"]) // len(weight))
    buffer = bias.new_empty(min(chunk, len(hidden)), len(weight))
    for start in range(0, len(hidden), chunk):
        part = hidden[start : start + chunk]
        logits = buffer[: len(part)]
        if part.dtype == bias.dtype:
            torch.addmm(bias, part, weight.t(), out=logits)
        else:
            torch.add(part @ weight.t(), bias, out=logits)
        yield slice(start, start + len(part)), logits
