"""Embeddings on a regular grid of longitudes and latitudes, by a first layer that separates."""

from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn

from fm.linear import linear
from fm.location.encoder import LocationEncoder
from fm.location.encoding import check
from fm.location.harmonics import SphericalHarmonics

_POINTS = 8192
"""Places embedded at a time."""


@torch.no_grad()
def on_grid(
    encoder: nn.Module,
    lon: Tensor,
    lat: Tensor,
    *,
    month: float | None = None,
    separable: bool = True,
) -> Iterator[Tensor]:
    """Embed every place of a regular grid, some rows at a time.

    A harmonic is a function of the latitude times one of the longitude, so on a row of the grid
    the first layer is a sum over the 2L - 1 orders: the sum over degrees is taken once a row.
    At L = 40 that layer costs a twentieth. Other encodings take the ordinary way.

    Args:
        encoder: a `LocationEncoder`, or any module of places `[N, 2]`, such as an encoding; in
            `eval()`.
        lon: `[X]` degrees.
        lat: `[Y]` degrees.
        month: 1 to 12, where the encoder has a season.
        separable: false for the ordinary way, to compare with.

    Yields:
        `[rows, X, dim]`, the rows in the order of `lat`.

    Raises:
        FMError: a latitude beyond the poles, or a month missing or not used.
    """
    device = next(chain(encoder.parameters(), encoder.buffers())).device
    lon, lat = lon.to(device, torch.float64), lat.to(device, torch.float64)
    check(torch.stack([torch.zeros_like(lat), lat], dim=1))
    rows = max(1, _POINTS // len(lon))
    months = {} if month is None else {"month": torch.full((rows * len(lon),), float(month))}
    encoding = encoder.first.encoding if isinstance(encoder, LocationEncoder) else None
    if separable and isinstance(encoding, SphericalHarmonics):
        assert isinstance(encoder, LocationEncoder)
        first = _Separated(encoder, encoding, lon)
    else:
        first = None
    for start in range(0, len(lat), rows):
        some = lat[start : start + rows]
        given = {key: value[: len(some) * len(lon)] for key, value in months.items()}
        if first is None:
            places = torch.stack(torch.meshgrid(lon, some, indexing="xy"), dim=-1)
            made = encoder(places.flatten(0, 1), **given)
        else:
            assert isinstance(encoder, LocationEncoder)
            made = encoder.from_first(first(some), **given).embedding
        yield made.unflatten(0, (len(some), len(lon)))


class _Separated:
    """The first layer, order by order.

    Args:
        encoder: whose first layer.
        harmonics: its encoding.
        lon: `[X]` degrees.
    """

    def __init__(
        self, encoder: LocationEncoder, harmonics: SphericalHarmonics, lon: Tensor
    ) -> None:
        self.harmonics = harmonics
        size = harmonics.L
        dtype = harmonics.dtype
        self.azimuth = harmonics.azimuth(lon).T.contiguous()
        self.bias = encoder.first.bias.to(dtype)
        weight = encoder.first.weight.to(dtype).T
        # the degrees of every order, and their weights
        degrees = [torch.arange(abs(m), size, device=lon.device) for m in range(1 - size, size)]
        orders = range(1 - size, size)
        self.columns = [d * d + d + m for d, m in zip(degrees, orders, strict=True)]
        self.weights = [weight[columns] for columns in self.columns]

    def __call__(self, lat: Tensor) -> Tensor:
        """Return `[Y * X, width]` before the activation."""
        harmonics = self.harmonics
        polar = harmonics.polar(lat)
        summed = polar.new_empty((len(lat), len(self.columns), len(self.bias)))
        for order, (columns, weight) in enumerate(zip(self.columns, self.weights, strict=True)):
            summed[:, order] = polar[columns].T @ weight
        return torch.cat([linear(self.azimuth, row.T, self.bias) for row in summed])
