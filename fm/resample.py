"""Parts of samples at another size: the same ground on all grids, invalid pixels count for nothing.

A box is a part of the sample's ground, as shares of its height and width, and so the same for a
10 m and a 60 m grid.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fm.errors import UsageError
from fm.hardware import full_precision
from fm.points import Lattice, Window

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

    def select(self, rows: slice) -> "Box":
        """Return the boxes of some of the samples."""
        parts = (self.top, self.left, self.height, self.width, self.mirrored)
        return Box(*(part[rows] for part in parts))


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


def room_to_cut(pixels: Mapping[str, Tensor], size: int) -> tuple[int, int]:
    """Return how many rows and columns of the coarsest grid are over when `size` is cut.

    Raises:
        UsageError: the sample is smaller, or the coarsest grid does not divide the others.
    """
    height, width = finest(pixels)
    sizes = sizes_of(pixels, size)
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
            f"view.size={size} is more than the sample's {height} x {width} pixels; "
            f"give less, or resize"
        )
    return rows - side, columns - side


@dataclass(frozen=True)
class Resampling:
    """Boxes of images of one shape at another size: what can be made before the pixels are seen.

    Attributes:
        lattice: the points that pixels are means of.
    """

    lattice: Lattice

    @classmethod
    def of(
        cls, box: Box, shape: tuple[int, int], size: tuple[int, int], largest: float
    ) -> "Resampling":
        """Place the points.

        Where pixels of a view may be larger than one and a half of the image, each is the mean of
        points that lie denser.

        Args:
            box: which parts.
            shape: height and width of the images.
            size: height and width of the result.
            largest: the largest share of a side that a box may have.
        """
        with full_precision(box.top.device):
            many = max(1, round(largest * max(shape[0] / size[0], shape[1] / size[1])))
            down = _centres(box.top, box.height, size[0] * many)
            along = _centres(box.left, box.width, size[1] * many)
            along = torch.where(box.mirrored[:, None], along.flip(1), along)
            return cls(Lattice.of(down, along, many, shape))

    def select(self, rows: slice) -> "Resampling":
        """Return those of some of the images."""
        return Resampling(self.lattice.select(rows))

    def window(self) -> Window:
        """Return the part of an image that is looked at, if there is but one image; else all."""
        return self.lattice.window()

    def of_pixels(
        self, x: Tensor, valid: Tensor | None, window: Window | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Resample: bilinear, invalid pixels count for nothing.

        Args:
            x: `[B, C, H, W]` of any dtype, finite.
            valid: bool of that shape or `[B, H, W]`; None if all is valid.
            window: x and valid are this part of the images; None is all of them.

        Returns:
            `[B, C, h, w]` float32, 0 where invalid, and its validity.
        """
        with full_precision(x.device):
            if valid is None:
                return self.lattice.means(x, window), None
            mask = valid if valid.ndim == 4 else valid[:, None]
            share = self.lattice.means(mask.float(), window)
            summed = self.lattice.means(torch.where(mask, x.float(), 0.0), window)
            known = share >= ENOUGH
            made = torch.where(known, summed / share.clamp(min=ENOUGH), 0.0)
            return made, known.expand(made.shape)


def resample(
    x: Tensor, valid: Tensor | None, box: Box, size: tuple[int, int], largest: float
) -> tuple[Tensor, Tensor | None]:
    """Resample boxes of images `[B, C, H, W]` to one size; see `Resampling`."""
    return Resampling.of(box, (x.shape[-2], x.shape[-1]), size, largest).of_pixels(x, valid)


def as_a_whole(
    pixels: Mapping[str, Tensor],
    valid: Mapping[str, Tensor] | None,
    size: int | None,
    *,
    resize: bool,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Show samples at the size of views, with nothing left to chance and no effect.

    Args:
        pixels: modality to `[B, C, H, W]` float32, physical.
        valid: masks of that shape or `[B, H, W]`, of the modalities that have one.
        size: pixels of the finest grid; None keeps the samples as they are.
        resize: the largest square of the centre is resampled; otherwise `size` pixels are cut from
            the centre, on whole pixels of the coarsest grid.

    Returns:
        pixels, 0 where invalid, and masks.

    Raises:
        UsageError: sizes that cannot be had of the samples.
    """
    sizes, masks = sizes_of(pixels, size), dict(valid or {})
    if size is None:
        return dict(pixels), masks
    if not resize:
        top, left = (spare // 2 for spare in room_to_cut(pixels, size))
        coarsest = min(x.shape[-2] for x in pixels.values())

        def cut(name: str, x: Tensor) -> Tensor:
            factor = pixels[name].shape[-2] // coarsest
            rows, columns = sizes[name]
            first, second = top * factor, left * factor
            return x[..., first : first + rows, second : second + columns]

        return {m: cut(m, x) for m, x in pixels.items()}, {m: cut(m, x) for m, x in masks.items()}
    height, width = finest(pixels)
    made = {}
    for name, x in pixels.items():
        ones = torch.ones(len(x), device=x.device)
        tall, wide = min(width / height, 1.0), min(height / width, 1.0)
        box = Box(ones * (1 - tall) / 2, ones * (1 - wide) / 2, ones * tall, ones * wide, ones < 0)
        made[name], mask = resample(x, masks.get(name), box, sizes[name], min(tall, wide))
        if mask is not None:
            masks[name] = mask
    return made, masks


def _centres(start: Tensor, length: Tensor, count: int) -> Tensor:
    """Return the centres of `count` parts of a stretch; the image is from -1 to 1."""
    parts = (torch.arange(count, device=start.device) + 0.5) / count
    return 2 * (start[:, None] + length[:, None] * parts) - 1
