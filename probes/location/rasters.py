"""A global grid of numbers, read at places."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError


@dataclass(frozen=True)
class Raster:
    """A regular longitude-latitude grid around the globe.

    Attributes:
        values: `[R, C]`, rows from north to south.
        north: latitude of the first row's centres in degrees.
        west: longitude of the first column's centres.
        step: degrees between centres, in both directions.
    """

    values: np.ndarray
    north: float
    west: float
    step: float

    def place(self, lonlat: np.ndarray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return row and column of places `[N, 2]`, as fractions; columns are not wrapped.

        Raises:
            FMError: a latitude beyond the poles, as when latitude is given first.
        """
        lon, lat = np.asarray(lonlat, np.float64).T
        if (np.abs(lat) > 90).any():
            raise FMError("a latitude lies beyond the poles; coordinates are (lon, lat) in degrees")
        return (self.north - lat) / self.step, np.mod(lon - self.west, 360.0) / self.step

    def nearest(self, lonlat: np.ndarray) -> np.ndarray:
        """Return the value of the cell that each place lies in, `[N]`."""
        row, column = self.place(lonlat)
        around = round(360 / self.step)
        rows = np.clip(np.rint(row).astype(np.int64), 0, len(self.values) - 1)
        return self.values[rows, np.rint(column).astype(np.int64) % around]

    def linear(self, lonlat: np.ndarray) -> NDArray[np.float64]:
        """Return values between the four centres around each place, `[N]`; wraps around."""
        row, column = self.place(lonlat)
        around = round(360 / self.step)
        row = np.clip(row, 0, len(self.values) - 1)
        top, left = np.floor(row).astype(np.int64), np.floor(column).astype(np.int64)
        down, right = row - top, column - left
        below = np.minimum(top + 1, len(self.values) - 1)
        parts = [
            (top, left, (1 - down) * (1 - right)),
            (top, left + 1, (1 - down) * right),
            (below, left, down * (1 - right)),
            (below, left + 1, down * right),
        ]
        taken = [self.values[r, c % around].astype(np.float64) * w for r, c, w in parts]
        return np.asarray(sum(taken))
