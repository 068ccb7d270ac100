"""A georeferenced scene, read by squares of ground: a folder of Sentinel-2's bands, or one raster.

What the numbers are is declared: by `sensor` for a folder, by `bands` for a raster. Refused are
pixel sizes that are not the bands' own, rotated grids, files that state another scale than the
sensor, and what `probes.embed.scene_checks` finds.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from fm import sensors
from fm.console import note
from fm.errors import FMError, UsageError
from fm.files import sha256_file
from fm.geo import lonlat_of
from fm.sensors import Band
from probes.embed import scene_checks
from shards.sources import sentinel2_scene
from shards.sources.raster_io import (
    Header,
    header,
    metres_a_unit,
    read_window,
    sentinel2_nodata,
)

LATTICE_M = sentinel2_scene.LATTICE_M


@dataclass(frozen=True)
class Layer:
    """One modality of a scene.

    Attributes:
        items: the bands, in the order of the channels.
        gsd: of a pixel, in units of the coordinate system.
        scaling: (scale, offset) of stored integers.
        dtype: of the stored numbers.
        nodata: the number that is no data, a band each; None where there is none.
        read: (band's place, west, north, rows, columns) to stored pixels; what lies outside of the
            file is cut off by the caller.
    """

    items: tuple[Band, ...]
    gsd: float
    scaling: tuple[float, float]
    dtype: np.dtype
    nodata: tuple[float | None, ...]
    read: Callable[[int, float, float, int, int], np.ndarray]

    @property
    def bands(self) -> tuple[str, ...]:
        """Names, in the order of the channels."""
        return tuple(band.name for band in self.items)


@dataclass(frozen=True)
class Scene:
    """A scene.

    Attributes:
        place: the folder or file.
        crs: as PROJ reads it.
        west: x of its upper left corner.
        north: y of it.
        east: x of the ground that all bands cover.
        south: y of it.
        layers: by modality.
        files: of its bands.
        sha256: of every file, by its name.
        unit_m: metres in a unit of the coordinate system.
    """

    place: Path
    crs: str
    west: float
    north: float
    east: float
    south: float
    layers: Mapping[str, Layer]
    files: Sequence[Path]
    sha256: Mapping[str, str]
    unit_m: float = 1.0

    @property
    def lonlat(self) -> tuple[float, float]:
        """Of its middle, degrees."""
        middle = (self.west + self.east) / 2, (self.north + self.south) / 2
        lon, lat = lonlat_of(*middle, self.crs).tolist()
        return lon, lat

    def keep(self, modalities: list[str]) -> "Scene":
        """Return the same scene with some of its modalities."""
        return replace(self, layers={m: self.layers[m] for m in modalities})

    def square(
        self, modality: str, west: float, north: float, side: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read a square of ground.

        Args:
            modality: which layer.
            west: x of its left edge, whole pixels from the scene's.
            north: y of its upper edge.
            side: in units of the coordinate system.

        Returns:
            `[C, h, w]` stored numbers, zero outside of the scene, and which pixels are valid
            `[h, w]`: inside, and not no-data in any band.
        """
        layer = self.layers[modality]
        size = round(side / layer.gsd)
        left, top = (round(x / layer.gsd) for x in (west - self.west, self.north - north))
        # whole pixels inside the ground that all bands cover
        right, bottom = (
            math.floor(round(x / layer.gsd, 6))
            for x in (self.east - self.west, self.north - self.south)
        )
        rows, columns = min(size, bottom - top), min(size, right - left)
        pixels = np.zeros((len(layer.bands), size, size), layer.dtype)
        valid = np.zeros((size, size), bool)
        if rows <= 0 or columns <= 0:
            return pixels, valid
        inside = np.ones((rows, columns), bool)
        for place, missing in enumerate(layer.nodata):
            part = layer.read(place, west, north, rows, columns)
            inside &= np.isfinite(part) if part.dtype.kind == "f" else True
            if missing is not None and not math.isnan(missing):
                inside &= part != missing
            pixels[place, :rows, :columns] = part
        valid[:rows, :columns] = inside
        pixels[:, ~valid] = 0
        return pixels, valid


def open_scene(place: Path, *, sensor: str | None = None, bands: str | None = None) -> Scene:
    """Open a scene.

    Args:
        place: a folder with a raster a band of one Sentinel-2 scene, or one raster file.
        sensor: of a folder: level and baseline, such as `sentinel2-l1c`.
        bands: of a file: `SENSOR:BAND,BAND`, in the order of its bands.

    Raises:
        UsageError: what nobody can guess was not declared, or was declared of the other kind.
        FMError: a file that is missing, or not what was declared.
    """
    if place.is_dir():
        if sensor is None or bands is not None:
            raise UsageError(
                f"{place} is a folder of rasters: say whose by --sensor, such as sentinel2-l1c or "
                f"sentinel2-l2a-n0400; --bands is for a single raster"
            )
        return _of_folder(place, sensor)
    if not place.is_file():
        raise UsageError(f"{place}: no such dataset, scene or raster")
    if bands is None or sensor is not None:
        raise UsageError(
            f"{place}: what its bands are is not known: give --bands SENSOR:BAND,BAND in their "
            f"order, such as sentinel2-l2a:B02,B03,B04,B08"
        )
    return _of_file(place, bands)


def _of_folder(folder: Path, name: str) -> Scene:
    sensor = sensors.sensor(name)
    if not sensor.name.startswith("sentinel2-"):
        raise UsageError(f"--sensor {name}: folders of rasters are read of Sentinel-2 alone")
    grids, crs = sentinel2_scene.read_bands(folder, sensor)
    lattice = sentinel2_scene.coarsest(grids)
    step = LATTICE_M
    right = max(g.west for g in grids.values()) - lattice.west
    down = lattice.north - min(g.north for g in grids.values())
    west = lattice.west + math.ceil(round(right, 6) / step) * step
    north = lattice.north - math.ceil(round(down, 6) / step) * step
    bounds = (
        west,
        north,
        min(g.east for g in grids.values()),
        max(g.south for g in grids.values()),
    )
    layers = {}
    for modality, items in sensor.modalities.items():

        def read(
            place: int, left: float, top: float, rows: int, columns: int, *, own: tuple
        ) -> np.ndarray:
            grid = own[place]
            row = round((grid.north - top) / grid.pixel)
            column = round((left - grid.west) / grid.pixel)
            return read_window(str(grid.path), 1, (row, column, rows, columns))

        layers[modality] = Layer(
            items=items,
            gsd=items[0].gsd_m,
            scaling=(sensor.scale, sensor.offset),
            dtype=np.dtype(np.uint16),
            nodata=sentinel2_nodata(items),
            read=partial(read, own=tuple(grids[band.name] for band in items)),
        )
    if metres_a_unit(crs) != 1:
        raise FMError(f"{folder}: {crs[:40]} has no unit of a metre; reproject it (gdalwarp)")
    _check_ground(folder, crs, 1.0, bounds, LATTICE_M)
    files = [grid.path for grid in grids.values()]
    hashes = {file.name: sha256_file(file) for file in files}
    return Scene(folder, crs, *bounds, layers, files, hashes)


def _of_file(path: Path, text: str) -> Scene:
    name, colon, listed = text.partition(":")
    names = [word for word in listed.split(",") if word]
    if not colon or not names:
        raise UsageError(f"--bands {text!r}: write SENSOR:BAND,BAND, such as sentinel2-l2a:B02,B03")
    sensor = sensors.sensor(name)
    items = sensor.select(names)
    modalities = {band.modality for band in items}
    if len(modalities) > 1:
        raise UsageError(
            f"--bands {text}: they are of several native grids ({', '.join(sorted(modalities))}); "
            f"give a folder with a raster a band"
        )
    found = header(path)
    a, b, west, d, e, north = found.transform
    metres = None if found.crs is None else metres_a_unit(found.crs)
    if found.crs is None or metres is None:
        raise FMError(f"{path}: no coordinate system in metres; reproject it first (gdalwarp)")
    if b or d or a != -e:
        raise FMError(f"{path}: the raster is rotated or its pixels are not square")
    if found.count != len(items):
        raise FMError(f"{path}: {found.count} bands, --bands names {len(items)}")
    gsd = items[0].gsd_m
    if abs(a * metres - gsd) > 1e-6 * gsd:
        raise FMError(
            f"{path}: pixels of {a * metres:g} m, {items[0].name} of {sensor.name} has {gsd:g} m; "
            f"resampled products are not read as native ones"
        )
    if found.masked:
        raise FMError(
            f"{path}: its no-data is a mask beside the pixels, which is not read; write it as a "
            f"number (gdalwarp -dstnodata)"
        )
    if len(set(found.dtypes)) != 1:
        raise FMError(f"{path}: bands of several types ({', '.join(sorted(set(found.dtypes)))})")
    dtype = np.dtype(found.dtypes[0])
    scene_checks.numbers(path, sensor, items, dtype)
    scaling = _scaling(path, found, sensor, dtype)
    bounds = (west, north, west + a * found.width, north - a * found.height)
    _check_ground(path, found.crs, metres, bounds, gsd)

    def read(place: int, left: float, top: float, rows: int, columns: int) -> np.ndarray:
        window = (round((north - top) / a), round((left - west) / a), rows, columns)
        return read_window(str(path), place + 1, window)

    layer = Layer(
        items=items,
        gsd=a,
        scaling=scaling,
        dtype=dtype,
        nodata=_nodata(path, found, sensor, dtype, items),
        read=read,
    )
    hashes = {path.name: sha256_file(path)}
    layers = {items[0].modality: layer}
    return Scene(path, found.crs, *bounds, layers, [path], hashes, metres)


def _check_ground(
    place: Path, crs: str, unit_m: float, bounds: tuple[float, ...], gsd_m: float
) -> None:
    west, north, east, south = bounds
    scene_checks.ground(place, crs, unit_m, (west, south, east, north), gsd_m)


def _nodata(
    path: Path, found: Header, sensor: sensors.Sensor, dtype: np.dtype, items: tuple[Band, ...]
) -> tuple[float | None, ...]:
    """What the file states; where it states nothing the product's own, or none, which is told."""
    if any(value is not None for value in found.nodata):
        return found.nodata
    if dtype.kind != "f" and sensor.name.startswith("sentinel2-l"):
        return sentinel2_nodata(items)
    every = "every finite pixel" if dtype.kind == "f" else "every pixel"
    note(f"{path}: states no number for no data, so {every} is data")
    return found.nodata


def _scaling(
    path: Path, found: Header, sensor: sensors.Sensor, dtype: np.dtype
) -> tuple[float, float]:
    """The sensor's scale and offset; those that the file states must be the same."""
    stated = {*zip(found.scales, found.offsets, strict=True)}
    if dtype.kind == "f":
        if stated != {(1.0, 0.0)}:
            raise FMError(f"{path}: floats with a scale or offset of their own; write them plainly")
        return 1.0, 0.0
    own = sensor.scale, sensor.offset
    for pair in stated - {(1.0, 0.0)}:
        if not np.allclose(pair, own, rtol=1e-6, atol=1e-12):
            raise FMError(
                f"{path}: states scale and offset {pair}, {sensor.name} has {own}; name the sensor "
                f"whose numbers these are"
            )
    return own
