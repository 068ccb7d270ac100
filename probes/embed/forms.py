"""Embeddings on a grid as files: a cloud-optimised GeoTIFF, or a Zarr group with CF coordinates."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fm.console import progress
from fm.errors import FMError
from probes.embed.coding import Coding

ENDINGS = (".tif", ".tiff", ".zarr")
_TILE_BYTES = 16 << 20
"""Of a tile or chunk with all its features, at most."""
_SIDES = (512, 256, 128, 64, 32, 16)


@dataclass(frozen=True)
class Ground:
    """A north-up grid of cells.

    Attributes:
        crs: as PROJ reads it.
        west: x of the left edge of the first cell.
        north: y of the upper edge of the first cell.
        step: (width, height) of a cell, both positive.
        height: rows.
        width: columns.
        points: numbers are of the cells' centres as points; else of the cells.
    """

    crs: str
    west: float
    north: float
    step: tuple[float, float]
    height: int
    width: int
    points: bool = False

    @property
    def x(self) -> np.ndarray:
        """`[X]` of the centres."""
        return self.west + (np.arange(self.width) + 0.5) * self.step[0]

    @property
    def y(self) -> np.ndarray:
        """`[Y]` of the centres, from the north."""
        return self.north - (np.arange(self.height) + 0.5) * self.step[1]


@dataclass(frozen=True)
class Sheet:
    """What is written.

    Attributes:
        ground: where it lies.
        dim: D, features of a cell.
        read: (first row, last row + 1) to `[rows, X, D]` float32, NaN where there is nothing.
        coding: of the stored numbers.
        about: plain values for the file's metadata.
    """

    ground: Ground
    dim: int
    read: Callable[[int, int], np.ndarray]
    coding: Coding
    about: Mapping[str, Any]

    @property
    def side(self) -> int:
        """Cells along the side of a tile."""
        each = self.dim * np.dtype(self.coding.dtype).itemsize
        return next((s for s in _SIDES if s * s * each <= _TILE_BYTES), _SIDES[-1])

    def strips(self, label: str) -> Any:
        """Yield (first row, coded `[rows, X, D]`), a row of tiles at a time."""
        side, height = self.side, self.ground.height
        with progress(label, height) as bar:
            for top in range(0, height, side):
                rows = min(side, height - top)
                yield top, self.coding(self.read(top, top + rows))
                bar.advance(rows)


def bytes_needed(ground: Ground, dim: int, dtype: str, ending: str) -> int:
    """Bytes that writing takes at most, compression left out of account."""
    plain = ground.height * ground.width * dim * np.dtype(dtype).itemsize
    if ending == ".zarr":
        return plain
    # the same uncompressed beside it, of float16 as float32; a third more for its overviews
    wide = ground.height * ground.width * dim * (1 if dtype == "int8" else 4)
    return wide + plain + plain // 3


def write(sheet: Sheet, path: Path, ending: str) -> None:
    """Write a sheet where nothing is yet.

    Args:
        sheet: what.
        path: the file or folder.
        ending: `.tif`, `.tiff` or `.zarr`.

    Raises:
        FMError: the package that writes Zarr is not there, or the disk is full.
    """
    try:
        (_zarr if ending == ".zarr" else _geotiff)(sheet, path)
    except OSError as error:
        raise FMError(f"{path}: cannot be written ({' '.join(str(error).split())[:160]})") from None


def refuse_foreign(out: Path) -> None:
    """Refuse to put a result in the place of a folder that holds something else.

    Raises:
        FMError: a folder without an `embedding`, with something in it.
    """
    if out.is_dir() and any(out.iterdir()) and not (out / "embedding" / "zarr.json").is_file():
        raise FMError(
            f"{out} holds something else than an embedding; remove it yourself, or name "
            f"another --out"
        )


def require(ending: str) -> None:
    """See that what writes a form is installed.

    Raises:
        FMError: it is not.
    """
    if ending == ".zarr":
        try:
            import zarr  # noqa: F401
        except ImportError:
            raise FMError(
                "zarr writes .zarr and is not installed: pip install eofm[cube]"
            ) from None


def _geotiff(sheet: Sheet, path: Path) -> None:
    """A COG: tiles of all features of a cell together, overviews by averages."""
    import rasterio
    import rasterio.shutil
    from rasterio.errors import RasterioError
    from rasterio.transform import from_origin

    ground, coding = sheet.ground, sheet.coding
    small = coding.dtype == "int8"
    plain = path.with_name(path.name + ".plain")
    profile = {
        "driver": "GTiff",
        "dtype": "int8" if small else "float32",
        "count": sheet.dim,
        "height": ground.height,
        "width": ground.width,
        "crs": ground.crs,
        "transform": from_origin(ground.west, ground.north, *ground.step),
        "tiled": True,
        "blockxsize": sheet.side,
        "blockysize": sheet.side,
        "interleave": "pixel",
        "nodata": coding.missing,
        "bigtiff": "if_safer",
    }
    options = {
        "BLOCKSIZE": sheet.side,
        "COMPRESS": "ZSTD",
        "LEVEL": 1,
        "PREDICTOR": "YES",
        "OVERVIEW_RESAMPLING": "AVERAGE",
        "BIGTIFF": "IF_SAFER",
        "NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "ALL_CPUS"),
    }
    if coding.dtype == "float16":
        options["NBITS"] = 16  # the half-precision floats of TIFF
    try:
        with _small_cache(), rasterio.open(plain, "w", **profile) as raster:
            for top, coded in sheet.strips("writing"):
                window = ((top, top + len(coded)), (0, ground.width))
                raster.write(np.moveaxis(coded, -1, 0).astype(profile["dtype"]), window=window)
            raster.descriptions = [f"feature {i}" for i in range(sheet.dim)]
            if coding.scale is not None and coding.offset is not None:
                raster.scales, raster.offsets = coding.scale.tolist(), coding.offset.tolist()
            raster.update_tags(
                AREA_OR_POINT="Point" if ground.points else "Area",
                **{f"EOFM_{key.upper()}": _text(value) for key, value in sheet.about.items()},
            )
        with _small_cache():
            rasterio.shutil.copy(plain, path, driver="COG", **options)
    except RasterioError as error:
        raise FMError(f"{path}: cannot be written ({' '.join(str(error).split())[:160]})") from None
    finally:
        plain.unlink(missing_ok=True)


def _small_cache() -> Any:
    """GDAL keeps blocks in a twentieth of the machine's memory; some tiles are enough here."""
    import rasterio

    return rasterio.Env(GDAL_CACHEMAX=16 * _TILE_BYTES)


