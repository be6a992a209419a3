"""Products with the best region against plain torch: values, and gradients that reach the best region alone."""

import pytest
import torch
from torch import Tensor

from mrnn.train import products
from mrnn.train.models.best_region import best_region_products


def plain(words: Tensor, regions: Tensor) -> Tensor:
    return torch.einsum("ph,rbh->prb", words, regions).amax(1)


def operands(dtype: torch.dtype = torch.float32, *, strided: bool = False) -> tuple[Tensor, Tensor]:
    """13 words and 5 regions of 7 images; strided: as views, of which no two rows follow each other."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randn(13, 4, generator=generator, dtype=dtype)
    regions = torch.randn(5, 7, 4, generator=generator, dtype=dtype)
    if strided:
        words, regions = words.t().contiguous().t(), regions.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    return words.requires_grad_(), regions.requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0], ids=["none", "few", "all"])
@pytest.mark.parametrize("strided", [False, True])
def test_values_and_gradients_are_those_of_a_maximum(dtype: torch.dtype, share: float, strided: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    upstream = torch.randn(7, 13, generator=generator, dtype=dtype) * (torch.rand(7, 13, generator=generator) < share)
    words, regions = operands(dtype, strided=strided)
    assert words.is_contiguous() != strided
    found = []
    for function in (best_region_products, plain):
        best = function(words, regions)
        found.append((best.detach(), *torch.autograd.grad(best, (words, regions), upstream.t())))
    for ours, other in zip(*found, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-6)


def test_gradients_against_finite_differences() -> None:
    assert torch.autograd.gradcheck(best_region_products, operands(torch.float64))


@pytest.mark.parametrize("fixed", [0, 1], ids=["words", "regions"])
def test_a_fixed_operand_gets_no_gradient_and_the_other_the_same(fixed: int) -> None:
    both, one = operands(), operands()
    one[fixed].requires_grad_(False)
    for words, regions in (both, one):
        best_region_products(words, regions).square().sum().backward()
    assert one[fixed].grad is None
    own, whole = one[1 - fixed].grad, both[1 - fixed].grad
    assert own is not None
    assert whole is not None
    assert torch.equal(own, whole)


def test_of_equal_regions_the_first_gets_the_gradient() -> None:
    words, regions = torch.ones(1, 2, requires_grad=True), torch.ones(3, 1, 2, requires_grad=True)
    best_region_products(words, regions).sum().backward()
    assert regions.grad is not None
    assert regions.grad[:, 0].tolist() == [[1, 1], [0, 0], [0, 0]]


def test_what_is_no_number_stays_visible() -> None:
    words, regions = operands()
    with torch.no_grad():
        regions[2, 3, 0] = torch.nan
    best = best_region_products(words, regions)
    assert best.isnan().any(0).tolist() == [False, False, False, True, False, False, False]


@pytest.mark.parametrize("library", ["oneDNN", "plain torch"])
def test_under_autocast_there_are_gradients(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if library == "plain torch":
        monkeypatch.setattr(products, "has_onednn", lambda tensor: False)
    words, regions = operands()
    with torch.autocast("cpu", torch.bfloat16):
        best = best_region_products(words, regions)
        best.float().sum().backward()
    torch.testing.assert_close(best.float(), plain(words, regions), rtol=0.02, atol=0.02)
    assert words.grad is not None
    assert regions.grad is not None


def test_several_threads_give_the_same_bits_each_time() -> None:
    generator = torch.Generator().manual_seed(0)
    words = torch.rand(300, 64, generator=generator, requires_grad=True)
    regions = torch.randn(20, 50, 64, generator=generator, requires_grad=True)
    upstream = torch.randn(300, 50, generator=generator)
    found = []
    try:
        for threads in (1, 2, 2, 2):
            torch.set_num_threads(threads)
            best = best_region_products(words, regions)
            found.append(torch.autograd.grad(best, (words, regions), upstream))
    finally:
        torch.set_num_threads(1)
    for again in found[2:]:
        assert all(map(torch.equal, again, found[1]))
    for one, several in zip(found[0], found[1], strict=True):
        torch.testing.assert_close(one, several, rtol=1e-5, atol=1e-5)
