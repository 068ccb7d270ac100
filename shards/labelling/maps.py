"""Land cover of a patch from rasters: the area of each class inside its footprint.

The footprint is the outline of the patch in its own coordinate system, its sides cut into pieces,
brought into the raster's. Each raster pixel counts with the share of it that lies inside
(`coverage`), and in degrees with the cosine of its latitude, so that areas are those on the ground.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fm.errors import FMError, UsageError
from fm.files import sha256_file
from shards.labelling.coverage import coverage
from shards.labelling.legends import Legend
from shards.sources.raster_io import open_raster
from shards.splits.methods import time_range

SIDE = 16
"""Pieces of each side of a footprint: a straight side is a curve in another projection."""
LARGEST = 1 << 26
"""Raster pixels that a footprint's box may hold."""
_RANGED = re.compile(r"(\d{4}[\d-]*(?:\.\.[\d-]*)?|\.\.\d{4}[\d-]*)=(.+)")


@dataclass(frozen=True)
class Footprint:
    """Outline of a patch.

    Attributes:
        crs: as PROJ reads it.
        transform: `(a, b, c, d, e, f)` of its pixels.
        height: in these pixels.
        width: in these pixels.
    """

    crs: str
    transform: tuple[float, ...]
    height: int
    width: int

    def outline(self) -> np.ndarray:
        """Return `[n, 2]` x, y in the coordinate system, in order, not closed."""
        along = np.arange(SIDE) / SIDE
        zero, one = np.zeros(SIDE), np.ones(SIDE)
        column = np.concatenate([along, one, 1 - along, zero]) * self.width
        row = np.concatenate([zero, along, one, 1 - along]) * self.height
        a, b, c, d, e, f = self.transform
        return np.stack([a * column + b * row + c, d * column + e * row + f], axis=1)


class Map:
    """One raster of land cover.

    Args:
        text: its path; `FROM..TO=PATH` is land cover of that time alone.
        legend: what its numbers mean.

    Attributes:
        path: of the file.
        start: seconds since 1970 UTC of its first moment; None for all times.
        stop: of the first moment after it.

    Raises:
        FMError: it cannot be read, or is no map of whole numbers with a place on Earth.
    """

    def __init__(self, text: str, legend: Legend) -> None:
        ranged = _RANGED.fullmatch(text)
        self.start: float | None = None
        self.stop = np.inf
        if ranged:
            self.start, self.stop = time_range(ranged[1])
        self.path = Path(ranged[2] if ranged else text)
        self.legend = legend
        self._raster = open_raster(self.path)
        if self._raster.crs is None:
            raise FMError(f"{self.path}: no coordinate system, so the raster cannot be placed")
        if np.dtype(self._raster.dtypes[0]).kind not in "iuf" or self._raster.count != 1:
            raise FMError(f"{self.path}: not one band of numbers; a class map is needed")
        nodata = self._raster.nodata
        if nodata is not None and np.isfinite(nodata) and legend.codes.get(int(nodata)) is not None:
            word = legend.classes[legend.codes[int(nodata)] or 0]
            raise FMError(
                f"{self.path}: its no-data number {int(nodata)} is {word} in the legend "
                f"{legend.name}; export it with another one"
            )
        self._crs = self._raster.crs.to_wkt()
        self._back = ~self._raster.transform
        self._degrees = bool(self._raster.crs.is_geographic)
        # grids of pixel centres repeat their first column a whole turn on
        self._columns = self._raster.width
        if self._degrees and (step := abs(self._raster.transform.a)):
            self._columns = min(self._columns, math.ceil(360 / step - 1e-6))

    def at(self, time: float) -> bool:
        """Say whether this map is of a moment (NaN: of an unknown one)."""
        return self.start is None or self.start <= time < self.stop

    def areas(self, footprint: Footprint) -> tuple[np.ndarray, float]:
        """Return the area of each class in a footprint `[classes]`, and the footprint's.

        Areas are in pixels of the raster (at the equator, where its coordinates are degrees).

        Raises:
            FMError: a number that the legend does not know, or a footprint that is too large.
        """
        nothing = np.zeros(len(self.legend.classes))
        place = footprint.outline()
        x, y = _projection(footprint.crs, self._crs).transform(place[:, 0], place[:, 1])
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            return nothing, 1.0  # the raster's projection does not reach there
        if not self._degrees:
            return self._inside(np.asarray(x), np.asarray(y)) or (nothing, 1.0)
        along = _unwrapped(np.asarray(x))
        if along is None:
            return nothing, 1.0  # around a pole, where longitudes enclose nothing
        # the raster may count longitudes from 0, or the patch lie on both sides of the date line
        found = [self._inside(along + turn, np.asarray(y)) for turn in (-360.0, 0.0, 360.0)]
        there = [part for part in found if part is not None]
        if not there:
            return nothing, 1.0
        return np.sum([sums for sums, _ in there], axis=0), there[0][1]

    def _inside(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float] | None:
        """Return areas of classes and all of an outline `[n]`; None where they do not meet."""
        columns, rows = self._back @ (x, y)
        left, top = int(np.floor(columns.min())), int(np.floor(rows.min()))
        width = int(np.ceil(columns.max())) - left
        height = int(np.ceil(rows.max())) - top
        r0, r1 = max(top, 0), min(top + height, self._raster.height)
        c0, c1 = max(left, 0), min(left + width, self._columns)
        if r0 >= r1 or c0 >= c1:
            return None
        if width * height > LARGEST:
            raise FMError(
                f"{self.path}: a patch covers {width} x {height} pixels of it; make it coarser"
            )
        weights = coverage(np.stack([columns - left, rows - top], axis=1), height, width)
        weights *= self._sizes(left, top, height, width)
        whole = float(weights.sum())
        window = ((r0, r1), (c0, c1))
        numbers = self._raster.read(1, window=window)
        known = (self._raster.read_masks(1, window=window) > 0) & np.isfinite(numbers)
        inside = weights[r0 - top : r1 - top, c0 - left : c1 - left]
        known &= inside > 0
        there = numbers[known]
        if (there % 1 != 0).any():
            raise FMError(f"{self.path}: numbers that are not whole; a class map is needed")
        classes = self.legend.table(there, str(self.path))
        kept = classes >= 0
        sums = np.bincount(classes[kept], inside[known][kept], minlength=len(self.legend.classes))
        return sums, whole

    def _sizes(self, left: int, top: int, height: int, width: int) -> np.ndarray | float:
        """Ground area of pixels relative to each other."""
        if not self._degrees:
            return 1.0
        columns, rows = np.meshgrid(np.arange(width) + left + 0.5, np.arange(height) + top + 0.5)
        _, lat = self._raster.transform @ (columns, rows)
        return np.cos(np.radians(np.clip(lat, -90, 90)))

    def about(self) -> dict[str, Any]:
        """Return what the provenance says of it."""
        return {"file": self.path.name, "sha256": sha256_file(self.path)}