def _zarr(sheet: Sheet, path: Path) -> None:
    """A Zarr 3 group: `embedding` with dimensions (lat, lon, feature), or (y, x, feature)."""
    import zarr

    ground, coding = sheet.ground, sheet.coding
    names, x, y = _axes(ground)
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.attrs.update({"Conventions": "CF-1.11", **{k: _plain(v) for k, v in sheet.about.items()}})
    shape = (ground.height, ground.width, sheet.dim)
    side = sheet.side
    told = {"grid_mapping": "crs", "long_name": "embedding"}
    # readers of CF mask by this, and not by what a Zarr array is filled with; floats have NaN
    missing = {"missing_value": int(coding.missing)} if coding.dtype == "int8" else {}
    array = group.create_array(
        "embedding",
        shape=shape,
        chunks=(min(side, shape[0]), min(side, shape[1]), sheet.dim),
        dtype=coding.dtype,
        fill_value=coding.missing,
        dimension_names=(*names, "feature"),
        attributes={**told, **missing},
    )
    for top, coded in sheet.strips("writing"):
        array[top : top + len(coded)] = coded
    for name, values, more in ((names[0], ground.y, y), (names[1], ground.x, x)):
        _coordinate(group, name, values, more)
    features = np.arange(sheet.dim, dtype=np.int32)
    _coordinate(group, "feature", features, {"long_name": "feature of the embedding"})
    if coding.scale is not None and coding.offset is not None:
        told = {"long_name": "embedding = stored * scale + offset"}
        for name, numbers in (("scale", coding.scale), ("offset", coding.offset)):
            _coordinate(group, name, numbers, told, ("feature",))
    mapping = group.create_array("crs", shape=(), dtype="int32", dimension_names=())
    mapping.attrs.update(_mapping(ground))


def _coordinate(
    group: Any,
    name: str,
    values: np.ndarray,
    attributes: Mapping[str, Any],
    dimensions: tuple[str, ...] | None = None,
) -> None:
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=values.shape,
        dtype=values.dtype,
        dimension_names=dimensions or (name,),
        attributes=dict(attributes),
    )
    array[...] = values


def _axes(ground: Ground) -> tuple[tuple[str, str], dict[str, Any], dict[str, Any]]:
    """Names of the rows' and the columns' axis, and the CF attributes of columns and rows."""
    from pyproj import CRS

    crs = CRS.from_user_input(ground.crs)
    if crs.is_geographic:
        x = {"standard_name": "longitude", "units": "degrees_east", "axis": "X"}
        y = {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"}
        return ("lat", "lon"), x, y
    unit = crs.axis_info[0].unit_name
    x = {"standard_name": "projection_x_coordinate", "units": unit, "axis": "X"}
    y = {"standard_name": "projection_y_coordinate", "units": unit, "axis": "Y"}
    return ("y", "x"), x, y


def _mapping(ground: Ground) -> dict[str, Any]:
    from pyproj import CRS

    told = CRS.from_user_input(ground.crs).to_cf()
    corner = (ground.west, ground.step[0], 0.0, ground.north, 0.0, -ground.step[1])
    told["GeoTransform"] = " ".join(f"{number:.12g}" for number in corner)  # as GDAL reads it
    return {key: _plain(value) for key, value in told.items()}


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | list | dict) else str(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
