"""What is where: fields on the globe out of pip packages.

Every file is checked for the shape and the range that its numbers must have, because none of them
says its unit where it matters (ERA5's attributes say kelvin and metres, its numbers are degrees
Celsius and millimetres).
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError
from probes.location.packages import ERA5, KOPPEN, LAND, RELIEF, TURBIDITY, member
from probes.location.rasters import Raster

OCEAN = "Ocean"


def air_temperature(cache: Path) -> Raster:
    """Mean of the twelve months' air temperature at 2 m, degrees Celsius, 2000 to 2025, 0.25°."""
    return Raster(_era5(cache, "t2m", -75, 45).mean(0), 90.0, 0.0, 0.25)


def precipitation(cache: Path) -> Raster:
    """Precipitation of a year, millimetres (the sum of the months), 2000 to 2025, 0.25°."""
    return Raster(_era5(cache, "tp", 0, 4000).sum(0), 90.0, 0.0, 0.25)


def months(cache: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Each month's temperature (degrees Celsius) and precipitation (mm), `[12, 721, 1440]` each.

    Rows from 90 N, columns from Greenwich, every 0.25 degrees.
    """
    return _era5(cache, "t2m", -75, 45), _era5(cache, "tp", 0, 4000)


def elevation(cache: Path) -> Raster:
    """Height above the sea, metres, 5 minutes; 0 over the sea (ITU-R P.1511-2)."""
    path = member(RELIEF, cache)
    with np.load(path) as file:
        values = file["arr_0"]
    _expect(path, values, (2164, 4324), -500, 9000)
    # The file repeats cells beyond the poles and beyond 180 degrees.
    return Raster(values[:, :4320].astype(np.float32), 90.125, -180.125, 1 / 12)


def turbidity(cache: Path) -> Raster:
    """Linke turbidity, the mean of the twelve months, 5 minutes; stored as twentieths."""
    path = member(TURBIDITY, cache)
    with _hdf5(path) as file:
        total = np.zeros((2160, 4320), np.float32)
        stored = file["LinkeTurbidity"]
        if stored.shape != (2160, 4320, 12):
            raise FMError(f"{path}: its shape is {stored.shape}; the pinned file is another one")
        for first in range(0, 12, 2):  # two months lie in one chunk
            total += stored[:, :, first : first + 2].sum(-1, dtype=np.float32)
    values = total / (12 * 20)
    _expect(path, values, (2160, 4320), 0.5, 13)
    return Raster(values, 90 - 1 / 24, -180 + 1 / 24, 1 / 12)


def koppen(cache: Path) -> tuple[Raster, tuple[str, ...]]:
    """Köppen-Geiger classes at 100 seconds (Rubel et al. 2016); numbers from 0 and their names."""
    from PIL import Image

    path = member(KOPPEN, cache)
    with open(member(KOPPEN, cache, 1), newline="", encoding="utf-8") as stream:
        rows = sorted((int(row["zoneNum"]), row["kg_zone"]) for row in csv.DictReader(stream))
    if [number for number, _ in rows] != list(range(1, 33)) or rows[-1][1] != OCEAN:
        raise FMError(f"{path.parent}: the list of classes is not the pinned package's")
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, 6480 * 12960
    try:
        with Image.open(path) as picture:
            values = np.asarray(picture)
    finally:
        Image.MAX_IMAGE_PIXELS = before
    _expect(path, values, (6480, 12960), 1, 32)
    step = 100 / 3600
    raster = Raster(values - np.uint8(1), 90 - step / 2, -180 + step / 2, step)
    return raster, tuple(name for _, name in rows)


def land(cache: Path) -> Raster:
    """True on land, 30 seconds (GLOBE); inland water is land. Takes 0.9 GB of memory."""
    path = member(LAND, cache)
    with np.load(path) as file:
        water, first, last = file["mask"], file["lat"][0], file["lat"][-1]
    if water.shape != (21600, 43200) or not first > 89 or not last < -89:
        raise FMError(f"{path}: not the grid of the pinned package")
    step = 30 / 3600
    return Raster(~water, 90 - step / 2, -180 + step / 2, step)


def _hdf5(path: Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise FMError(
            "h5py is not installed; it reads the climate: pip install 'eofm[cube]'"
        ) from None
    return h5py.File(path)


def _era5(cache: Path, name: str, low: float, high: float) -> NDArray[np.float32]:
    path = member(ERA5, cache)
    with _hdf5(path) as file:
        values: Any = file[name][...]
        north, west = file["latitude"][0], file["longitude"][0]
    _expect(path, values, (12, 721, 1440), low, high)
    if (north, west) != (90.0, 0.0):
        raise FMError(f"{path}: the grid begins at {west}, {north}; expected 0, 90")
    return np.asarray(values, np.float32)


def _expect(
    path: Path, values: np.ndarray, shape: tuple[int, ...], low: float, high: float
) -> None:
    found = (float(np.nanmin(values)), float(np.nanmax(values)))
    if values.shape != shape or found[0] < low or found[1] > high:
        raise FMError(
            f"{path}: {values.shape} numbers from {found[0]:g} to {found[1]:g}, expected {shape} "
            f"from {low:g} to {high:g}; remove the file so that it is fetched again"
        )
