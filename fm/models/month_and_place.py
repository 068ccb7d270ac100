"""What Presto and Galileo are told of an image beside its pixels: its month and its place."""

import torch
from torch import Tensor, nn

from fm.models.inputs import Inputs
from fm.models.series import calendar


def month_table(width: int) -> Tensor:
    """Make codes of the months `[12, width]`: the sine of the season, then its cosine, repeated."""
    season = torch.arange(12, dtype=torch.float64) * (torch.pi / 6)
    half = width // 2
    return torch.cat(
        [season.sin()[:, None].expand(-1, half), season.cos()[:, None].expand(-1, half)], 1
    ).float()


def month_codes(table: Tensor, inputs: Inputs) -> Tensor:
    """Return the codes of the images' months `[B, T, D]` of a table `[12, D]`, 0 where unknown."""
    times = inputs.times
    if times is None and inputs.time is not None:
        times = inputs.time[:, None]
    if times is None:
        return table.new_zeros(inputs.size, inputs.images, table.shape[1])
    times = times.to(table.device)
    known = torch.isfinite(times)
    month = calendar(torch.where(known, times.double(), 0.0))[..., 1] - 1
    return torch.where(known[..., None], table[month], 0.0)


def place_token(layer: nn.Linear, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Make the token of the place.

    Args:
        layer: from a unit vector, 3 numbers, to D.
        inputs: the batch.

    Returns:
        `[B, D]`, and of which samples the place is known `[B]`.
    """
    weight = layer.weight
    if inputs.lonlat is None:
        known = torch.zeros(inputs.size, dtype=torch.bool, device=weight.device)
        return weight.new_zeros(inputs.size, layer.out_features), known
    place, known = unit_vectors(inputs.lonlat.to(weight.device))
    return layer(place.to(weight.dtype)), known


def unit_vectors(lonlat: Tensor) -> tuple[Tensor, Tensor]:
    """Return places on the unit sphere.

    Args:
        lonlat: `[B, 2]` degrees, NaN where unknown.

    Returns:
        `[B, 3]` float64 (of lon 0, lat 0 where unknown), and which are known `[B]`.
    """
    known = torch.isfinite(lonlat).all(dim=1)
    lon, lat = torch.where(known[:, None], lonlat.double(), 0.0).deg2rad().unbind(dim=1)
    return torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], dim=1), known
