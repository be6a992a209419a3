"""For each word and image, the product with the image's best region: the inner maximum of Eq. 8 of DVSA.

Its gradient reaches one region in R, and none at all for pairs that cost nothing: with Eq. 9 most pairs, after the
first epochs. On a CPU the backward pass adds up those rows alone instead of multiplying matrices that are nearly all
zeros; benchmarks/alignment.py measures what that saves.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from mrnn.train.products import linear, product


def all_products(words: Tensor, regions: Tensor) -> Tensor:
    """v_i . s_t of all words and regions: (P, h) and (R, B, h) -> (P, R, B)."""
    return linear(words, regions.flatten(0, 1)).unflatten(1, regions.shape[:2])


def best_region_products(words: Tensor, regions: Tensor) -> Tensor:
    """max over i of v_i . s_t: (P, h) and (R, B, h) -> (P, B). Of equally good regions, the first gets the gradient.

    Differentiable once. On other devices, and under autocast, plain torch: the gradient is shared among equals there.
    """
    exact = words.dtype == regions.dtype and words.dtype in (torch.float32, torch.float64)
    if exact and words.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
        found: Tensor = _BestProducts.apply(words, regions)
        return found
    return all_products(words, regions).amax(1)


class _BestProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, *operands: Tensor) -> Tensor:
        words, regions = operands
        # The place of the maximum is kept in place of the products, which are R times as large.
        best, chosen = product(words, regions.flatten(0, 1)).unflatten(1, regions.shape[:2]).max(1)
        ctx.save_for_backward(words, regions, chosen)
        return best

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        words, regions, chosen = ctx.saved_tensors  # type: ignore[attr-defined]
        needs_words, needs_regions = ctx.needs_input_grad  # type: ignore[attr-defined]
        word, image = gradients[0].nonzero(as_tuple=True)
        weights = gradients[0][word, image]
        region = chosen[word, image] * regions.shape[1] + image  # among the rows of regions.flatten(0, 1)
        of_words = of_regions = None
        if needs_words:
            of_words = _weighted_sums(regions.flatten(0, 1), region, weights, into=word, count=len(words))
        if needs_regions:
            order = region.argsort(stable=True)
            rows = _weighted_sums(
                words, word[order], weights[order], into=region[order], count=regions.shape[0] * regions.shape[1]
            )
            of_regions = rows.unflatten(0, regions.shape[:2])
        return of_words, of_regions


def _weighted_sums(rows: Tensor, chosen: Tensor, weights: Tensor, *, into: Tensor, count: int) -> Tensor:
    """Sum of weights[i] * rows[chosen[i]] over the i of each value of `into`, which rises: (count, h)."""
    ends = torch.bincount(into, minlength=count).cumsum(0)
    offsets = functional.pad(ends, (1, 0))
    return functional.embedding_bag(
        chosen, rows, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
    )
