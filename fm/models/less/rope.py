"""SSRoPE: rotations of queries and keys by place and by wavelength (LESS ViT v2).

arXiv 2605.18541, section on the spatial-spectral rotary embedding. Rows, columns and wavelengths
are brought to [-1, 1]; a coordinate x turns pair k of a head by 2 pi x / P_k. The original brings
wavelengths to [-1, 1] by the smallest and largest of each dataset, so that one wavelength means
different things for different sensors; here there is one axis for all.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fm.errors import UsageError
from fm.models.positions import crossed

LOW_NM, HIGH_NM = 300.0, 2600.0
"""Ends of the wavelength axis: all optical sensors from the ultraviolet to the short-wave
infrared. Wavelengths outside (thermal bands) continue the axis."""

BASE = 100.0
"""Ratio that the periods of a head would reach after the last pair."""

FINEST_SPECTRAL, FINEST_SPATIAL, COARSEST = 0.01, 0.125, 4.0
"""Ends of the finer frequencies' periods, in half axes: from 11.5 nm, an imaging spectrometer's
band, or from two tokens of a grid of 32, up to two axis lengths, within which nothing aliases."""


@dataclass(frozen=True)
class WavelengthAxis:
    """The map from nanometres to [-1, 1].

    Attributes:
        low_nm: what becomes -1.
        high_nm: what becomes 1.
        scale: `linear`, or `log` of the wavelength.
    """

    low_nm: float = LOW_NM
    high_nm: float = HIGH_NM
    scale: str = "linear"

    def __post_init__(self) -> None:
        if self.scale not in ("linear", "log"):
            raise UsageError(f"wavelength_axis={self.scale!r}: give one of linear, log")
        if not 0 < self.low_nm < self.high_nm:
            raise UsageError(
                f"a wavelength axis from {self.low_nm:g} to {self.high_nm:g} nm: give two "
                f"positive numbers, the smaller one first"
            )

    def coordinate(self, nm: Tensor) -> Tensor:
        """Place wavelengths `[C]` float64 in nanometres on the axis."""
        low, high = self.low_nm, self.high_nm
        if self.scale == "log":
            nm, low, high = nm.log(), math.log(low), math.log(high)
        return 2 * (nm - low) / (high - low) - 1


def grid_coordinates(rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    """Return the centres of the tokens of a grid, `[rows * columns, 2]` float64 in (-1, 1)."""
    u, v = (
        (torch.arange(n, dtype=torch.float64, device=device) + 0.5) / n * 2 - 1
        for n in (rows, columns)
    )
    return torch.stack(crossed(u, v), dim=1)


def _periods(pairs: int, ratio_width: float, heads: int, finest: float | None) -> Tensor:
    """Return `[1 or heads, pairs]` float64 periods; see `spectral_angles`."""
    if finest is None:
        return (BASE ** (2 * torch.arange(pairs, dtype=torch.float64) / ratio_width))[None]
    steps = torch.linspace(0, 1, heads * pairs, dtype=torch.float64)
    return (finest * (COARSEST / finest) ** steps).reshape(pairs, heads).T


def spatial_angles(places: Tensor, width: int, heads: int, finer: bool) -> Tensor:
    """Return the angles of the spatial branch.

    Args:
        places: `[N, 2]` float64, see `grid_coordinates`.
        width: s, channels of a head, a multiple of 4.
        heads: attention heads.
        finer: as in `spectral_angles`.

    Returns:
        `[1 or heads, N, s / 2]`: s / 4 periods 100^(2k / (s / 2)) for the row, as many for the
        column.
    """
    period = _periods(width // 4, width / 2, heads, FINEST_SPATIAL if finer else None)
    period = period.to(places.device)[:, None, None]
    return (2 * math.pi * places[None, :, :, None] / period).flatten(2)


def spectral_angles(at: Tensor, width: int, heads: int, finer: bool) -> Tensor:
    """Return the angles of the channel branch.

    Args:
        at: `[C]` float64 places on the wavelength axis.
        width: c, channels of a head, even.
        heads: attention heads.
        finer: False gives every head the paper's c / 2 periods 100^(2k / c): 1 and 10 half axes
            for c = 4, so that points one half axis apart look nearly alike. True spreads as many
            periods for each head evenly in the logarithm from the finest to `COARSEST` over the
            heads.

    Returns:
        `[1 or heads, C, c / 2]`.
    """
    period = _periods(width // 2, width, heads, FINEST_SPECTRAL if finer else None)
    return 2 * math.pi * at[None, :, None] / period.to(at.device)[:, None]


class Turn(NamedTuple):
    """Cosines and sines of angles `[..., T, w / 2]`, made once for all blocks."""

    cos: Tensor
    sin: Tensor

    @classmethod
    def by(cls, angle: Tensor) -> "Turn":
        """Make the turn by some angles."""
        return cls(angle.cos(), angle.sin())


def rotate(x: Tensor, turn: Turn) -> Tensor:
    """Turn the pairs (k, k + w / 2) of each vector.

    Args:
        x: `[..., T, w]`.
        turn: of `[..., T, w / 2]`, broadcast against x.
    """
    first, second = x.chunk(2, dim=-1)
    cos, sin = (part.to(x.dtype) for part in turn)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