class Maps:
    """Rasters that together say what covers the ground, tiles of one map or maps of several times.

    Args:
        texts: see `Map`.
        legend: of all.

    Attributes:
        timed: they are of times, so that each image has a label of its own.

    Raises:
        UsageError: only some of them say their time.
    """

    def __init__(self, texts: Sequence[str], legend: Legend) -> None:
        self.legend = legend
        self._maps = [Map(text, legend) for text in texts]
        self.timed = any(map_.start is not None for map_ in self._maps)
        if self.timed and any(map_.start is None for map_ in self._maps):
            raise UsageError("--from: give every raster its time (FROM..TO=FILE), or none")

    def __iter__(self) -> Iterator[Map]:
        return iter(self._maps)

    def areas(self, footprint: Footprint, time: float = np.nan) -> tuple[np.ndarray, float]:
        """Return the share of each class in a footprint `[classes]`, and 1 (the whole of it).

        Raises:
            FMError: two maps of one time say what covers the same ground.
        """
        total = np.zeros(len(self.legend.classes))
        for map_ in self._maps:
            if map_.at(time):
                areas, whole = map_.areas(footprint)
                total += areas / whole
        if total.sum() > 1 + 1e-3:
            raise FMError(
                f"{self._maps[0].path} and others overlap (a patch has {total.sum():.3f} of its "
                f"area in them); give maps that do not, or their times (FROM..TO=FILE)"
            )
        return total, 1.0


def _unwrapped(lon: np.ndarray) -> np.ndarray | None:
    """Longitudes `[n]` of a closed line without jumps; None of one around a pole."""
    steps = np.diff(lon, append=lon[:1])
    steps -= 360 * np.round(steps / 360)
    if abs(steps.sum()) > 180:
        return None
    return lon[0] + np.concatenate([[0.0], np.cumsum(steps[:-1])])


@lru_cache(maxsize=256)
def _projection(source: str, target: str) -> Any:
    from pyproj import Transformer
    from pyproj.exceptions import CRSError

    try:
        return Transformer.from_crs(source, target, always_xy=True)
    except CRSError:
        raise FMError(f"PROJ does not know the coordinate system {source[:60]!r}") from None
