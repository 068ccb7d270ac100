"""What the files of a scene must be, beyond what was declared of them: numbers, no-data, ground."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fm.errors import FMError
from fm.geo import lonlat_of
from fm.sensors import Band, Sensor

GROUND = 0.05
"""How far a metre of the map may be from one on the ground: more than UTM's 0.001, state planes'
and conic equal-area maps' few percent, less than Web Mercator's beyond 17 degrees of latitude."""
POSSIBLE = {"reflectance": (-0.9, 50.0), "dB": (-200.0, 200.0)}
"""By unit what no measurement lies beyond; -9999, of integers too, and 65535 of floats do."""
_STEP_M = 1000.0
_DIRECTIONS = {"x": (1, 0), "y": (0, 1), "x + y": (1, 1), "x - y": (1, -1)}
"""Along which a metre is measured; a map that is sheared shows it on the diagonals."""


def numbers(path: Path, sensor: Sensor, bands: Sequence[Band], dtype: np.dtype) -> None:
    """See that a file's type can hold what a sensor stores.

    Raises:
        FMError: complex numbers, or reflectance in 8 bits under a scale of more.
    """
    if dtype.kind not in "iuf":
        raise FMError(f"{path}: {dtype} pixels; integers or floats are read")
    reach = np.iinfo(dtype).max * sensor.scale if dtype.kind != "f" else np.inf
    if dtype.itemsize == 1 and bands[0].unit == "reflectance" and reach < 0.5:
        raise FMError(
            f"{path}: 8-bit pixels, and {sensor.name} stores reflectance / {sensor.scale:g}; a "
            f"stretched picture is no reflectance, give the product's own file"
        )


def ground(
    place: Path, crs: str, unit_m: float, box: tuple[float, float, float, float], gsd_m: float
) -> None:
    """See that a metre of the map is one on the ground all around the middle of a scene.

    Args:
        place: the file or folder.
        crs: as PROJ reads it.
        unit_m: metres in its unit.
        box: west, south, east, north.
        gsd_m: metres of a pixel.

    Raises:
        FMError: it is not, as in Web Mercator away from the equator, or where squares of the map
            are none of ground: cylindrical equal-area grids, sinusoidal ones off their middle.
    """
    from pyproj import Geod

    west, south, east, north = box
    x, y = (west + east) / 2, (south + north) / 2
    for name, (right, up) in _DIRECTIONS.items():
        half = _STEP_M / 2 / unit_m / math.hypot(right, up)
        ends = [lonlat_of(x + s * right, y + s * up, crs).tolist() for s in (-half, half)]
        share = Geod(ellps="WGS84").inv(*ends[0], *ends[1])[2] / _STEP_M
        if not abs(share - 1) <= GROUND:
            raise FMError(
                f"{place}: {gsd_m:g} m of {crs[:40]} are {gsd_m * share:.3g} m on the ground there "
                f"(along {name}); reproject it to its UTM zone (gdalwarp)"
            )


def known(
    place: Path, bands: Sequence[Band], scaling: tuple[float, float], pixels: np.ndarray
) -> None:
    """See that pixels taken as data can be data.

    Args:
        place: the file or folder.
        bands: of the channels.
        scaling: (scale, offset) of integers.
        pixels: `[C, n]` stored numbers of valid pixels.

    Raises:
        FMError: a number that no measurement has: no-data that the file does not state.
    """
    if not pixels.size:
        return
    scale, offset = (1.0, 0.0) if pixels.dtype.kind == "f" else scaling
    for band, values in zip(bands, pixels, strict=True):
        least, most = POSSIBLE.get(band.unit, (-np.inf, np.inf))
        for value in (values.min(), values.max()):
            if not least <= float(value) * scale + offset <= most:
                raise FMError(
                    f"{place}: {band.name} holds {value:g}, which is no {band.unit}; if it means "
                    f"no data, let the file say so (gdal_edit.py -a_nodata {value:g})"
                )
