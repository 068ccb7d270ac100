"""Random resized crops: the same ground on all grids of a sample.

A box is a part of the sample's ground, as shares of its height and width, and so the same for a
10 m and a 60 m grid. It is drawn as torchvision's RandomResizedCrop draws it (Szegedy et al., arXiv
1409.4842): a share of the area and the logarithm of a ratio, both uniform, until they fit.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fm.errors import UsageError
from fm.hardware import full_precision
from fm.rng import CounterRng
from pretrain.settings.view import ViewConfig

TRIES = 10
"""Boxes that are drawn at once; the first that fits is taken."""
ENOUGH = 0.5
"""A resampled pixel is valid where at least this share of what it is made of is."""

Sizes = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Box:
    """A part of each sample's ground.

    Attributes:
        top: `[B]` float32, share of the height above it.
        left: `[B]` share of the width left of it.
        height: `[B]` share of the height.
        width: `[B]` share of the width.
        mirrored: `[B]` bool, shown with left and right exchanged.
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    mirrored: Tensor


def finest(pixels: Mapping[str, Tensor]) -> tuple[int, int]:
    """Return height and width of the finest grid."""
    return max((x.shape[-2], x.shape[-1]) for x in pixels.values())


def sizes_of(pixels: Mapping[str, Tensor], size: int | None) -> Sizes:
    """Return height and width of each modality in a view whose finest grid has `size` pixels.

    Raises:
        UsageError: a coarser grid would not have whole pixels.
    """
    height, width = finest(pixels)
    made = {}
    for name, x in pixels.items():
        rows, columns = x.shape[-2:]
        if rows * width != columns * height:
            raise UsageError(
                f"{name}: {rows} x {columns} pixels are not the shape of the sample's finest grid, "
                f"{height} x {width}, so views of it would show other ground"
            )
        if size is None:
            made[name] = (rows, columns)
        elif size * rows % height:
            step = height // math.gcd(rows, height)
            raise UsageError(
                f"view.size={size}: {name} has {rows} pixels where the finest grid has {height}, "
                f"and {size * rows / height:g} are not whole; give a multiple of {step}"
            )
        else:
            made[name] = (size * rows // height, size * rows // height)
    return made


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


def draw_cut(
    rng: CounterRng, name: str, config: ViewConfig, pixels: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw where `size` pixels are cut as they are.

    Returns:
        first row and column `[B]` in pixels of the coarsest grid, and who is mirrored.

    Raises:
        UsageError: the sample is smaller, or the coarsest grid does not divide the others.
    """
    height, width = finest(pixels)
    sizes = sizes_of(pixels, config.size)
    rows, columns = min((x.shape[-2], x.shape[-1]) for x in pixels.values())
    for modality, x in pixels.items():
        if x.shape[-2] % rows or x.shape[-1] % columns:
            raise UsageError(
                f"{modality}: its pixels do not divide those of the coarsest grid, so that "
                f"view.resize=false has no common edge to cut at; resize"
            )
    side = min(sizes.values())[0]
    if side > min(rows, columns):
        raise UsageError(
            f"view.size={config.size} is more than the sample's {height} x {width} pixels; "
            f"give less, or resize"
        )
    drawn = rng.uniform(f"{name}:crop", 2)
    top = (drawn[:, 0] * (rows - side + 1)).to(torch.int64)
    left = (drawn[:, 1] * (columns - side + 1)).to(torch.int64)
    mirrored = rng.uniform(f"{name}:flip", 1)[:, 0] < (0.5 if config.flips == "horizontal" else 0)
    return top, left, mirrored


def cut(x: Tensor, at: tuple[Tensor, Tensor, Tensor], size: tuple[int, int], factor: int) -> Tensor:
    """Cut `[B, C, H, W]` of any dtype without resampling.

    Args:
        x: images, or masks.
        at: as `draw_cut` returns it.
        size: height and width of the result.
        factor: pixels in a pixel of the coarsest grid, along a side.
    """
    top, left, mirrored = at
    rows = top[:, None] * factor + torch.arange(size[0], device=x.device)
    columns = torch.arange(size[1], device=x.device).expand(len(x), -1)
    columns = torch.where(mirrored[:, None], size[1] - 1 - columns, columns)
    columns = left[:, None] * factor + columns
    sample = torch.arange(len(x), device=x.device)[:, None, None]
    bits = x.view(torch.int16) if x.dtype == torch.uint16 else x  # uint16 lacks most kernels
    return (
        bits.movedim(1, -1)[sample, rows[:, :, None], columns[:, None]].movedim(-1, 1).view(x.dtype)
    )


def resample(
    x: Tensor, valid: Tensor | None, box: Box, size: tuple[int, int], largest: float
) -> tuple[Tensor, Tensor | None]:
    """Resample boxes of images to one size: bilinear, invalid pixels count for nothing.

    Where pixels of a view may be larger than one and a half of the image, each is the mean of
    points that lie denser.

    Args:
        x: `[B, C, H, W]` float32, finite.
        valid: bool of that shape or `[B, H, W]`; None if all is valid.
        box: which part.
        size: height and width of the result.
        largest: the largest share of a side that a box may have.

    Returns:
        `[B, C, h, w]`, 0 where invalid, and its validity.
    """
    with full_precision(x.device):
        many = max(1, round(largest * max(x.shape[-2] / size[0], x.shape[-1] / size[1])))
        fine = (size[0] * many, size[1] * many)
        down = _centres(box.top, box.height, fine[0])
        along = _centres(box.left, box.width, fine[1])
        along = torch.where(box.mirrored[:, None], along.flip(1), along)
        shape = (len(x), *fine)
        grid = torch.stack([along[:, None].expand(shape), down[:, :, None].expand(shape)], dim=-1)

        def points(image: Tensor) -> Tensor:
            made = functional.grid_sample(
                image, grid, mode="bilinear", padding_mode="border", align_corners=False
            )
            return made if many == 1 else functional.avg_pool2d(made, many)

        if valid is None:
            return points(x), None
        mask = valid if valid.ndim == 4 else valid[:, None]
        share = points(mask.float())
        summed = points(torch.where(mask, x, 0.0))
        known = share >= ENOUGH
        made = torch.where(known, summed / share.clamp(min=ENOUGH), 0.0)
        return made, known.expand(made.shape)


def _centres(start: Tensor, length: Tensor, count: int) -> Tensor:
    """Return the centres of `count` parts of a stretch; the image is from -1 to 1."""
    parts = (torch.arange(count, device=start.device) + 0.5) / count
    return 2 * (start[:, None] + length[:, None] * parts) - 1
