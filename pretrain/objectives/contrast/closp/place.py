"""The location tower of GeoCLOSP: spherical harmonics of a place, and a small perceptron.

GeoCLOSP takes SatCLIP's frozen encoder (harmonics of 10 degrees and a SIREN) and learns a linear
layer behind it; this one is small and learned with the rest, from the same harmonics.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from fm.config import Config
from fm.location.harmonics import SphericalHarmonics
from pretrain.settings.kinds import Positive


class PlaceConfig(Config):
    """The location tower.

    Attributes:
        degrees: of the spherical harmonics; L^2 features.
        hidden: width of the perceptron.
    """

    degrees: int = Field(10, ge=1, le=100)
    hidden: Positive = 256


class PlaceTower(nn.Module):
    """Places to rows.

    Args:
        config: see `PlaceConfig`.
        width: D of a row.
    """

    def __init__(self, config: PlaceConfig, width: int) -> None:
        super().__init__()
        self.harmonics = SphericalHarmonics(config.degrees, "orthonormal")
        self.first = nn.Linear(self.harmonics.dim, config.hidden)
        self.last = nn.Linear(config.hidden, width)

    def forward(self, lonlat: Tensor) -> Tensor:
        """Encode places `[n, 2]` in degrees, NaN where unknown: `[n, D]`, those as any other."""
        features = self.harmonics(torch.nan_to_num(lonlat))  # in float64 inside
        made: Tensor = self.last(nn.functional.gelu(self.first(features.float())))
        return made.float()
