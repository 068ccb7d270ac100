"""One Sentinel-2 scene, a raster a band, cut into patches on its three native grids.

The grids of a clipped scene rarely start at the same corner. A patch is a rectangle of ground
on the 60 m lattice of the coordinate system (multiples of 60 m, as all Sentinel-2 tiles are
laid out), and each band is read where its own geotransform puts that rectangle, never at the
same array index.
"""

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil, floor
from pathlib import Path
from typing import Any

import numpy as np

from fm import sensors
from fm.errors import FMError, UsageError
from fm.geo import lonlat_of
from shards.sample import Sample
from shards.sources.base import Content
from shards.writer import Declared

HELP = "a folder of single-band rasters of one Sentinel-2 scene"
LATTICE_M = 60
NO_DATA = 0
"""Sentinel-2's own code for a pixel without data."""


@dataclass(frozen=True)
class Grid:
    """One band's raster: where it lies and its pixels.

    Attributes:
        west: x of the left edge, metres.
        north: y of the upper edge, metres.
        pixel: size of a pixel, metres.
        data: `[H, W]` as stored.
    """

    west: float
    north: float
    pixel: float
    data: np.ndarray

    @property
    def east(self) -> float:
        """X of the right edge, metres."""
        return self.west + self.pixel * self.data.shape[1]

    @property
    def south(self) -> float:
        """Y of the lower edge, metres."""
        return self.north - self.pixel * self.data.shape[0]

    def window(self, west: float, north: float, size_m: float) -> np.ndarray:
        """Return the pixels of a square of ground inside the raster: `[n, n]`."""
        row = round((self.north - north) / self.pixel)
        column = round((west - self.west) / self.pixel)
        count = round(size_m / self.pixel)
        return self.data[row : row + count, column : column + count]


def read_bands(folder: Path, sensor: sensors.Sensor) -> tuple[dict[str, Grid], str]:
    """Read every band of a sensor from a folder.

    A file belongs to the band whose name stands before its extension, after a `_` or alone
    (`s2_B8A.jp2`, `T32..._B02.jp2`, `B01.tif`).

    Returns:
        band name to grid, and the coordinate system as WKT.

    Raises:
        FMError: a band is missing or doubled, or its raster is not north-up on the band's grid and
            on the 60 m lattice's subdivision.
    """
    import rasterio

    if not folder.is_dir():
        raise FMError(f"{folder}: no such folder; give the folder of the scene's band files")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        found = re.search(r"(?:^|_)(B\d\d|B8A)\.(?:jp2|tif|tiff)$", path.name, re.IGNORECASE)
        if found:
            name = found.group(1).upper()
            if name in files:
                raise FMError(
                    f"{folder}: two files for band {name}: {files[name].name}, {path.name}"
                )
            files[name] = path
    missing = [band.name for band in sensor.bands if band.name not in files]
    if missing:
        raise FMError(f"{folder}: no file for {', '.join(missing)} of {sensor.name}")
    grids: dict[str, Grid] = {}
    systems: dict[str, str] = {}
    for band in sensor.bands:
        path = files[band.name]
        try:
            with rasterio.open(path) as raster:
                transform, crs, data = raster.transform, raster.crs, raster.read()
        except rasterio.errors.RasterioIOError as error:
            raise FMError(f"{path}: not a raster that can be read ({error})") from None
        if len(data) != 1:
            raise FMError(f"{path}: {len(data)} bands; this source reads one band a file")
        if data.dtype != np.uint16:
            raise FMError(f"{path}: {data.dtype} pixels; Sentinel-2 numbers are uint16")
        if crs is None:
            raise FMError(f"{path}: no coordinate system; patches cannot be placed")
        if transform.b or transform.d or transform.a != -transform.e:
            raise FMError(f"{path}: the raster is rotated or its pixels are not square")
        if transform.a != band.gsd_m:
            raise FMError(
                f"{path}: pixels of {transform.a:g} m, {band.name} has {band.gsd_m:g} m; resampled "
                f"products are not read as native ones"
            )
        for what, edge in (("left", transform.c), ("upper", transform.f)):
            if edge % transform.a:
                raise FMError(
                    f"{path}: misaligned: its {what} edge at {edge:g} m is not a multiple of its "
                    f"{transform.a:g} m pixels, so its pixels straddle those of the other grids"
                )
        grids[band.name] = Grid(transform.c, transform.f, transform.a, data[0])
        systems[crs.to_wkt()] = band.name
    if len(systems) > 1:
        raise FMError(f"{folder}: bands in different coordinate systems: {[*systems.values()]}")
    return grids, next(iter(systems))


