"""The convolution with gradients of its own against PyTorch's, in float64."""

import pytest
import torch
from torch.nn import functional

from pretrain.objectives.convolution import convolve


@pytest.mark.parametrize("height", [1, 7, 8, 9, 17])
def test_gradients_equal_pytorchs_whatever_the_rows(height: int) -> None:
    torch.manual_seed(0)
    shapes = ((2, 3, height, 5), (4, 3, 3, 3), (4,))
    own = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    other = [x.detach().clone().requires_grad_() for x in own]
    made, want = convolve(*own), functional.conv2d(*other, padding=1)
    assert torch.allclose(made, want, atol=1e-12)
    side = torch.randn_like(want)
    made.backward(side)
    want.backward(side)
    for x, y in zip(own, other, strict=True):
        assert torch.allclose(x.grad, y.grad, atol=1e-12)


def test_autocast_and_inference_take_pytorchs() -> None:
    x, weight, bias = torch.randn(1, 3, 4, 4), torch.randn(2, 3, 3, 3), torch.randn(2)
    with torch.autocast("cpu", torch.bfloat16):
        assert convolve(x, weight, bias).dtype == torch.bfloat16
    with torch.no_grad():
        want = functional.conv2d(x, weight, bias, padding=1)
        assert torch.equal(convolve(x, weight, bias), want)
