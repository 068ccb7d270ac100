"""A part of each image of a batch, for work that only a part needs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fm.models import Inputs
from pretrain.masking import Window


@dataclass(frozen=True)
class Crop:
    """Where to cut.

    Attributes:
        start: `[B, 2]` first row and column, pixels.
        size: rows and columns, pixels.
    """

    start: Tensor
    size: tuple[int, int]

    @classmethod
    def around(cls, window: Window, image: Tensor, margin: int) -> "Crop":
        """Return what holds a window of tokens and a margin of pixels on each side.

        At a border of the image the margin ends there and the other side has more of it.

        Args:
            window: of token grids.
            image: `[B, C, H, W]`, of whole tokens.
            margin: pixels.
        """
        starts, sizes = [], []
        for axis, (whole, part) in enumerate(zip(window.grid, window.size, strict=True)):
            side = image.shape[axis - 2]
            patch = side // whole
            size = min(part * patch + 2 * margin, side)
            first = window.start[:, axis] * patch - margin
            starts.append(first.clamp(0, side - size))
            sizes.append(size)
        return cls(torch.stack(starts, dim=1), (sizes[0], sizes[1]))

    def __call__(self, images: Tensor, factor: int = 1) -> Tensor:
        """Cut `[B, C, factor * H, factor * W]`, or the same without channels."""
        rows, columns = (
            factor * first[:, None] + torch.arange(factor * size, device=images.device)
            for first, size in zip(self.start.unbind(1), self.size, strict=True)
        )
        sample = torch.arange(len(images), device=images.device)[:, None, None]
        if images.ndim == 3:
            return images[sample, rows[:, :, None], columns[:, None, :]]
        # channels last in memory, as the head wants them
        return images.movedim(1, -1)[sample, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def cropped(inputs: Inputs, cuts: Mapping[str, Crop], factor: int) -> Inputs:
    """Cut pixels and validity of a batch that is so many times finer than the crops count."""
    pixels = {name: part(inputs.pixels[name], factor) for name, part in cuts.items()}
    valid = {
        name: part(inputs.valid[name], factor)
        for name, part in cuts.items()
        if inputs.valid is not None and name in inputs.valid
    }
    return replace(inputs, pixels=pixels, valid=valid or None)
