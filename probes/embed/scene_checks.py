"""What the files of a scene must be, beyond what was declared of them: numbers, no-data, ground."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fm.errors import FMError
from fm.geo import lonlat_of
from fm.sensors import Band, Sensor

GROUND = 0.05
"""How far a pixel of the map may be from the ground it stands for: more than UTM's 0.001, state
planes' and equal-area maps' few percent, less than Web Mercator's beyond 18 degrees of latitude."""
POSSIBLE = {"reflectance": (-0.9, 50.0), "dB": (-200.0, 200.0)}
"""By unit what no measurement lies beyond; -9999, of integers too, and 65535 of floats do."""
_STEP_M = 1000.0


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
    """See that a metre of the map is one on the ground, in the middle of a scene.

    Args:
        place: the file or folder.
        crs: as PROJ reads it.
        unit_m: metres in its unit.
        box: west, south, east, north.
        gsd_m: metres of a pixel.

    Raises:
        FMError: it is not, as in Web Mercator away from the equator.
    """
    from pyproj import Geod

    west, south, east, north = box
    x, y = (west + east) / 2, (south + north) / 2
    half = _STEP_M / 2 / unit_m
    (a, b), (c, d) = (lonlat_of(x + side, y, crs).tolist() for side in (-half, half))
    share = Geod(ellps="WGS84").inv(a, b, c, d)[2] / _STEP_M
    if abs(share - 1) > GROUND:
        raise FMError(
            f"{place}: {gsd_m:g} m of {crs[:40]} are {gsd_m * share:.3g} m on the ground there; "
            f"reproject it to its UTM zone (gdalwarp)"
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
