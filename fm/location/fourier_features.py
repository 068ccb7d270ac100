"""Random Fourier features of a projection of the globe, drawn once or learned."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from fm.errors import UsageError, suggest
from fm.location.encoding import Encoding, spherical, unit_vector, wrapped

Projection = Literal["equal_earth", "xyz", "degrees"]
_A = (1.340264, -0.081106, 0.000893, 0.003796)
_SCALE = 66.50336 / 180


class RandomFourier(Encoding):
    """`cos(2 pi B v)` and `sin(2 pi B v)` of a projected place v, with a Gaussian B.

    Rahimi & Recht 2007. GeoCLIP takes the Equal Earth projection and 256 rows of B; `xyz`, the
    unit vector, has no seam at the date line.

    Args:
        sigma: standard deviation of B, in cycles over a unit of v.
        count: rows of B; the features are twice as many.
        projection: `equal_earth` (as GeoCLIP scales it), `xyz`, or `degrees` (lon / 180, lat / 90).
        learnable: train B (learnable frequencies; Li et al. 2021, arXiv 2106.02795).
        seed: B is drawn from.

    Raises:
        UsageError: a sigma, count or seed out of range, or an unknown projection.
    """

    frequencies: Tensor

    def __init__(
        self,
        sigma: float = 1.0,
        count: int = 256,
        projection: Projection = "equal_earth",
        learnable: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 < sigma < math.inf or count < 1:
            raise UsageError(f"sigma={sigma}, count={count}: both are above 0, sigma is finite")
        if not -(2**63) <= seed < 2**64:
            raise UsageError(f"seed={seed}: give a whole number below 2^64")
        if projection not in get_args(Projection):
            hint = suggest(projection, get_args(Projection))
            raise UsageError(f"there is no projection {projection!r}; {hint}")
        self.projection: Projection = projection
        self.dim, self.fixed = 2 * count, not learnable
        size = (count, 3 if projection == "xyz" else 2)
        drawn = sigma * torch.randn(size, generator=torch.Generator().manual_seed(seed))
        if learnable:
            self.frequencies = nn.Parameter(drawn)
        else:
            self.register_buffer("frequencies", drawn)

    def extra_repr(self) -> str:
        """Show the arguments."""
        return f"dim={self.dim}, projection={self.projection!r}, learnable={not self.fixed}"

    def project(self, lonlat: Tensor) -> Tensor:
        """Return v, `[N, 2]` or `[N, 3]`."""
        if self.projection == "xyz":
            return unit_vector(lonlat)
        if self.projection == "equal_earth":
            return equal_earth(lonlat)
        lon, lat = lonlat.unbind(1)
        return torch.stack([wrapped(lon) / 180, lat / 90], dim=1)

    def encode(self, lonlat: Tensor) -> Tensor:
        """Encode `[N, 2]` to `[N, 2 * count]`, all cosines first."""
        turns = self.project(lonlat) @ self.frequencies.to(torch.float64).T
        phase = 2 * math.pi * turns
        return torch.cat([phase.cos(), phase.sin()], dim=1).to(self.dtype)


def equal_earth(lonlat: Tensor) -> Tensor:
    """Project by Equal Earth, an equal-area projection with curved sides.

    Šavrič, Patterson & Jenny 2018, Int. J. Geogr. Inf. Sci. 33(3), scaled as GeoCLIP does.

    Args:
        lonlat: `[N, 2]` degrees.

    Returns:
        `[N, 2]` x, about -1 to 1, and y, about -0.49 to 0.49.
    """
    lon, lat = spherical(lonlat)
    a1, a2, a3, a4 = _A
    theta = torch.asin(math.sqrt(3) / 2 * lat.sin())
    square = theta**2
    sixth = square**3
    slope = a1 + 3 * a2 * square + sixth * (7 * a3 + 9 * a4 * square)
    x = 2 * math.sqrt(3) * lon * theta.cos() / (3 * slope)
    y = theta * (a1 + a2 * square + sixth * (a3 + a4 * square))
    return torch.stack([x, y], dim=1) * _SCALE
