"""What an xarray cube says of itself by the CF conventions; no pixels are read.

CF Metadata Conventions 1.11: `scale_factor` and `add_offset` (8.1), `_FillValue` and
`missing_value` (2.5.1), `units` (3.1), coordinate types by `axis`, `standard_name` or usual names
(4), grid mappings (5.6). Files are opened with masking and scaling off: the stored numbers are
what shards keep.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fm.errors import FMError, suggest

AXES = {
    "x": (("x", "lon", "longitude", "easting"), ("projection_x_coordinate", "longitude"), "X"),
    "y": (("y", "lat", "latitude", "northing"), ("projection_y_coordinate", "latitude"), "Y"),
    "time": (("time", "t", "date"), ("time",), "T"),
}
"""Of each axis: usual names, CF standard names, CF axis."""


@dataclass(frozen=True)
class Grid:
    """The regular grid of a cube, north up (rows of a south-up file are counted from its end).

    Attributes:
        west: x of the left edge.
        north: y of the upper edge.
        step: size of a pixel in units of the CRS; pixels are square.
        height: rows.
        width: columns.
        crs: as PROJ reads it.
        geographic: whether the step is in degrees.
        flipped: whether the file's rows run from south to north.
    """

    west: float
    north: float
    step: float
    height: int
    width: int
    crs: str
    geographic: bool
    flipped: bool


@dataclass(frozen=True)
class Stated:
    """What the attributes of a variable state; None where they do not."""

    scale: float | None
    offset: float | None
    nodata: float | None
    units: str | None


def open_cube(path: Path) -> Any:
    """Open a NetCDF file or a Zarr folder as it is stored; kept open in this process.

    Raises:
        FMError: it is neither, or a package is missing.
    """
    return _opened(path, os.getpid())  # HDF5 handles must not be shared with a forked worker


@lru_cache(maxsize=8)
def _opened(path: Path, process: int) -> Any:
    try:
        import xarray
    except ImportError:
        raise FMError(
            "the source cube needs xarray, zarr and h5netcdf: pip install 'eofm[cube]'"
        ) from None
    if not path.exists():
        raise FMError(f"{path}: no such file or folder")
    engine = "zarr" if path.is_dir() else _engine(path)
    try:
        return xarray.open_dataset(
            path, engine=engine, mask_and_scale=False, decode_coords=False, chunks=None
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise FMError(f"{path}: not a cube that can be read ({reason[:200]})") from None


def _engine(path: Path) -> str:
    with path.open("rb") as stream:
        magic = stream.read(8)
    if magic.startswith(b"\x89HDF"):
        return "h5netcdf"
    if magic.startswith(b"CDF"):
        return "scipy"
    raise FMError(f"{path}: neither NetCDF nor a Zarr folder")


def dimension(path: Path, cube: Any, axis: str, named: str | None) -> str | None:
    """Find the dimension of an axis (`x`, `y`, `time`).

    Args:
        path: of the cube.
        cube: the dataset.
        axis: one of `AXES`.
        named: its name, when the user gave one.

    Returns:
        the name; None when the cube has no such axis.

    Raises:
        FMError: the given name is none, or several dimensions fit.
    """
    if named is not None:
        if named not in cube.sizes:
            raise FMError(f"{path}: no dimension {named!r}; {suggest(named, map(str, cube.sizes))}")
        return named
    names, standard, letter = AXES[axis]
    found = []
    for name in cube.sizes:
        about = cube[name].attrs if name in cube.variables else {}
        if (
            about.get("axis") == letter
            or about.get("standard_name") in standard
            or str(name).lower() in names
        ):
            found.append(str(name))
    if len(found) > 1:
        raise FMError(f"{path}: {' and '.join(found)} may both be {axis}; say --dim {axis}=NAME")
    return found[0] if found else None


def grid(path: Path, cube: Any, x: str, y: str, variable: str, crs: str | None) -> Grid:
    """Read the grid of a variable.

    Args:
        path: of the cube.
        cube: the dataset.
        x: dimension.
        y: dimension.
        variable: whose `grid_mapping` names the CRS.
        crs: the user's CRS.

    Raises:
        FMError: coordinates that are missing, irregular or not square, an unknown CRS, or one that
            contradicts the user's.
    """
    west, step_x, width = _regular(path, cube, x)
    y0, step_y, height = _regular(path, cube, y)
    if step_x < 0:
        raise FMError(f"{path}: {x} falls from left to right; turn the cube first")
    if abs(abs(step_y) - step_x) > 1e-3 * step_x:
        raise FMError(f"{path}: pixels of {step_x:g} x {abs(step_y):g}; they must be square")
    text, geographic = _crs(path, cube, variable, x, y, crs, (west, y0))
    last = y0 + step_y * (height - 1)
    return Grid(
        west=west - step_x / 2,
        north=max(y0, last) + step_x / 2,
        step=step_x,
        height=height,
        width=width,
        crs=text,
        geographic=geographic,
        flipped=step_y > 0,
    )


def _regular(path: Path, cube: Any, name: str) -> tuple[float, float, int]:
    """First centre, step and count of a coordinate."""
    if name not in cube.variables:
        raise FMError(f"{path}: dimension {name} has no coordinates; the cube cannot be placed")
    values = np.asarray(cube[name].values, np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        raise FMError(f"{path}: {name} has no step: {len(values)} coordinates")
    step = (values[-1] - values[0]) / (len(values) - 1)
    away = np.abs(values - (values[0] + step * np.arange(len(values)))).max()
    if step == 0 or away > 1e-2 * abs(step):
        raise FMError(f"{path}: {name} is not regular (a step of {step:g}, up to {away:g} off)")
    return float(values[0]), float(step), len(values)


def _crs(
    path: Path,
    cube: Any,
    variable: str,
    x: str,
    y: str,
    given: str | None,
    place: tuple[float, float],
) -> tuple[str, bool]:
    import pyproj

    mapping = cube[variable].attrs.get("grid_mapping") or cube[variable].encoding.get(
        "grid_mapping"
    )
    names = [mapping] if mapping else [n for n in ("spatial_ref", "crs") if n in cube.variables]
    stated = None
    if names and names[0] in cube.variables:
        about = dict(cube[names[0]].attrs)
        text = about.get("crs_wkt") or about.get("spatial_ref")
        try:
            stated = pyproj.CRS.from_wkt(text) if text else pyproj.CRS.from_cf(about)
        except (pyproj.exceptions.CRSError, KeyError, ValueError):
            stated = None
    elif mapping:
        raise FMError(f"{path}: {variable} names the grid mapping {mapping}, which is not there")
    if stated is None and _degrees(cube, x, y):
        stated = pyproj.CRS.from_epsg(4326)
    wanted = None
    if given is not None:
        try:
            wanted = pyproj.CRS.from_user_input(given)
        except pyproj.exceptions.CRSError:
            raise FMError(
                f"--crs {given}: PROJ does not know it; give such as EPSG:32618"
            ) from None
    if stated is None and wanted is None:
        raise FMError(f"{path}: states no coordinate system; give it with --crs EPSG:NUMBER")
    if stated is not None and wanted is not None:
        code = _code(wanted, place)
        coded = code is not None and code == _code(stated, place)
        if not coded and not _bare(stated).equals(wanted, True):
            raise FMError(f"{path}: states {stated.name!r}, --crs says {wanted.name!r}")
    crs = wanted or stated
    assert crs is not None
    code = _code(crs, place)
    return (f"EPSG:{code}" if code else crs.to_wkt()), bool(crs.is_geographic)


def _bare(crs: Any) -> Any:
    """TOWGS84 of older WKT wraps a CRS that PROJ knows better."""
    return crs.source_crs if crs.is_bound else crs


def _code(crs: Any, place: tuple[float, float]) -> int | None:
    """EPSG number of a CRS.

    Older WKT names its number, but PROJ does not find it because axes are spelt otherwise; the name
    is believed when both put a place of the cube on the same spot.
    """
    import pyproj

    crs = _bare(crs)
    stated = crs.to_json_dict().get("id") or {}
    code = crs.to_epsg()
    if code is None and stated.get("authority") == "EPSG":
        known = pyproj.CRS.from_epsg(int(stated["code"]))
        a, b = (
            pyproj.Transformer.from_crs(one, 4326, always_xy=True).transform(*place)
            for one in (crs, known)
        )
        if np.allclose(a, b, rtol=0, atol=1e-8):
            return int(stated["code"])
    return None if code is None else int(code)


def _degrees(cube: Any, x: str, y: str) -> bool:
    return all(
        str(cube[name].attrs.get("units", "")).lower().startswith(f"degrees_{side}")
        for name, side in ((x, "e"), (y, "n"))
        if name in cube.variables
    )


def stated(path: Path, cube: Any, name: str) -> Stated:
    """Read the attributes of a variable.

    Raises:
        FMError: `_FillValue` and `missing_value` differ, or a form that is not read.
    """
    about = {**cube[name].encoding, **cube[name].attrs}
    if str(about.get("_Unsigned", "false")).lower() == "true" and cube[name].dtype.kind == "i":
        raise FMError(f"{path}: {name} is signed with _Unsigned; store it as unsigned integers")
    missing = [about[key] for key in ("_FillValue", "missing_value") if about.get(key) is not None]
    numbers = {float(item) for value in missing for item in np.atleast_1d(value)}
    finite = {number for number in numbers if not math.isnan(number)}
    if len(finite) > 1:
        raise FMError(f"{path}: {name} has several numbers for no data: {sorted(finite)}")
    units = about.get("units")
    return Stated(
        scale=_number(about.get("scale_factor")),
        offset=_number(about.get("add_offset")),
        nodata=finite.pop() if finite else None,
        units=None if units is None else str(units).strip(),
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(np.asarray(value).reshape(()))


UNITS = {
    "reflectance": ("1", "", "reflectance", "unitless", "dimensionless", "none", "fraction"),
    "dB": ("db", "decibel", "decibels"),
    "K": ("k", "kelvin"),
    "dn": ("1", "", "dn", "counts", "count", "digital number", "none", "unitless"),
}
"""Spellings in files, in lower case, of the units of `fm.sensors`."""


def unit_problem(units: str | None, band_units: Sequence[str]) -> str | None:
    """Say what is wrong with a variable's units for bands of those units; None when nothing is."""
    if units is None:
        return None
    for unit in dict.fromkeys(band_units):
        if units.lower() not in UNITS.get(unit, (unit.lower(),)):
            return f"units {units!r}, the sensor has {unit!r}"
    return None
