"""The time of year as two features."""

import math

import torch
from torch import Tensor

YEAR_S = 365.2425 * 86400


def month_of(time: Tensor) -> Tensor:
    """Tell the month of a time, continuously.

    Args:
        time: `[N]` seconds since 1970 UTC.

    Returns:
        `[N]` float64, 0.5 at the start of the year and 12.5 at its end, so that the middle of
        month m is m; years are taken to be equally long, which moves months by a day at most.
    """
    return torch.remainder(time.to(torch.float64) / YEAR_S, 1.0) * 12 + 0.5


def month_features(month: Tensor) -> Tensor:
    """Encode months as a circle.

    Args:
        month: `[N]` 1 to 12, fractions allowed; December stands next to January.

    Returns:
        `[N, 2]` float64 sine and cosine of `2 pi month / 12`.
    """
    angle = 2 * math.pi / 12 * month.to(torch.float64)
    return torch.stack([angle.sin(), angle.cos()], dim=-1)
