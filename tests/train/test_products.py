"""oneDNN's products equal torch's, forwards and backwards."""

import pytest
import torch

from mrnn.train.products import has_onednn, linear, product


def test_products_equal_torch_for_any_strides() -> None:
    torch.manual_seed(0)
    left, right, bias = torch.randn(37, 19), torch.randn(53, 19), torch.randn(53)
    torch.testing.assert_close(product(left, right), left @ right.t())
    torch.testing.assert_close(product(left, right, bias), left @ right.t() + bias)
    other = torch.randn(37, 5)
    torch.testing.assert_close(product(left.t(), other.t()), left.t() @ other)


@pytest.mark.parametrize("shape", [(7, 5), (3, 4, 5), (0, 5)])
def test_the_differentiable_form_equals_torch(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    results = []
    inputs, weight = torch.randn(shape, generator=generator), torch.randn(6, 5, generator=generator)
    for function in (linear, torch.nn.functional.linear):
        x, w = inputs.clone().requires_grad_(), weight.clone().requires_grad_()
        (function(x, w) ** 2).sum().backward()
        results.append((function(x, w).detach(), x.grad, w.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_other_types_are_left_to_torch() -> None:
    assert not has_onednn(torch.zeros(1, dtype=torch.float64))
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda value: linear(value, torch.ones(2, 5, dtype=torch.float64)), (x,))
