"""Real spherical harmonics of any degree, as products of trigonometric sums."""

import math
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from fm.errors import UsageError, suggest
from fm.location.encoding import Encoding, block_of
from fm.location.legendre import fourier

Convention = Literal["satclip", "orthonormal", "closed_form"]
LARGEST = 256
"""The table of coefficients has L^3 numbers of 8 bytes: 134 MB at 256."""
_STRIDE = 8


class SphericalHarmonics(Encoding):
    """Real spherical harmonics of degrees 0 to L - 1.

    Feature `l^2 + l + m` belongs to degree l and order m, from -l to l. `Y(l, m)` is
    `sqrt(2) P(l, m) cos(m lon)` for m > 0, `sqrt(2) P(l, |m|) sin(|m| lon)` for m < 0 and
    `P(l, 0)` for m = 0, with P from `fm.location.legendre` at the colatitude from the north pole,
    evaluated as trigonometric sums in float64 angles: exact at the poles and across the date line,
    with finite gradients everywhere.

    Args:
        L: degrees; the features are L^2.
        convention: `orthonormal` is the above. `satclip`, what SatCLIP's released weights were
            trained on, counts both angles from the south pole at 180 W, which is a factor
            (-1)^l, and its columns m = 0 are pi times as large (a slip in the program that wrote
            its expressions). `closed_form`, the slower option of the same code, has the Condon-
            Shortley phase and not the pi: the factor is (-1)^(l + m).

    Raises:
        UsageError: L out of range, or an unknown convention.
    """

    def __init__(self, L: int = 40, convention: Convention = "satclip") -> None:
        super().__init__()
        if not 1 <= L <= LARGEST:
            raise UsageError(f"L={L} is out of range; choose 1 to {LARGEST} degrees")
        if convention not in get_args(Convention):
            hint = suggest(convention, get_args(Convention))
            raise UsageError(f"there is no convention {convention!r}; {hint}")
        self.L = L
        self.convention: Convention = convention
        self.dim = L * L
        self.rebuild()

    def extra_repr(self) -> str:
        """Show the arguments."""
        return f"L={self.L}, convention={self.convention!r}"

    def factors(self) -> np.ndarray:
        """Return `[L, L]` by degree and |m|: what the convention multiplies P with."""
        degree, order = np.ogrid[: self.L, : self.L]
        factor = np.where(order == 0, 1.0, math.sqrt(2))
        if self.convention == "satclip":
            factor = np.where(order == 0, math.pi, factor) * (-1.0) ** degree
        elif self.convention == "closed_form":
            factor = factor * (-1.0) ** (degree + order)
        return np.broadcast_to(factor, (self.L, self.L))

    def rebuild(self) -> None:
        """Cut the table of coefficients into the pieces that the products need.

        Multiples k of the latitude serve for those of the colatitude t: of parities alike of order
        and k the function (cos kt or sin kt) is a cosine of k lat, of others a sine, up to a sign.
        Angles are half as large, and no digit of the latitude is lost in 90 - lat.
        """
        order, turn = np.ogrid[: self.L, : self.L]
        signs = (-1.0) ** (turn // 2) * np.where((order % 2 == 1) & (turn % 2 == 0), -1.0, 1.0)
        table = fourier(self.L) * self.factors()[..., None] * signs
        device, dtype = self.anchor.device, self.dtype

        def tensor(rows: list[np.ndarray]) -> Tensor:
            return torch.tensor(np.array(rows), dtype=dtype, device=device)

        # a row of the degree for each order of one parity, from -l to l, over k <= l
        self._degrees: list[list[Tensor]] = []
        for degree in range(self.L):
            k = slice(degree % 2, degree + 1, 2)
            orders = range(-degree, degree + 1)
            parts = [[table[degree, abs(m), k] for m in orders if m % 2 == p] for p in (0, 1)]
            self._degrees.append([tensor(part) for part in parts if part])
        # the same for orders >= 0, all degrees of one parity at once
        self._classes: list[tuple[int, int, Tensor]] = []
        place: dict[tuple[int, int], int] = {}
        for odd_order in (0, 1):
            for odd in (0, 1):
                found = [
                    (degree, m)
                    for degree in range(odd, self.L, 2)
                    for m in range(odd_order, degree + 1, 2)
                ]
                if found:
                    place.update({item: len(place) + i for i, item in enumerate(found)})
                    rows = [table[degree, m, odd::2] for degree, m in found]
                    self._classes.append((odd_order, odd, tensor(rows)))
        columns = [(degree, m) for degree in range(self.L) for m in range(-degree, degree + 1)]
        self._polar = torch.tensor([place[degree, abs(m)] for degree, m in columns], device=device)
        # rows of the cosines, then of the sines
        rows_of = [m if m >= 0 else self.L - m for _, m in columns]
        self._azimuth = torch.tensor(rows_of, device=device)
        multiples = torch.cat([torch.arange(_STRIDE), torch.arange(0, self.L, _STRIDE)])
        self._turns = torch.deg2rad(multiples.double()).to(device)[:, None]

    def encode(self, lonlat: Tensor) -> Tensor:
        """Encode by degrees on a CPU, at once where gradients or a device are involved."""
        wanted = torch.is_grad_enabled() and lonlat.requires_grad
        if wanted or lonlat.device.type != "cpu" or torch.compiler.is_compiling():
            return self.encode_at_once(lonlat)
        out = lonlat.new_empty((self.dim, len(lonlat)), dtype=self.dtype)
        block = block_of(self)
        for start in range(0, len(lonlat), block):
            self._by_degree(lonlat[start : start + block], out[:, start : start + block])
        return out.T

    def encode_at_once(self, lonlat: Tensor) -> Tensor:
        """Encode in a number of operations that does not depend on L or N; differentiable.

        Args:
            lonlat: `[N, 2]` float64 degrees.

        Returns:
            `[N, L * L]`, a transposed view.
        """
        lon, lat = lonlat.unbind(1)
        cosines, sines = self._multiples(torch.stack([torch.fmod(lon, 360), lat]))
        of_lon, of_lat = zip(
            cosines.to(self.dtype).unbind(), sines.to(self.dtype).unbind(), strict=True
        )
        polar = self._polars(*of_lat)
        azimuth = torch.cat(of_lon).index_select(0, self._azimuth)
        if torch.is_grad_enabled() and lonlat.requires_grad:
            return (polar * azimuth).T
        return polar.mul_(azimuth).T

    def polar(self, lat: Tensor) -> Tensor:
        """Return what harmonics have of the latitude, `[L * L, n]`, for `[n]` float64 degrees."""
        cosines, sines = self._multiples(lat)
        return self._polars(cosines.to(self.dtype), sines.to(self.dtype))

    def azimuth(self, lon: Tensor) -> Tensor:
        """Return what they have of the longitude: `[2L - 1, n]` for orders -(L - 1) to L - 1."""
        return self._azimuths(*self._multiples(torch.fmod(lon, 360)))

    def _by_degree(self, lonlat: Tensor, out: Tensor) -> None:
        """Write `[L * L, n]`; each degree is finished while it is in the cache."""
        lon, lat = lonlat.unbind(1)
        cosines, sines = self._multiples(torch.stack([torch.fmod(lon, 360), lat]))
        polar = [
            [part[1, odd::2].to(self.dtype).contiguous() for part in (cosines, sines)]
            for odd in (0, 1)
        ]
        azimuths = self._azimuths(cosines[0], sines[0])
        for degree, tables in enumerate(self._degrees):
            rows = out[degree**2 : (degree + 1) ** 2]
            odd = degree % 2
            for odd_order, table in enumerate(tables):
                # orders run from -l: the first of even parity is row 0 or 1
                target = rows[(odd + odd_order) % 2 :: 2]
                torch.mm(table, polar[odd][odd_order ^ odd][: table.shape[1]], out=target)
            rows.mul_(azimuths[self.L - 1 - degree : self.L + degree])

    def _polars(self, cosines: Tensor, sines: Tensor) -> Tensor:
        """Return `[L * L, n]` of multiples `[L, n]` of the latitude, in the dtype of features."""
        return torch.cat(
            [
                table @ (sines if odd_order != odd else cosines)[odd::2]
                for odd_order, odd, table in self._classes
            ]
        ).index_select(0, self._polar)

    def _azimuths(self, cosines: Tensor, sines: Tensor) -> Tensor:
        """Return `[2L - 1, n]`: sin(|m| lon) for m from -(L - 1), then cos(m lon) from 0."""
        return torch.cat([sines[1:].flip(0), cosines]).to(self.dtype)

    def _multiples(self, degrees: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines `[..., L, n]` of multiples 0 to L - 1 of angles `[..., n]`.

        Eight multiples and every eighth are evaluated, the rest follows by the addition theorem.
        """
        turned = degrees.unsqueeze(-2) * self._turns
        parts = [_STRIDE, len(self._turns) - _STRIDE]
        fine_c, coarse_c = turned.cos().split(parts, dim=-2)
        fine_s, coarse_s = turned.sin().split(parts, dim=-2)
        c, s = fine_c.unsqueeze(-3), fine_s.unsqueeze(-3)
        big_c, big_s = coarse_c.unsqueeze(-2), coarse_s.unsqueeze(-2)
        cosines = torch.addcmul(big_c * c, big_s, s, value=-1).flatten(-3, -2)
        sines = torch.addcmul(big_s * c, big_c, s).flatten(-3, -2)
        if self.L % _STRIDE == 0:
            return cosines, sines
        return cosines[..., : self.L, :], sines[..., : self.L, :]
