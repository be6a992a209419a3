"""Cross-entropy in bits: output layer, softmax and loss in one.

The logits (words of a batch x vocabulary) are by far the largest thing in training, so no more than a chunk of them
exists at any time.
"""

from collections.abc import Iterator
from math import log

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mrnn.train.products import product, weight_gradient

LN2 = log(2)
CHUNK = {"cpu": 2**22, "cuda": 2**26}  # logits held at a time: 16 MB on a CPU, which stays in its last cache
ROUND = 64  # chunks of more rows hold a multiple of this many, see mrnn.train.batches.CaptionBatch


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Sum over tokens of -log2 softmax(hidden weight^T + bias)[target]: a scalar in bits, differentiable one time.

    hidden : (P, M). weight : (V, M). bias : (V,). targets : (P,) int64; negative ones count for nothing.
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
        counted, aims = (targets >= 0).to(bias.dtype), targets.clamp(min=0)
        with torch.autocast(hidden.device.type, enabled=False):
            factor = weight.to(hidden.dtype)
            of_hidden = torch.empty_like(hidden)
            of_weight: Tensor | None = None
            of_bias = torch.zeros_like(bias)
            bits = weight.new_zeros(())
            for rows in _chunks(hidden, len(weight)):
                target, counts = aims[rows, None], counted[rows]
                logits = _logits(hidden[rows], factor, bias)
                top, aimed = logits.amax(1), logits.gather(1, target).squeeze(1)
                difference = torch.softmax(logits, 1, out=logits)
                # ln sum exp is the largest logit less the logarithm of its probability; unlike log softmax and then its
                # exp, this takes one pass of exponentials.
                bits += (top - difference.amax(1).log_() - aimed).mul_(counts).sum() / LN2
                difference.scatter_add_(1, target, difference.new_full((), -1.0).expand(target.shape))
                of_bias += torch.mv(difference.t(), counts)
                difference = difference.to(hidden.dtype)
                # What counts for nothing is taken off the hidden rows, which are narrower than those of the logits.
                narrow = counts[:, None].to(hidden.dtype)
                of_hidden[rows] = product(difference, factor.t()).mul_(narrow)
                part = weight_gradient(difference, hidden[rows] * narrow).to(weight.dtype)
                of_weight = part if of_weight is None else of_weight.add_(part)
                del logits, difference  # before the next chunk takes their place
        ctx.gradients = (of_hidden, of_weight, of_bias)  # type: ignore[attr-defined]
        return bits

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scale = gradients[0] / LN2
        ours = ctx.__dict__.pop("gradients", None)
        if ours is None:
            raise RuntimeError("linear_cross_entropy can be differentiated one time only")
        of_hidden, of_weight, of_bias = ours
        # Scaled into contiguous rows: the parameter's gradient is, and would be copied there in a pass of its own.
        laid_out = torch.empty_like(of_weight, memory_format=torch.contiguous_format)
        return of_hidden.mul_(scale), torch.mul(of_weight, scale, out=laid_out), of_bias.mul_(scale), None


@torch.no_grad()
def token_bits(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """-log2 softmax(hidden weight^T + bias)[target] of every row: (P,), without gradients; of no meaning where the
    target is negative. Shapes as above."""
    bits = weight.new_empty(len(targets))
    for rows in _chunks(hidden, len(weight)):
        logits = _logits(hidden[rows].to(weight.dtype), weight, bias)
        logarithms = torch.log_softmax(logits, 1, out=logits)
        bits[rows] = logarithms.gather(1, targets[rows, None].clamp(min=0)).squeeze(1) / -LN2
    return bits


def _chunks(hidden: Tensor, vocabulary: int) -> Iterator[slice]:
    """Stretches of rows whose logits together are no more than CHUNK, or single rows."""
    length = max(1, CHUNK.get(hidden.device.type, CHUNK["cpu"]) // vocabulary)
    length -= length % ROUND if length > ROUND else 0
    for start in range(0, len(hidden), length):
        yield slice(start, min(start + length, len(hidden)))


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """hidden weight^T + bias: (n, V) in bias's type."""
    same = hidden.dtype == bias.dtype
    return product(hidden, weight, bias) if same else product(hidden, weight) + bias
