"""Position codes."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

OFFSET = 0.1
"""What DINO adds to the number of tokens before it divides by the table's, against rounding."""
LARGEST_GRID = 512
"""Tokens along a side of a learned table that is made on request: at a width of 768 it is then
0.8 GB, and four times that at twice the side."""


def sincos_1d(width: int, x: Tensor) -> Tensor:
    """Encode numbers as sines and cosines of geometric frequencies.

    Vaswani et al. (arXiv 1706.03762, section 3.5): w_k = 10000^(-k / (width / 2)), sines first.

    Args:
        width: even.
        x: `[N]` float.

    Returns:
        `[N, width]` of the same dtype.
    """
    half = width // 2
    frequency = 10000.0 ** (-torch.arange(half, dtype=torch.float64, device=x.device) / half)
    angle = x.double()[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1).to(x.dtype)


def crossed(rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Give every token of a grid what belongs to its row and to its column.

    Views and not `repeat_interleave`, which ONNX gets wrong where the counts vary.

    Args:
        rows: `[R]`.
        columns: `[C]`.

    Returns:
        two `[R * C]`, row-major.
    """
    size = rows.shape[0], columns.shape[0]
    return rows[:, None].expand(size).reshape(-1), columns.expand(size).reshape(-1)


def sincos_2d(
    width: int,
    rows: int,
    columns: int,
    device: torch.device | None = None,
    *,
    step: float = 1.0,
) -> Tensor:
    """Encode a token grid, the first half of the width for the column, the second for the row.

    He et al. (arXiv 2111.06377), whose order of the two halves this keeps.

    Args:
        width: a multiple of 4.
        rows: grid height.
        columns: grid width.
        device: where to make it.
        step: distance between neighbouring tokens. A model that knows metres sets it to the ratio
            of the token's ground size to a reference (Reed et al., Scale-MAE, arXiv 2212.14532,
            eq. 3 and 4), so that a code means a place on the ground whatever the resolution.

    Returns:
        `[rows * columns, width]` float32, row-major.
    """
    row, column = crossed(
        torch.arange(rows, dtype=torch.float32, device=device),
        torch.arange(columns, dtype=torch.float32, device=device),
    )
    halves = [sincos_1d(width // 2, x * step) for x in (column, row)]
    return torch.cat(halves, dim=1)


def resized_positions(
    table: Tensor, rows: int, columns: int, how: Literal["timm", "dinov2"] = "timm"
) -> Tensor:
    """Fit a learned table of a square grid to the grid that comes in.

    Args:
        table: `[side^2, D]`, row-major.
        rows: grid height.
        columns: grid width.
        how: bicubic both. `timm` antialiases and samples at the ratio of the grids. `dinov2` does
            not antialias, and samples at the ratio of (rows + 0.1) to the side, as DINO and DINOv2
            do (Oquab et al., arXiv 2304.07193, their `interpolate_offset`): 37 to 16 tokens, for
            one, are taken from slightly other places than by timm.

    Returns:
        `[rows * columns, D]`; the table itself for its own grid.
    """
    side = math.isqrt(len(table))
    # sizes that an export leaves open are no ints: there the table itself would be a second graph,
    # and timm's way gives its very values
    traced = how == "timm" and not (isinstance(rows, int) and isinstance(columns, int))
    if not traced and (rows, columns) == (side, side):
        return table
    image = table.float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    if how == "timm":
        image = functional.interpolate(
            image, (rows, columns), mode="bicubic", antialias=True, align_corners=False
        )
    else:
        scale = ((rows + OFFSET) / side, (columns + OFFSET) / side)
        image = functional.interpolate(image, scale_factor=scale, mode="bicubic")
    return image[0].flatten(1).T.to(table.dtype)


def resized_table(table: Tensor, side: int, how: Literal["timm", "dinov2"] = "timm") -> Tensor:
    """Fit a learned table that begins with the class token's code to another square grid.

    Args:
        table: `[1, 1 + old^2, D]`.
        side: tokens along one side of the new grid.
        how: see `resized_positions`.

    Returns:
        `[1, 1 + side^2, D]`; the first row as it is.
    """
    rest = resized_positions(table[0, 1:], side, side, how)
    return torch.cat([table[:, :1], rest[None]], dim=1)
