"""Tokens that tell where and when an image was taken."""

import math

import torch
from torch import Tensor, nn

from fm.errors import UsageError, suggest

YEAR_S = 365.2425 * 86400


LATEST_S = 253_402_300_800.0
"""The year 10000: later are milliseconds."""


def check_known(lonlat: Tensor | None, times: Tensor | None) -> None:
    """Refuse what can be no place or no time: an unknown one is NaN.

    Args:
        lonlat: `[B, 2]` degrees.
        times: `[B]` or `[B, T]` seconds since 1970 UTC.

    Raises:
        UsageError: a latitude beyond the poles, a longitude beyond a turn and a half, or a time
            beyond the year 10000. Looked at on the CPU only: a device would have to wait.
    """
    found = {"lonlat": lonlat, "time": times}
    for name, value in found.items():
        if value is None or value.device.type != "cpu" or torch.compiler.is_compiling():
            continue
        size = value.detach().double().nan_to_num(0.0, 0.0, 0.0).abs()
        if name == "time" and bool((size > LATEST_S).any()):
            raise UsageError(
                f"time: {float(size.max()):.4g} s is beyond the year 10000; give seconds since "
                f"1970, not milliseconds"
            )
        if name == "lonlat" and bool((size > torch.tensor([540.0, 90.0 + 1e-6])).any()):
            raise UsageError("lonlat: no place on Earth; give (lon, lat) in degrees")


def place_features(lonlat: Tensor) -> Tensor:
    """Encode places by the real spherical harmonics of degrees 1 and 2.

    With (x, y, z) the unit vector to the place: sqrt(3) (x, y, z), sqrt(15) (xy, yz, zx),
    sqrt(15)/2 (x^2 - y^2) and sqrt(5)/2 (3 z^2 - 1) (any table of spherical harmonics, times
    sqrt(4 pi)). Over the globe they have mean 0, variance 1 and no correlation; being smooth on
    the sphere they have no seam at the date line or the poles. Degree 2 tells continents and
    climate belts apart, not sites.

    Args:
        lonlat: `[B, 2]` degrees.

    Returns:
        `[B, 8]` float32.
    """
    lon, lat = torch.deg2rad(lonlat.double()).unbind(dim=1)
    x, y, z = lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()
    linear = [math.sqrt(3) * part for part in (x, y, z)]
    products = [math.sqrt(15) * part for part in (x * y, y * z, z * x, (x * x - y * y) / 2)]
    zonal = math.sqrt(5) / 2 * (3 * z * z - 1)
    return torch.stack([*linear, *products, zonal], dim=1).float()


def time_features(time: Tensor) -> Tensor:
    """Encode times by the season, the hour and the year.

    Args:
        time: `[B]` seconds since 1970 UTC.

    Returns:
        `[B, 5]` float32: sine and cosine of the time of year and of the time of day, and decades
        since 2000.
    """
    seconds = time.double()
    # a tensor: ONNX would round the number to float32, and 16000 days by it are off by 0.003
    turn = torch.tensor(2 * math.pi, dtype=torch.float64, device=time.device)
    season = turn * (seconds / YEAR_S)
    hour = turn * (seconds / 86400)
    decades = (seconds / YEAR_S - 30.0) / 10.0
    parts = [season.sin(), season.cos(), hour.sin(), hour.cos(), decades]
    return torch.stack(parts, dim=1).float()


KINDS = {"lonlat": (place_features, 8), "time": (time_features, 5)}


class MetadataTokens(nn.Module):
    """One token for each kind of metadata; a sample without it gets a learned stand-in.

    A missing value touches its own sample only (Copernicus-FM drops the metadata of the whole
    batch when one is NaN).

    Args:
        kinds: some of `lonlat`, `time`.
        width: D.
    """

    def __init__(self, kinds: tuple[str, ...], width: int) -> None:
        super().__init__()
        for kind in kinds:
            if kind not in KINDS:
                raise UsageError(f"metadata: there is no {kind!r}; {suggest(kind, KINDS)}")
        if len(set(kinds)) < len(kinds):
            raise UsageError(f"metadata: {', '.join(kinds)} names one twice; name each once")
        self.kinds = kinds
        self.proj = nn.ModuleDict({kind: nn.Linear(KINDS[kind][1], width) for kind in kinds})
        self.missing = nn.ParameterDict({k: nn.Parameter(torch.randn(width) * 0.02) for k in kinds})

    def forward(self, values: dict[str, Tensor | None], batch: int) -> Tensor:
        """Make the tokens.

        Args:
            values: kind to `[B, ...]` with NaN where unknown, or None where unknown for all.
            batch: B.

        Returns:
            `[B, number of kinds, D]`.
        """
        tokens = []
        for kind in self.kinds:
            absent = self.missing[kind].expand(batch, -1)
            value = values.get(kind)
            if value is None:
                tokens.append(absent)
                continue
            # seconds since 1970 do not fit float32
            value = value.to(device=absent.device, dtype=torch.float64)
            known = torch.isfinite(value).reshape(batch, -1).all(dim=1)
            zeroed = torch.where(known.reshape(-1, *[1] * (value.ndim - 1)), value, 0.0)
            features = KINDS[kind][0](zeroed)
            tokens.append(torch.where(known[:, None], self.proj[kind](features), absent))
        return torch.stack(tokens, dim=1)
