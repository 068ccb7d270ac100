"""Resampling between grids that cover the same ground with cells of other sizes."""

from functools import lru_cache

import torch
from torch import Tensor


def resample(x: Tensor, size: tuple[int, int], step: tuple[float, float]) -> Tensor:
    """Resample maps bilinearly; upper left corners coincide, border values continue outside.

    With sizes in the ratio of `step` this is `interpolate(mode="bilinear", align_corners=False)`;
    any other ratio, and grids that end beyond the picture, need no special case.

    Args:
        x: `[B, C, h, w]`.
        size: rows and columns of the output.
        step: height and width of an output cell, in cells of `x`.

    Returns:
        `[B, C, *size]`.
    """
    rows = _weights(x.shape[-2], size[0], step[0]).to(x)
    columns = _weights(x.shape[-1], size[1], step[1]).to(x)
    return rows @ (x @ columns.mT)


@lru_cache(maxsize=64)
def _weights(inputs: int, outputs: int, step: float) -> Tensor:
    """Weights [outputs, inputs] of the two cells whose centres lie around an output's."""
    place = (torch.arange(outputs, dtype=torch.float64) + 0.5) * step - 0.5
    place = place.clamp(0, inputs - 1)
    low = place.floor().long().clamp(max=max(inputs - 2, 0))
    share = place - low
    made = torch.zeros(outputs, inputs, dtype=torch.float64)
    made.scatter_(1, low[:, None], (1 - share)[:, None])
    made.scatter_add_(1, (low + 1).clamp(max=inputs - 1)[:, None], share[:, None])
    return made
