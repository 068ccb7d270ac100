"""SatMAE++'s multi-scale head: from an image to the same image at finer scales."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from pretrain.objectives.convolution import convolve


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel of `[B, C, H, W]`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; same shape."""
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


class UpsampleBlock(nn.Module):
    """One scale finer (Noman et al., arXiv 2403.05419, section 4.2).

    A transposed convolution doubles the size, then normalisation, LeakyReLU, half of a residual of
    two convolutions, normalisation; a convolution makes the image of this scale.

    Args:
        channels: C of the images; features have 4C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = 4 * channels
        self.up = nn.ConvTranspose2d(inner, inner, 4, stride=2, padding=1)
        self.up_norm = ChannelNorm(inner)
        self.first = nn.Conv2d(inner, inner, 3, padding=1)
        self.second = nn.Conv2d(inner, inner, 3, padding=1)
        self.norm = ChannelNorm(inner)
        self.image = nn.Conv2d(inner, channels, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Turn features `[B, 4C, H, W]` into those of twice the size and their image."""
        x = functional.leaky_relu(self.up_norm(self.up(x)), inplace=True)
        inner = functional.relu(_convolved(self.first, x), inplace=True)
        # the half belongs to the weights: a power of two, and no pass over the image
        x = self.norm(x + _convolved(self.second, inner, 0.5))
        return x, _convolved(self.image, x).contiguous()


def reach(scales: int) -> int:
    """Return how many pixels around a window the head looks at to make finer scales of it.

    Counted from the finest scale: a 3 x 3 convolution for the image and two of the residual reach a
    pixel each, the transposed convolution at most one of the coarser pixels.
    """
    pixels = 0
    for _ in range(scales):
        pixels = (max(pixels, 1) + 2 + 2) // 2
    return pixels


def _convolved(layer: nn.Conv2d, x: Tensor, factor: float = 1.0) -> Tensor:
    assert layer.bias is not None
    if factor == 1.0:
        return convolve(x, layer.weight, layer.bias)
    return convolve(x, layer.weight * factor, layer.bias * factor)


class MultiScaleHead(nn.Module):
    """Images at all finer scales from the image at the encoder's.

    Args:
        channels: C; 117,100 parameters for 10 bands and 2 scales.
        scales: number of finer scales.
    """

    def __init__(self, channels: int, scales: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, 4 * channels, 1)
        self.norm = ChannelNorm(4 * channels)
        self.blocks = nn.ModuleList(UpsampleBlock(channels) for _ in range(scales))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Turn `[B, C, H, W]` into `[B, C, 2H, 2W]`, `[B, C, 4H, 4W]` and so on."""
        # channels last: the norms read what is contiguous, and so do a CPU's convolutions
        image = image.contiguous(memory_format=torch.channels_last)
        x = self.norm(functional.gelu(self.enter(image)))
        made = []
        for block in self.blocks:
            x, finer = cast(UpsampleBlock, block)(x)
            made.append(finer)
        return made
