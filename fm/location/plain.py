"""The simplest encodings: degrees, their sines and cosines, the unit vector."""

import torch
from torch import Tensor

from fm.location.encoding import Encoding, spherical, unit_vector, wrapped


class Degrees(Encoding):
    """`(lon / 180, lat / 90)`: -1 to 1, with a seam at the date line."""

    dim = 2

    def encode(self, lonlat: Tensor) -> Tensor:
        """Encode `[N, 2]` to `[N, 2]`."""
        lon, lat = lonlat.unbind(1)
        return torch.stack([wrapped(lon) / 180, lat / 90], dim=1).to(self.dtype)


class Wrap(Encoding):
    """`(cos lon, sin lon, cos lat, sin lat)` (Mac Aodha et al. 2019, arXiv 1906.05272)."""

    dim = 4

    def encode(self, lonlat: Tensor) -> Tensor:
        """Encode `[N, 2]` to `[N, 4]`."""
        lon, lat = spherical(lonlat)
        return torch.stack([lon.cos(), lon.sin(), lat.cos(), lat.sin()], dim=1).to(self.dtype)


class Cartesian(Encoding):
    """The unit vector `(cos lat cos lon, cos lat sin lon, sin lat)`."""

    dim = 3

    def encode(self, lonlat: Tensor) -> Tensor:
        """Encode `[N, 2]` to `[N, 3]`."""
        return unit_vector(lonlat).to(self.dtype)
