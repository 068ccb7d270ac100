"""Where samples are: jitter of coordinates and distances between them, on the device."""

import torch
from torch import Tensor

from fm.geo import EARTH_RADIUS_M
from fm.location.encoding import unit_vector
from fm.rng import CounterRng
from pretrain.objectives.contrast.places import place_ids
from pretrain.ranks import collective


def jittered(lonlat: Tensor, rng: CounterRng, degrees: float) -> Tensor:
    """Move places by up to so many degrees of a great circle to either side, east and north.

    The move is the same on the ground everywhere: degrees of longitude are divided by the cosine
    of the latitude. Over a pole the other side is reached. SatCLIP's own jitter only adds: it moves
    every place north-east by half its size, less so in the east the further from the equator, and
    may leave the sphere.

    Args:
        lonlat: `[B, 2]` degrees; NaN stays.
        rng: of the same samples.
        degrees: half the side of the square.

    Returns:
        `[B, 2]` float64, longitude from -180 to below 180.
    """
    drawn = rng.uniform("place:jitter", 2).double() * 2 - 1
    lon, lat = lonlat.double().unbind(1)
    north = lat + degrees * drawn[:, 1]
    # next to a pole any longitude is near
    east = degrees * drawn[:, 0] / torch.cos(torch.deg2rad(lat)).clamp(min=1e-3)
    beyond = north.abs() > 90
    lat = torch.where(beyond, torch.sign(north) * 180 - north, north)
    lon = lon + east + 180 * beyond
    return torch.stack([torch.remainder(lon + 180, 360) - 180, lat], dim=1)


def repeated_places(lonlat: Tensor | None, known: Tensor) -> Tensor:
    """Say whose place another sample of the global batch has too, to a metre: `[n]` float32.

    Args:
        lonlat: `[n, 2]` degrees of this process's samples; None when unknown for all.
        known: `[n]` bool, those that count.
    """
    ids = torch.where(known, place_ids(lonlat, known), 0)
    every = collective.gather_rows(ids)
    several = (ids[:, None] == every[None]).sum(dim=1) > 1
    return (several & (ids != 0)).float()


def distances_km(a: Tensor, b: Tensor) -> Tensor:
    """Return great-circle distances of places `[n, 2]` and `[m, 2]` in degrees: `[n, m]` float64.

    By the chord, which is exact for small distances as well; NaN where a place is unknown.
    """
    a, b = (unit_vector(x.double()) for x in (a, b))
    # not by products, which round small distances away, and without holding [n, m, 3]
    chord = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    return 2 * EARTH_RADIUS_M / 1000 * torch.asin((chord / 2).clamp(max=1.0))


def nearness(km: Tensor, soft_km: float) -> Tensor:
    """Return how right the answers at these distances are: exp(-distance / soft_km), float32."""
    return torch.exp(-km / soft_km).nan_to_num(nan=0.0).float()
