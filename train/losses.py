"""Cross-entropy in bits: output layer, softmax and loss in one function.

The logits (words of a batch x vocabulary) are by far the largest array in training, so they are computed in chunks, of
which only one exists at a time.
"""

from collections.abc import Iterator
from math import log

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mrnn.train.products import product, weight_gradient

LN2 = log(2)
CHUNK = {"cpu": 2**22, "cuda": 2**26}  # logits per chunk: 16 MB on a CPU, which fit its last-level cache
ROUND = 64  # longer chunks have a multiple of this many rows, so that few shapes occur; see mrnn.train.batches.pack


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, *, smoothing: float = 0.0
) -> Tensor:
    """Sum over tokens of -log2 softmax(hidden weight^T + bias)[target], which can be differentiated once.

    The gradients are computed in the forward pass, chunk by chunk, where softmax - onehot overwrites the logits. So
    only one chunk of logits exists at a time, and no logit is computed twice. If `hidden` is bfloat16 (autocast), so
    are the matrix products; softmax and sums stay in float32.

    hidden : (P, M) hidden vectors.
    weight : (V, M) weight of the output layer.
    bias : (V,) bias of the output layer.
    targets : (P,) int64, word numbers; rows with a negative target are ignored.
    smoothing : E of label smoothing (Szegedy et al. 2016, arXiv 1512.00567): the cross-entropy is taken with
        (1 - E) onehot(target) + E/V in place of the target.

    Returns a scalar in bits.
    """
    bits: Tensor = _LinearCrossEntropy.apply(hidden, weight, bias, targets, smoothing)
    return bits


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        smoothing: float,
    ) -> Tensor:
        counted, aims = (targets >= 0).to(bias.dtype), targets.clamp(min=0)
        with torch.autocast(hidden.device.type, enabled=False):  # the types are chosen by hand below
            factor = weight.to(hidden.dtype)
            of_hidden = torch.empty_like(hidden)
            of_weight: Tensor | None = None
            of_bias = torch.zeros_like(bias)
            bits = weight.new_zeros(())
            for rows in _chunks(hidden, len(weight)):
                target, counts = aims[rows, None], counted[rows]
                logits = _logits(hidden[rows], factor, bias)
                top, aimed = logits.amax(1), logits.gather(1, target).squeeze(1)  # before softmax overwrites them
                if smoothing:  # the logits' mean over the smoothed target
                    aimed = (1 - smoothing) * aimed + smoothing * logits.mean(1)
                difference = torch.softmax(logits, 1, out=logits)
                # ln sum exp equals the largest logit minus the logarithm of its probability, which is at least 1/V and
                # so never 0. This takes one pass of exponentials; log softmax followed by exp would take two.
                bits += (top - difference.amax(1).log_() - aimed).mul_(counts).sum() / LN2
                # The gradient of the logits in nats, softmax - target; `backward` divides by ln 2.
                difference.scatter_add_(1, target, difference.new_full((), smoothing - 1).expand(target.shape))
                if smoothing:
                    difference.sub_(smoothing / len(weight))
                of_bias += torch.mv(difference.t(), counts)
                difference = difference.to(hidden.dtype)
                # Ignored rows are zeroed in (n, M) arrays rather than in `difference`, which is (n, V) and much wider.
                narrow = counts[:, None].to(hidden.dtype)
                of_hidden[rows] = product(difference, factor.t()).mul_(narrow)
                part = weight_gradient(difference, hidden[rows] * narrow).to(weight.dtype)
                of_weight = part if of_weight is None else of_weight.add_(part)
                del logits, difference  # free the chunk before the next one is allocated
        ctx.gradients = (of_hidden, of_weight, of_bias)  # type: ignore[attr-defined]
        return bits

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scale = gradients[0] / LN2
        # Taken out of ctx, since they are scaled in place below: a second backward pass would scale them twice.
        ours = ctx.__dict__.pop("gradients", None)
        if ours is None:
            raise RuntimeError("linear_cross_entropy can be differentiated only once")
        of_hidden, of_weight, of_bias = ours
        # weight_gradient may return a transposed view. A parameter's gradient is contiguous, so torch would copy the
        # view in a pass of its own; scaling into contiguous memory saves that pass.
        laid_out = torch.empty_like(of_weight, memory_format=torch.contiguous_format)
        return of_hidden.mul_(scale), torch.mul(of_weight, scale, out=laid_out), of_bias.mul_(scale), None, None


@torch.no_grad()
def token_bits(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """-log2 softmax(hidden weight^T + bias)[target] of every row, without gradients.

    hidden : (P, M) hidden vectors.
    weight, bias : (V, M) and (V,), the output layer.
    targets : (P,) int64, word numbers.

    Returns (P,) bits in the type of `weight`; rows with a negative target hold no meaningful value.
    """
    bits = weight.new_empty(len(targets))
    for rows in _chunks(hidden, len(weight)):
        logits = _logits(hidden[rows].to(weight.dtype), weight, bias)
        logarithms = torch.log_softmax(logits, 1, out=logits)
        bits[rows] = logarithms.gather(1, targets[rows, None].clamp(min=0)).squeeze(1) / -LN2
    return bits


def _chunks(hidden: Tensor, vocabulary: int) -> Iterator[slice]:
    """Consecutive slices of rows with at most CHUNK logits each, or single rows if one row alone has more."""
    length = max(1, CHUNK.get(hidden.device.type, CHUNK["cpu"]) // vocabulary)
    length -= length % ROUND if length > ROUND else 0
    for start in range(0, len(hidden), length):
        yield slice(start, min(start + length, len(hidden)))


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """hidden weight^T + bias: (n, V) in the type of `bias`."""
    # A bfloat16 product is widened by adding the float32 bias, so softmax never works in bfloat16.
    same = hidden.dtype == bias.dtype
    return product(hidden, weight, bias) if same else product(hidden, weight) + bias
