"""Opening, checking and reading rasters, for every source that reads folders of them.

Headers are read by `header`, small files whole by `stack`, parts of large ones by `read_window`.
Files that are read window by window stay open in the process that reads them (a worker that was
forked opens its own: GDAL's handles must not be shared).
"""

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fm.errors import FMError
from fm.geo import lonlat_of
from fm.sensors import Band

NO_DATA = 0
"""What Sentinel-2 products store where there is no measurement."""
ZERO_IS_DATA = ("B10",)
"""The cirrus band is so dark that 0 is a measurement (see `shards.sources.sentinel2_scene`)."""

Transform = tuple[float, float, float, float, float, float]
"""`(a, b, c, d, e, f)`: x = a*col + b*row + c, y = d*col + e*row + f."""


@dataclass(frozen=True)
class Header:
    """What a raster file says of itself.

    Attributes:
        path: of the file, or its URL.
        count: bands.
        height: rows.
        width: columns.
        dtypes: NumPy name, a band each.
        crs: coordinate system as PROJ reads it (`EPSG:32618`); None when the file has none.
        transform: pixel to CRS.
        nodata: GDAL's no-data value, a band each; None where not stated.
        scales: GDAL's scale, a band each; 1 where not stated.
        offsets: GDAL's offset, a band each; 0 where not stated.
        units: GDAL's unit type, a band each; None where not stated.
        masked: no-data is told by a mask beside the bands.
        alpha: number of the band that is called alpha, counted from 1; None when there is none.
    """

    path: str
    count: int
    height: int
    width: int
    dtypes: tuple[str, ...]
    crs: str | None
    transform: Transform
    nodata: tuple[float | None, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    units: tuple[str | None, ...]
    masked: bool = False
    alpha: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """`(H, W)`."""
        return self.height, self.width

    @property
    def lonlat(self) -> tuple[float, float]:
        """Longitude and latitude of the centre, degrees WGS84."""
        return lonlat_at(self.transform, self.crs, self.height / 2, self.width / 2)


def open_raster(path: str | os.PathLike[str]) -> Any:
    """Open a raster for reading.

    Raises:
        FMError: GDAL cannot read it.
    """
    import warnings

    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    try:
        with warnings.catch_warnings():  # the header says what is missing
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(path)
    except (RasterioError, UnicodeEncodeError) as error:
        reason = " ".join(str(error).split())
        raise FMError(f"{path}: not a raster that can be read ({reason[:200]})") from None


def describe(raster: Any, path: str | os.PathLike[str]) -> Header:
    """Read the header of an open raster."""
    from rasterio.enums import ColorInterp, MaskFlags

    called = list(raster.colorinterp)
    crs = raster.crs.to_string() if raster.crs else None
    return Header(
        path=str(path),
        count=raster.count,
        height=raster.height,
        width=raster.width,
        dtypes=tuple(raster.dtypes),
        crs=crs,
        transform=transform_of(raster.transform),
        nodata=tuple(raster.nodatavals),
        scales=tuple(float(value) for value in raster.scales),
        offsets=tuple(float(value) for value in raster.offsets),
        units=tuple(unit or None for unit in raster.units),
        # the fourth of four bytes is often called alpha and is none
        masked=any(
            MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
            for flags in raster.mask_flag_enums
        ),
        alpha=called.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in called else None,
    )


def header(path: str | os.PathLike[str]) -> Header:
    """Read the header of a file; see `open_raster` for errors."""
    with open_raster(path) as raster:
        return describe(raster, path)


def sentinel2_nodata(bands: Iterable[Band]) -> tuple[int | None, ...]:
    """The stored number that means "no data", a band each."""
    return tuple(None if band.name in ZERO_IS_DATA else NO_DATA for band in bands)


def transform_of(affine: Any) -> Transform:
    """Plain floats of rasterio's `Affine`."""
    return (
        *(float(affine.a), float(affine.b), float(affine.c)),
        *(float(affine.d), float(affine.e), float(affine.f)),
    )


def lonlat_at(
    transform: Transform, crs: str | None, row: float, column: float
) -> tuple[float, float]:
    """Longitude and latitude of a place in a grid (edges of pixels are whole numbers).

    Raises:
        FMError: no coordinate system, or the place lies outside of it.
    """
    if crs is None:
        raise FMError("no coordinate system, so the raster cannot be placed")
    a, b, c, d, e, f = transform
    lon, lat = lonlat_of(a * column + b * row + c, d * column + e * row + f, crs)
    return float(lon), float(lat)


def moved(transform: Transform, row: int, column: int) -> Transform:
    """The geotransform of a window whose upper left pixel is `(row, column)`."""
    a, b, c, d, e, f = transform
    return a, b, a * column + b * row + c, d, e, d * column + e * row + f


@dataclass(frozen=True)
class Warp:
    """A grid that a raster is brought to.

    Attributes:
        crs: of the target.
        transform: of the target.
        height: rows.
        width: columns.
        resampling: GDAL's name, such as `nearest` or `bilinear`.
        missing: number of the source that is no data; None is NaN.
        fill: what the target holds where there is no data; None is NaN.
        alpha: a band that is called alpha says where there is data; else it is a band as others.
    """

    crs: str
    transform: Transform
    height: int
    width: int
    resampling: str
    missing: float | None = None
    fill: float | None = None
    alpha: bool = False


def read_window(
    path: str, index: int, window: tuple[int, int, int, int], warp: Warp | None = None
) -> np.ndarray:
    """Read `(row, column, height, width)` of a band (counted from 1); the file stays open.

    Args:
        path: of the file.
        index: of the band.
        window: in pixels of the file, or of the warped grid.
        warp: brings the file to another grid first.

    Raises:
        FMError: the file cannot be read, or the window leaves it.
    """
    raster = _kept_open(path, os.getpid(), warp)
    return _read(path, raster, window, lambda box: raster.read(index, window=box))


def read_mask(path: str, index: int, window: tuple[int, int, int, int]) -> np.ndarray:
    """Read where a band has data, `[H, W]`: as the mask beside the bands says, or an alpha band.

    What is transparent in part is data.

    Raises:
        FMError: see `read_window`.
    """
    raster = _kept_open(path, os.getpid(), None)
    alpha = _alpha_alone(path, os.getpid())
    if alpha is None:
        return _read(path, raster, window, lambda box: raster.read_masks(index, window=box)) > 0
    # GDAL sees a mask in alphas of 8 and 16 bits alone
    return _read(path, raster, window, lambda box: raster.read(alpha, window=box)) > 0


def _read(
    path: str,
    raster: Any,
    window: tuple[int, int, int, int],
    read: Callable[[tuple[tuple[int, int], tuple[int, int]]], np.ndarray],
) -> np.ndarray:
    from rasterio.errors import RasterioError

    row, column, height, width = window
    if min(row, column) < 0 or row + height > raster.height or column + width > raster.width:
        raise FMError(f"{path}: window {window} leaves its {raster.height} x {raster.width} pixels")
    box = ((row, row + height), (column, column + width))
    try:
        return read(box)
    except RasterioError as error:
        raise FMError(f"{path}: cannot be read ({' '.join(str(error).split())[:200]})") from None


@lru_cache(maxsize=64)
def _alpha_alone(path: str, process: int) -> int | None:
    """Return the band that is called alpha, of a file without a mask beside its bands."""
    about = describe(_kept_open(path, process, None), path)
    return None if about.masked else about.alpha


@lru_cache(maxsize=64)
def _kept_open(path: str, process: int, warp: Warp | None) -> Any:
    del process  # part of the key: a forked worker must not use its parent's handle
    raster = open_raster(path)
    if warp is None:
        return raster
    from rasterio.enums import Resampling
    from rasterio.transform import Affine
    from rasterio.vrt import WarpedVRT

    return WarpedVRT(
        raster,
        crs=warp.crs,
        transform=Affine(*warp.transform),
        height=warp.height,
        width=warp.width,
        resampling=Resampling[warp.resampling],
        src_nodata=float("nan") if warp.missing is None else warp.missing,
        nodata=float("nan") if warp.fill is None else warp.fill,
        # rasterio takes what is called alpha for one, unless told of a band that there is not
        **({} if warp.alpha else {"src_alpha": -1}),
    )


@lru_cache(maxsize=256)
def metres_a_unit(crs: str) -> float | None:
    """Metres in a unit of a coordinate system; None when its unit is an angle."""
    from rasterio.crs import CRS

    found = CRS.from_user_input(crs)
    return float(found.linear_units_factor[1]) if found.is_projected else None


@lru_cache(maxsize=256)
def whole_turn(crs: str) -> float | None:
    """A whole turn of longitude in units of a coordinate system; None when they are no angles."""
    from rasterio.crs import CRS

    found = CRS.from_user_input(crs)
    return 2 * math.pi / float(found.units_factor[1]) if found.is_geographic else None


def read_all(path: str | os.PathLike[str]) -> tuple[np.ndarray, Header]:
    """Read a whole file: `[C, H, W]` as stored, and its header.

    Raises:
        FMError: the file cannot be read, or only in part.
    """
    from rasterio.errors import RasterioError

    with open_raster(path) as raster:
        try:
            return raster.read(), describe(raster, path)
        except RasterioError as error:
            reason = " ".join(str(error).split())
            raise FMError(f"{path}: cannot be read ({reason[:200]})") from None


def stack(
    files: Mapping[str, Path], *, dtype: str, shape: tuple[int, int]
) -> tuple[np.ndarray, Header]:
    """Read single-band files of one grid into `[C, H, W]`, in the order of `files`.

    Args:
        files: band name to file.
        dtype: that every file must have.
        shape: `(H, W)` that every file must have.

    Returns:
        the array, and the header of the first file.

    Raises:
        FMError: a file is missing, unreadable, of another type, size or grid than the others.
    """
    planes: list[np.ndarray] = []
    first: Header | None = None
    for name, path in files.items():
        data, found = read_all(path)
        if found.count != 1:
            raise FMError(f"{path}: {found.count} bands, expected the one band {name}")
        if data.dtype.name != dtype or found.shape != shape:
            raise FMError(
                f"{path}: {data.dtype} {found.height}x{found.width}, expected {dtype} "
                f"{shape[0]}x{shape[1]}"
            )
        first = first or found
        if (found.crs, found.transform) != (first.crs, first.transform):
            raise FMError(
                f"{path}: lies on another grid than {Path(first.path).name}; bands of one grid "
                "have one coordinate system and geotransform"
            )
        planes.append(data[0])
    assert first is not None, "no files"
    return np.stack(planes), first
