"""Random crops: the same ground on all grids of a sample.

A box (`fm.resample`) is drawn as torchvision's RandomResizedCrop draws it (Szegedy et al., arXiv
1409.4842): a share of the area and the logarithm of a ratio, both uniform, until they fit.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fm.resample import Box, room_to_cut
from fm.rng import CounterRng
from pretrain.settings.view import ViewConfig

TRIES = 10
"""Boxes that are drawn at once; the first that fits is taken."""


@dataclass(frozen=True)
class Cut:
    """Where pixels are cut as they are.

    Attributes:
        top: `[B]` int64, first row in pixels of the coarsest grid.
        left: `[B]` first column.
        mirrored: `[B]` bool, shown with left and right exchanged.
    """

    top: Tensor
    left: Tensor
    mirrored: Tensor

    def select(self, rows: slice) -> "Cut":
        """Return the cuts of some of the samples."""
        return Cut(self.top[rows], self.left[rows], self.mirrored[rows])


def draw_box(rng: CounterRng, name: str, config: ViewConfig, shape: tuple[int, int]) -> Box:
    """Draw where each sample's view is cut.

    Args:
        rng: of the samples.
        name: of the view.
        config: `scale`, `ratio`, `flips`; with `resize` off `size`.
        shape: height and width of the finest grid.
    """
    drawn = rng.uniform(f"{name}:crop", 2 * TRIES + 2)
    mirrored = rng.uniform(f"{name}:flip", 1)[:, 0] < (0.5 if config.flips == "horizontal" else 0)
    area = config.scale[0] + (config.scale[1] - config.scale[0]) * drawn[:, :TRIES]
    low, high = map(math.log, config.ratio)
    ratio = torch.exp(low + (high - low) * drawn[:, TRIES : 2 * TRIES])
    ratio = ratio * (shape[0] / shape[1])  # of shares, not of pixels
    wide, tall = (area * ratio).sqrt(), (area / ratio).sqrt()
    fits = (wide <= 1) & (tall <= 1)
    first = fits.to(torch.int64).argmax(dim=1, keepdim=True)
    width, height = wide.gather(1, first)[:, 0], tall.gather(1, first)[:, 0]
    # none fits: the whole, cut to the nearest ratio there is, from the centre
    whole = shape[1] / shape[0]
    narrow = min(max(whole, config.ratio[0]), config.ratio[1]) / whole
    none = ~fits.any(dim=1)
    width = torch.where(none, min(narrow, 1.0), width)
    height = torch.where(none, min(1 / narrow, 1.0), height)
    at = drawn[:, 2 * TRIES :].masked_fill(none[:, None], 0.5)
    return Box(at[:, 0] * (1 - height), at[:, 1] * (1 - width), height, width, mirrored)


def draw_cut(rng: CounterRng, name: str, config: ViewConfig, pixels: Mapping[str, Tensor]) -> Cut:
    """Draw where `size` pixels are cut as they are.

    Raises:
        UsageError: the sample is smaller, or the coarsest grid does not divide the others.
    """
    assert config.size is not None
    down, along = room_to_cut(pixels, config.size)
    drawn = rng.uniform(f"{name}:crop", 2)
    top = (drawn[:, 0] * (down + 1)).to(torch.int64)
    left = (drawn[:, 1] * (along + 1)).to(torch.int64)
    mirrored = rng.uniform(f"{name}:flip", 1)[:, 0] < (0.5 if config.flips == "horizontal" else 0)
    return Cut(top, left, mirrored)


def cut(x: Tensor, at: Cut, size: tuple[int, int], factor: int) -> Tensor:
    """Cut `[B, C, H, W]` of any dtype without resampling.

    Args:
        x: images, or masks.
        at: where.
        size: height and width of the result.
        factor: pixels in a pixel of the coarsest grid, along a side.
    """
    rows = at.top[:, None] * factor + torch.arange(size[0], device=x.device)
    columns = torch.arange(size[1], device=x.device).expand(len(x), -1)
    columns = torch.where(at.mirrored[:, None], size[1] - 1 - columns, columns)
    columns = at.left[:, None] * factor + columns
    sample = torch.arange(len(x), device=x.device)[:, None, None]
    bits = x.view(torch.int16) if x.dtype == torch.uint16 else x  # uint16 lacks most kernels
    return (
        bits.movedim(1, -1)[sample, rows[:, :, None], columns[:, None]].movedim(-1, 1).view(x.dtype)
    )
