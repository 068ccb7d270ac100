"""Sines and cosines of coordinates at geometric scales: Space2Vec and Sphere2Vec.

Scale s of S is `radius_s = min_radius * (max_radius / min_radius)^(s / (S - 1))`, in degrees; a
coordinate enters as `degrees / radius_s` radians, as in the published code. Features are ordered
by scale where not said otherwise.
"""

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from fm.errors import UsageError
from fm.location.encoding import Encoding, wrapped


class _Scales(Encoding):
    """Angles at every scale.

    Args:
        scales: S.
        min_radius: degrees that one radian of the finest scale spans.
        max_radius: of the coarsest.

    Raises:
        UsageError: fewer than two scales, or radii that do not rise.
    """

    each: ClassVar[int]
    """Features a scale."""

    def __init__(
        self, scales: int = 32, min_radius: float = 0.001, max_radius: float = 360.0
    ) -> None:
        super().__init__()
        if scales < 2 or not 0 < min_radius < max_radius < math.inf:
            raise UsageError(
                f"scales={scales}, min_radius={min_radius}, max_radius={max_radius}: give two "
                f"scales or more and radii in degrees that rise from above 0"
            )
        self.scales, self.min_radius, self.max_radius = scales, min_radius, max_radius
        self.dim = self.each * scales

    def extra_repr(self) -> str:
        """Show the arguments."""
        radii = f"min_radius={self.min_radius}, max_radius={self.max_radius}"
        return f"scales={self.scales}, {radii}"

    def radii(self) -> Tensor:
        """Return `[S]` float64 degrees, from the finest."""
        step = math.log(self.max_radius / self.min_radius) / (self.scales - 1)
        s = torch.arange(self.scales, dtype=torch.float64, device=self.anchor.device)
        # a tensor: ONNX would round numbers to float32, and the finest radius counts 1e5 turns
        ends = torch.tensor([self.min_radius, step], dtype=torch.float64, device=s.device)
        return ends[0] * torch.exp(s * ends[1])

    def angles(self, lonlat: Tensor) -> tuple[Tensor, Tensor]:
        """Return `[N, S]` radians of longitude and of latitude at every scale."""
        lon, lat = lonlat.unbind(1)
        radii = self.radii()
        return wrapped(lon)[:, None] / radii, lat[:, None] / radii


class Grid(_Scales):
    """Space2Vec's grid (Mai et al. 2020, arXiv 2003.00824): sine and cosine of both coordinates.

    `[sin, cos]` of the longitude at every scale, then of the latitude. Planar: the date line is a
    seam and the poles are lines.
    """

    each = 4

    def encode(self, lonlat: Tensor) -> Tensor:
        """Encode `[N, 2]` to `[N, 4 S]`."""
        angle = torch.stack(self.angles(lonlat), dim=1)
        return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).to(self.dtype)


class Theory(_Scales):
    """Space2Vec's theory: projections on three unit vectors 120 degrees apart, planar as `Grid`.

    At every scale `[sin, cos]` of each of the three.
    """

    each = 6

    def encode(self, lonlat: Tensor) -> Tensor:
        """Encode `[N, 2]` to `[N, 6 S]`."""
        lon, lat = self.angles(lonlat)
        height = torch.tensor(math.sqrt(3) / 2, dtype=torch.float64, device=lat.device)
        half, root = -lon / 2, height * lat
        angle = torch.stack([lon, half + root, half - root], dim=-1)
        return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).to(self.dtype)


_Terms = Callable[[Tensor, Tensor, Tensor, Tensor], list[Tensor]]


def _scaled(p: Tensor, q: Tensor, _lon: Tensor, _lat: Tensor) -> list[Tensor]:
    return [q.sin(), q.cos() * p.cos(), q.cos() * p.sin()]


def _mixed(p: Tensor, q: Tensor, lon: Tensor, lat: Tensor) -> list[Tensor]:
    return [
        q.sin(),
        q.cos() * lon.cos(),
        lat.cos() * p.cos(),
        q.cos() * lon.sin(),
        lat.cos() * p.sin(),
    ]


def _of_grid(p: Tensor, q: Tensor, _lon: Tensor, _lat: Tensor) -> list[Tensor]:
    return [q.cos(), p.sin(), p.cos()]  # sin q is there already


class _Sphere2Vec(_Scales):
    """Sphere2Vec (Mai et al. 2023, arXiv 2306.17624).

    With p, q the longitude and latitude at a scale, and lon, lat the plain ones in radians:
    `sphere_c` is `sin q, cos q cos p, cos q sin p`, `sphere_m` is `sin q, cos q cos lon,
    cos lat cos p, cos q sin lon, cos lat sin p`; the `_plus` kinds add `cos q, sin p, cos p`.
    """

    terms: ClassVar[tuple[_Terms, ...]]

    def encode(self, lonlat: Tensor) -> Tensor:
        """Encode `[N, 2]` to `[N, each * S]`."""
        lon, lat = torch.deg2rad(lonlat)[..., None].unbind(1)
        p, q = self.angles(lonlat)
        parts = [part for terms in self.terms for part in terms(p, q, lon, lat)]
        return torch.stack(parts, dim=-1).flatten(1).to(self.dtype)


class SphereC(_Sphere2Vec):
    """See `_Sphere2Vec`."""

    each, terms = 3, (_scaled,)


class SphereCPlus(_Sphere2Vec):
    """See `_Sphere2Vec`."""

    each, terms = 6, (_scaled, _of_grid)


class SphereM(_Sphere2Vec):
    """See `_Sphere2Vec`."""

    each, terms = 5, (_mixed,)


class SphereMPlus(_Sphere2Vec):
    """See `_Sphere2Vec`."""

    each, terms = 8, (_mixed, _of_grid)
