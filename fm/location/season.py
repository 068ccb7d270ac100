"""The time of year as two features."""

import math

import torch
from torch import Tensor

from fm.errors import FMError

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


def check_month(month: Tensor) -> None:
    """Refuse what are no months: counted from 0 all of a year would be a month off.

    Args:
        month: `[N]`, from 0.5 (the start of January) to 12.5 (the end of December).

    Raises:
        FMError: a number beyond; not looked at on a device, which would have to wait.
    """
    if not isinstance(month, Tensor):
        raise FMError(f"months are a torch tensor [N], not {type(month).__name__}")
    if month.device.type != "cpu" or torch.compiler.is_compiling() or not month.numel():
        return
    known = month.detach()[torch.isfinite(month.detach())]
    if known.numel() and not 0.5 <= float(known.min()) <= float(known.max()) <= 12.5:
        raise FMError(
            f"months are 1 to 12, these are {float(known.min()):g} to {float(known.max()):g}"
        )


def month_features(month: Tensor) -> Tensor:
    """Encode months as a circle.

    Args:
        month: `[N]` 1 to 12, fractions allowed; December stands next to January.

    Returns:
        `[N, 2]` float64 sine and cosine of `2 pi month / 12`.
    """
    angle = 2 * math.pi / 12 * month.to(torch.float64)
    return torch.stack([angle.sin(), angle.cos()], dim=-1)
