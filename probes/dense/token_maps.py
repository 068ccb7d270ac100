"""Token maps: what a backbone says about each place of an image, as pictures of tokens.

The rules, which every dense protocol shares:

* Groups of tokens (one a sensor) lie on grids of their own over the same ground. All are brought
  bilinearly to the grid of the group with the most tokens, the first of equal ones, and put
  behind each other as channels.
* A token without a valid pixel is NaN here; heads see the mean (zero after standardising) there.
* `last` is the model's tokens as it gives them. The four levels of a pyramid are those of a
  convolutional backbone's last four stages, each on its own grid, or the tokens after blocks
  depth/4, depth/2, 3/4 depth (rounded up) and the model's tokens, all on one grid.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fm.errors import FMError, UsageError
from probes.benchmarks.base import Inputs
from probes.dense.grids import resample
from probes.dense.heads import Shape
from probes.features.extraction import prepare, told

LEVELS = 4
Cell = tuple[float, float]


@dataclass(frozen=True)
class TokenMaps:
    """Token maps of a batch.

    Attributes:
        levels: each `[B, C, h, w]`, NaN where a token had no valid pixel.
        cells: height and width of the cells of each level, as shares of the picture's.
    """

    levels: list[Tensor]
    cells: list[Cell]

    @property
    def shapes(self) -> list[Shape]:
        """What heads have to know."""
        return [
            Shape(x.shape[1], x.shape[2], x.shape[3], cell)
            for x, cell in zip(self.levels, self.cells, strict=True)
        ]


def token_maps(
    model: Any,
    inputs: Inputs,
    bands: Mapping[str, tuple[str, ...]],
    scaling: Mapping[str, tuple[float, float]],
    *,
    pyramid: bool,
    finite: bool = False,
) -> TokenMaps:
    """Encode some images; gradients flow if they are enabled.

    Args:
        model: has `encode`.
        inputs: pixels and validity of one date.
        bands: modality to band names.
        scaling: of stored integers.
        pyramid: four levels, not the last alone.
        finite: refuse tokens with valid pixels that are not finite.

    Raises:
        FMError: see `finite`.
        UsageError: a series of images, one token a picture, or hidden tokens that are no grid.
    """
    pixels, valid = prepare(model, inputs)
    options: dict[str, Any] = {"hidden": True} if pyramid else {}
    options |= told(model, inputs)
    made = model.encode(pixels, bands=bands, valid=valid, scaling=scaling, **options)
    if finite:
        for x in (made.tokens, *made.hidden):
            same = made.mask is not None and made.mask.shape == x.shape[:2]
            if not torch.isfinite(x[made.mask] if same else x).all():
                raise FMError("the model gives NaN or infinite tokens; it cannot be scored")
    if made.images > 1:
        raise UsageError("dense protocols take single images, the samples are series")
    if max(rows * columns for rows, columns in made.grid.values()) == 1:
        raise UsageError(
            "dense protocols need a map of tokens, this model gives one vector a picture of this "
            "size; take a model with tokens, or larger pictures"
        )
    cells = _cells(model, inputs, made.grid)
    last, cell = _one_grid(made.tokens, made.mask, made.grid, cells)
    if not pyramid:
        return TokenMaps([last], [cell])
    count = made.tokens.shape[1]
    if not made.hidden:
        raise UsageError(
            "upernet needs the tokens after each block, which this model does not give"
        )
    if all(x.shape[1] == count for x in made.hidden):
        depth = len(made.hidden)
        places = [math.ceil(depth * (i + 1) / LEVELS) - 1 for i in range(LEVELS - 1)]
        early = [_one_grid(made.hidden[i], made.mask, made.grid, cells)[0] for i in places]
        return TokenMaps([*early, last], [cell] * LEVELS)
    return _stages(made, cell)


def _cells(model: Any, inputs: Inputs, grid: Mapping[str, tuple[int, int]]) -> dict[str, Cell]:
    """Size of a token of each group as shares of the picture's height and width."""
    found: dict[str, Cell] = {}
    for name, group in getattr(model, "groups", {}).items():
        for member in group.members:
            if name in grid and member.modality in inputs.pixels and name not in found:
                height, width = inputs.pixels[member.modality].shape[-2:]
                found[name] = (member.patch / height, member.patch / width)
    # a model that does not tell its tokens' size covers the picture exactly
    return {name: found.get(name, (1 / rows, 1 / cols)) for name, (rows, cols) in grid.items()}


def _one_grid(
    tokens: Tensor,
    mask: Tensor | None,
    grid: Mapping[str, tuple[int, int]],
    cells: Mapping[str, Cell],
) -> tuple[Tensor, Cell]:
    """Lay the tokens of all groups `[B, N, D]` out on the finest grid: `[B, G * D, h, w]`."""
    counts = {name: rows * columns for name, (rows, columns) in grid.items()}
    finest = max(counts, key=lambda name: counts[name])
    size, cell = grid[finest], cells[finest]
    parts, first = [], 0
    for name, (rows, columns) in grid.items():
        end = first + counts[name]
        x = tokens[:, first:end].float().mT.unflatten(2, (rows, columns))
        known = None if mask is None else mask[:, first:end].unflatten(1, (rows, columns))[:, None]
        if name != finest:
            step = (cell[0] / cells[name][0], cell[1] / cells[name][1])
            if known is None:
                x = resample(x, size, step)
            else:
                # the weights of tokens without pixels go to their neighbours
                share = resample(known.float(), size, step)
                filled = resample(torch.where(known, x, 0.0), size, step)
                known = share > 0
                x = filled / share.clamp(min=1e-6)
        parts.append(x if known is None else torch.where(known, x, torch.nan))
        first = end
    return torch.cat(parts, dim=1), cell


def _stages(made: Any, cell: Cell) -> TokenMaps:
    """Levels of a convolutional backbone: its last four stages on their own grids."""
    (rows, columns) = next(iter(made.grid.values()))
    levels, cells = [], []
    for x in made.hidden[-LEVELS:]:
        times = math.isqrt(x.shape[1] // (rows * columns))
        if len(made.grid) > 1 or times**2 * rows * columns != x.shape[1]:
            raise UsageError("upernet: the hidden tokens of this model are no grids; take fcn")
        level = x.float().mT.unflatten(2, (rows * times, columns * times))
        if made.mask is not None:
            known = made.mask.unflatten(1, (rows, columns))[:, None]
            known = known.repeat_interleave(times, 2).repeat_interleave(times, 3)
            level = torch.where(known, level, torch.nan)
        levels.append(level)
        cells.append((cell[0] / times, cell[1] / times))
    return TokenMaps(levels, cells)
