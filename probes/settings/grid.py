"""Grids of values to choose from."""

import numpy as np
from pydantic import Field

from fm.config import Config


class Grid(Config):
    """Values spaced evenly in their logarithm, from `low` to `high`."""

    low: float = Field(gt=0)
    high: float = Field(gt=0)
    count: int = Field(ge=2, le=1000)

    def values(self) -> list[float]:
        """The values, ascending."""
        return [float(v) for v in np.geomspace(self.low, self.high, self.count)]
