"""A 3 x 3 convolution of images with few channels, whose training on a CPU is not slow.

The multi-scale head convolves large images of 40 channels. There PyTorch's weight gradient of
images in channels-last order reaches a fifth of a core's arithmetic, and in the other order the
forward pass half of it. Here forward and image gradient are PyTorch's, in channels-last order, and
the weight gradient is a matrix product over a few rows of the image at a time, which stay in the
cache.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

ROWS = 8
"""Image rows of one matrix product."""


def weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """Return the gradient of the weight of a 3 x 3 convolution with one zero all around.

    Args:
        x: `[B, C, H, W]`, in channels-last order.
        grad: `[B, D, H, W]` of the result, in channels-last order.

    Returns:
        `[D, C, 3, 3]`.
    """
    batch, channels, height, width = x.shape
    pixels, sides = x.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1)
    total = x.new_zeros(3, grad.shape[1], 3 * channels)
    for b in range(batch):
        for row in range(0, height, ROWS):
            last = min(row + ROWS, height)
            part = pixels[b, max(row - 1, 0) : last + 1]
            pad = (0, 0, 1, 1, int(row == 0), int(last == height))
            padded = functional.pad(part, pad)
            # the three places along a row side by side: [rows + 2, W, 3C]
            wide = torch.cat([padded[:, j : j + width] for j in range(3)], dim=-1)
            here = sides[b, row:last].flatten(0, 1).t()
            for i in range(3):
                total[i].addmm_(here, wide[i : i + last - row].flatten(0, 1))
    return total.unflatten(2, (3, channels)).permute(1, 3, 0, 2)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        return functional.conv2d(x, weight, bias, padding=1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        turned = weight.flip(2, 3).transpose(0, 1)
        image = functional.conv2d(grad, turned, padding=1)
        return image, weight_gradient(x, grad), grad.sum(dim=(0, 2, 3))


def convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve `[B, C, H, W]` with `[D, C, 3, 3]`, one zero all around: `[B, D, H, W]`.

    Accelerators, autocast and half precision take PyTorch's gradients.
    """
    kind = x.device.type
    own = kind == "cpu" and x.dtype in (torch.float32, torch.float64)
    if own and not torch.is_autocast_enabled(kind) and torch.is_grad_enabled():
        made: Tensor = _Convolve.apply(x, weight, bias)
        return made
    return functional.conv2d(x, weight, bias, padding=1)