def patches(grids: Mapping[str, Grid], size_m: int) -> list[tuple[float, float]]:
    """Place patches on the 60 m lattice inside the ground that all bands cover.

    Returns:
        (west, north) of each, row by row from the north-west.
    """
    west = ceil(max(g.west for g in grids.values()) / LATTICE_M) * LATTICE_M
    north = floor(min(g.north for g in grids.values()) / LATTICE_M) * LATTICE_M
    east = min(g.east for g in grids.values())
    south = max(g.south for g in grids.values())
    rows = max(int((north - south) // size_m), 0)
    columns = max(int((east - west) // size_m), 0)
    return [(west + c * size_m, north - r * size_m) for r in range(rows) for c in range(columns)]


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--folder", type=Path, required=True, help="folder of the band files")
    add_options(parser)


def add_options(parser: ArgumentParser) -> None:
    """Add what every Sentinel-2 scene takes."""
    parser.add_argument(
        "--sensor",
        default="sentinel2-l1c",
        help="level and baseline, such as sentinel2-l1c-n0400 (from 2022-01-25 on)",
    )
    parser.add_argument("--patch", type=int, default=96, help="side in 10 m pixels (default 96)")
    parser.add_argument("--time", help="acquisition time, ISO-8601 UTC; unknown when not given")


def read(arguments: Namespace) -> Content:
    """Open the scene and place its patches."""
    return cut_scene(
        arguments.folder,
        name=re.sub(r"[^A-Za-z0-9-]+", "-", arguments.folder.resolve().name).strip("-") or "scene",
        sensor=arguments.sensor,
        patch=arguments.patch,
        time=arguments.time,
        provenance={"source": "sentinel2-scene", "folder": arguments.folder.name},
        licence="Copernicus Sentinel data, free and open (Regulation EU 377/2014)",
    )


def cut_scene(
    folder: Path,
    *,
    name: str,
    sensor: str,
    patch: int,
    time: str | None,
    provenance: Mapping[str, Any],
    licence: str,
) -> Content:
    """Cut a scene into patches.

    Raises:
        UsageError: a patch size that is not a whole number of 60 m pixels, or another sensor.
        FMError: the scene is not what it must be, or is smaller than a patch.
    """
    described = sensors.sensor(sensor)
    if not described.name.startswith("sentinel2-"):
        raise UsageError(f"--sensor {sensor}: this source reads Sentinel-2")
    if patch <= 0 or patch * 10 % LATTICE_M:
        raise UsageError(f"--patch {patch}: give a multiple of 6 pixels of 10 m (60 m)")
    grids, crs = read_bands(folder, described)
    places = patches(grids, patch * 10)
    if not places:
        raise FMError(f"{folder}: no {patch} px patch fits into the ground that all bands cover")
    make = partial(_sample, described, grids, crs, patch * 10, name, time)
    return Content(
        name=name,
        samples=(make(west, north) for west, north in places),
        total=len(places),
        modalities={
            modality: Declared(described.name, tuple(band.name for band in bands))
            for modality, bands in described.modalities.items()
        },
        provenance={**provenance, "patch_m": patch * 10, "lattice_m": LATTICE_M},
        licence=licence,
    )


def _sample(
    sensor: sensors.Sensor,
    grids: Mapping[str, Grid],
    crs: str,
    size_m: int,
    name: str,
    time: str | None,
    west: float,
    north: float,
) -> Sample:
    arrays = {
        modality: np.stack([grids[band.name].window(west, north, size_m) for band in bands])
        for modality, bands in sensor.modalities.items()
    }
    finest = min(grids.values(), key=lambda grid: grid.pixel)
    row = round((finest.north - north) / finest.pixel)
    column = round((west - finest.west) / finest.pixel)
    side = round(size_m / finest.pixel)
    lon, lat = lonlat_of(west + size_m / 2, north - size_m / 2, crs)
    valid = [np.mean((array != NO_DATA).all(axis=0)) for array in arrays.values()]
    return Sample(
        key=f"{name}_{row:05d}_{column:05d}",
        arrays=arrays,
        lonlat=(float(lon), float(lat)),
        time=time,
        window=(row, column, side, side),
        valid_fraction=float(min(valid)),
    )
