"""Places and blocks that the names of GEO-Bench v1's samples tell.

The geometry stored beside the pixels is missing or the same for all samples of a task
(ServiceNow/geo-bench issue 27), but names of four tasks were made from coordinates or fields.
"""

import math
import re
from collections.abc import Callable

from fm.errors import FMError

Place = Callable[[str], tuple[float, float]]
"""Name to longitude and latitude in degrees."""


def forest(name: str) -> tuple[float, float]:
    """`LAT_LON_YYYY_MM_DD` of ForestNet."""
    lat, lon = name.split("_")[:2]
    return float(lon), float(lat)


def roof(name: str) -> tuple[float, float]:
    """`LAT,LON` or, for many, `LON,LAT` of PV4GER; in Germany the larger is the latitude."""
    lon, lat = sorted(map(float, name.split(",")))
    return lon, lat


def cattle(name: str) -> tuple[float, float]:
    """`N_PLACE_YEARS_LON,LAT` of NZ Cattle, perhaps with more behind it."""
    lon, lat = name.replace("Kapiti_Coast", "Kapiti-Coast").split("_")[3].split(",")[:2]
    return float(lon), float(lat)


def known(place: Place, name: str) -> tuple[float, float]:
    """The place that a name tells; NaN for a name of another form."""
    try:
        return place(name)
    except (ValueError, IndexError):
        return math.nan, math.nan


def cell(place: Place, degrees: float, name: str) -> str:
    """Square of a grid of longitude and latitude.

    Raises:
        FMError: the name tells no place.
    """
    lon, lat = known(place, name)
    if math.isnan(lon):
        raise FMError(f"{name}: its name tells no place to block by; take the published files")
    return f"{math.floor(lat / degrees)} {math.floor(lon / degrees)}"


def loss(name: str) -> str:
    """ForestNet's place, without the date."""
    return "_".join(name.split("_")[:2])


def field(name: str) -> str:
    """The labelled window of the crop type competition, without the number of the date."""
    return name.rpartition("_")[0]


def tile(name: str) -> str:
    """NEON's picture, without the place of the window in it."""
    return re.sub(r"_\d{2}_\d{2}$", "", name)
