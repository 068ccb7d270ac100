"""Tokens as maps: one grid of them brought to another over the same ground."""

from collections.abc import Iterator

import torch
from torch import Tensor

from fm.models import Features
from fm.resample import Box, resample

Grid = tuple[int, int]


def parts(features: Features) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """Yield each group's tokens `[B, N, D]` and their validity `[B, N]`, None if all are valid."""
    start = 0
    for name, (rows, columns) in features.grid.items():
        stop = start + rows * columns
        mask = features.mask
        yield name, features.tokens[:, start:stop], None if mask is None else mask[:, start:stop]
        start = stop


def regridded(
    tokens: Tensor, valid: Tensor | None, grid: Grid, wanted: Grid
) -> tuple[Tensor, Tensor | None]:
    """Resample a map of tokens to another grid over the same ground, without gradient.

    Bilinear; a coarser token is the mean of the finer ones under it. Tokens that are not valid
    count for nothing, and one of which less than half is known is not valid.

    Args:
        tokens: `[B, N, D]`, row-major.
        valid: bool `[B, N]`; None if all are.
        grid: rows and columns of the tokens.
        wanted: of the result.

    Returns:
        `[B, M, D]`, float32 unless the grids are the same, and bool `[B, M]` or None.
    """
    if grid == wanted:
        return tokens, valid
    if not len(tokens):  # a rank without a sample that counts
        count = wanted[0] * wanted[1]
        empty = None if valid is None else valid.new_zeros(0, count)
        return tokens.new_zeros(0, count, tokens.shape[2]), empty
    image = tokens.detach().float().transpose(1, 2).unflatten(2, grid)
    mask = None if valid is None else valid.unflatten(1, grid)
    whole = torch.ones(len(tokens), device=tokens.device)
    box = Box(0 * whole, 0 * whole, whole, whole, whole < 0)
    made, known = resample(image, mask, box, wanted, 1.0)
    # the channels of a token are valid together
    return made.flatten(2).transpose(1, 2), None if known is None else known[:, 0].flatten(1)


def there(features: Features) -> Tensor | None:
    """Say which samples have a valid token: bool `[B]`; None if all have."""
    return None if features.mask is None else features.mask.any(dim=1)
