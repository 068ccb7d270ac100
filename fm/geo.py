"""Places on the Earth: distances, projections, Sentinel-2 tiles, equal-area blocks.

Coordinates are `(lon, lat)` in degrees, WGS84, in the last axis of an array. Nothing here imports
torch.
"""

import re
from functools import lru_cache
from typing import Any

import numpy as np

from fm.errors import FMError, UsageError

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius of WGS84 (IUGG R1), for great circles."""

WGS84_F = 1 / 298.257223563
_E2 = WGS84_F * (2 - WGS84_F)
_E = float(np.sqrt(_E2))


def great_circle_m(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance along the sphere by the haversine formula.

    Args:
        a: `[..., 2]` lon, lat in degrees.
        b: the same; broadcasts against `a`.

    Returns:
        `[...]` metres on a sphere of `EARTH_RADIUS_M` (within 0.6 % of the ellipsoid).
    """
    lon_a, lat_a = np.moveaxis(np.radians(np.asarray(a, np.float64)), -1, 0)
    lon_b, lat_b = np.moveaxis(np.radians(np.asarray(b, np.float64)), -1, 0)
    h = np.sin((lat_b - lat_a) / 2) ** 2
    h = h + np.cos(lat_a) * np.cos(lat_b) * np.sin((lon_b - lon_a) / 2) ** 2
    # Rounding can lift h above 1 for antipodes.
    return 2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.minimum(h, 1.0)))


def lonlat_of(x: Any, y: Any, crs: Any) -> np.ndarray:
    """Project map coordinates to lon, lat.

    Args:
        x: eastings (or longitudes), a number or an array `[...]`.
        y: northings, of the same shape.
        crs: an EPSG number, a string that PROJ reads, or an object with `to_wkt()` (rasterio).

    Returns:
        `[..., 2]` float64 lon, lat in degrees.

    Raises:
        FMError: PROJ does not know the CRS, or a point lies outside of it.
    """
    key = crs if isinstance(crs, int | str) else crs.to_wkt()
    lon, lat = _to_wgs84(key).transform(np.asarray(x, np.float64), np.asarray(y, np.float64))
    result = np.stack([lon, lat], axis=-1)
    if not np.isfinite(result).all():
        raise FMError(f"a point lies outside of the coordinate system {str(key)[:60]}; check x, y")
    return result


@lru_cache(maxsize=256)
def _to_wgs84(key: int | str) -> Any:
    from pyproj import Transformer
    from pyproj.exceptions import CRSError

    try:
        return Transformer.from_crs(key, 4326, always_xy=True)
    except CRSError:
        raise FMError(
            f"PROJ does not know the coordinate system {str(key)[:60]!r}; give an EPSG number"
        ) from None


# Sentinel-2 tiles -------------------------------------------------------------------------------

_BANDS = "CDEFGHJKLMNPQRSTUVWX"  # latitude bands of 8 degrees from 80 S (X has 12)
_COLUMNS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")  # by zone: 1, 4, 7...; 2, 5, 8...; 3, 6, 9...
_ROWS = "ABCDEFGHJKLMNPQRSTUV"  # from the equator in odd zones; even zones start at F
_TILE = re.compile(r"T?(\d{1,2})([C-HJ-NP-X])([A-HJ-NP-Z])([A-HJ-NP-V])")
_LATTICE = 60


def mgrs_tile_origin(tile: str) -> tuple[int, int, int]:
    """Find the upper left corner of a Sentinel-2 tile.

    A tile is named after an MGRS 100 km square (NGA.STND.0037, "Universal Grids and Grid Reference
    Systems"). Its corner is the square's, moved outwards (west and north) to the 60 m lattice that
    all its grids share. The lattice counts from x = 0 and from the *equator*: in the south, where
    the equator has northing 10 000 000, corners are such as 8 600 020, which is no multiple of 60.

    Args:
        tile: `33UUP`, with or without a leading `T`.

    Returns:
        EPSG code of the UTM zone, x and y of the outer corner of the upper left pixel in metres.

    Raises:
        UsageError: not the name of a 100 km square. (A well-formed square that ESA does not
            acquire is not noticed.)
    """
    found = _TILE.fullmatch(tile.strip().upper())
    zone = int(found[1]) if found else 0
    if found is None or not 1 <= zone <= 60:
        raise UsageError(f"{tile!r} is no Sentinel-2 tile; give one such as 33UUP")
    band, column, row = found[2], found[3], found[4]
    columns = _COLUMNS[(zone - 1) % 3]
    if column not in columns:
        raise UsageError(
            f"{tile!r} is no Sentinel-2 tile: columns of zone {zone} are {columns[0]} to "
            f"{columns[-1]}, not {column}"
        )
    east = (columns.index(column) + 1) * 100_000
    south = _northing(tile, zone, band, row)
    # Northings below count from the equator, negative in the south.
    top = -((-(south + 100_000)) // _LATTICE) * _LATTICE
    west = east // _LATTICE * _LATTICE
    if band < "N":
        return 32700 + zone, west, 10_000_000 + top
    return 32600 + zone, west, top


def _northing(tile: str, zone: int, band: str, row: str) -> int:
    """South edge of the square from the equator: row letters repeat every 2000 km."""
    low = -80 + 8 * _BANDS.index(band)
    high = 84 if band == "X" else low + 8
    middle = (_meridian_m(low) + _meridian_m(high)) / 2
    within = (_ROWS.index(row) - (5 if zone % 2 == 0 else 0)) % 20 * 100_000
    south = within + 2_000_000 * round((middle - within - 50_000) / 2_000_000)
    # Off the central meridian a parallel lies up to 20 km further from the equator.
    if not _meridian_m(low) - 120_000 < south < _meridian_m(high) + 20_000:
        raise UsageError(
            f"{tile!r} is no Sentinel-2 tile: row {row} does not reach latitude band {band}"
        )
    return int(south)


def _meridian_m(lat: float) -> float:
    """UTM northing from the equator of a latitude on the central meridian, in metres."""
    return float(_utm31().transform(3.0, lat)[1])


@lru_cache(maxsize=1)
def _utm31() -> Any:
    from pyproj import Transformer

    return Transformer.from_crs(4326, 32631, always_xy=True)


# Equal-area blocks ------------------------------------------------------------------------------


def block_id(lonlat: np.ndarray, size_km: float) -> np.ndarray:
    """Number of the equal-area block that each point lies in.

    The globe is cut into rows of latitude about `size_km` high, each row into a whole number of
    blocks about as wide, and the rows' edges are placed so that all blocks have exactly the same
    area on the WGS84 ellipsoid (through the authalic latitude; Snyder 1987, "Map Projections: A
    Working Manual", eq. 3-11, 3-12). Blocks are close to squares up to the polar caps. Numbers
    run from the South Pole, west to east from 180 W.

    Args:
        lonlat: `[..., 2]` degrees; longitudes wrap. NaN is an unknown place.
        size_km: side of a block in kilometres, 0.1 to 5000.

    Returns:
        `[...]` int64 block numbers, -1 where the place is unknown. Numbers are comparable only
        between calls with the same size.

    Raises:
        FMError: a latitude beyond the poles.
        UsageError: a size out of range.
    """
    places = np.asarray(lonlat, np.float64)
    lon, lat = places[..., 0], places[..., 1]
    known = np.isfinite(lon) & np.isfinite(lat)
    if (np.abs(lat[known]) > 90).any():
        raise FMError("a latitude lies beyond the poles; coordinates are (lon, lat) in degrees")
    counts, starts = _rows(size_km)
    total = starts[-1]
    # Share of the globe's area south of the point, in blocks.
    south = (_authalic(np.where(known, lat, 0.0)) + 1) / 2 * total
    row = np.clip(np.searchsorted(starts, south, side="right") - 1, 0, len(counts) - 1)
    turn = (np.where(known, lon, 0.0) + 180) / 360 % 1.0
    column = np.minimum((turn * counts[row]).astype(np.int64), counts[row] - 1)
    return np.where(known, starts[row] + column, -1)


def block_bounds(block: int, size_km: float) -> tuple[float, float, float, float]:
    """Return west, south, east, north of a block in degrees.

    Raises:
        UsageError: there is no such block.
    """
    west, south, east, north = blocks_bounds(np.array([block]), size_km)[0].tolist()
    return west, south, east, north


def blocks_bounds(blocks: np.ndarray, size_km: float) -> np.ndarray:
    """Return `[n, 4]` west, south, east, north in degrees of blocks `[n]`; see `block_bounds`."""
    counts, starts = _rows(size_km)
    for block in blocks[(blocks < 0) | (blocks >= starts[-1])].tolist():
        raise UsageError(f"there is no block {block}; numbers run from 0 to {starts[-1] - 1}")
    row = np.searchsorted(starts, blocks, side="right") - 1
    column, count = blocks - starts[row], counts[row]
    edges = {int(r): _latitude(2 * starts[r] / starts[-1] - 1) for r in {*row, *(row + 1)}}
    south, north = (np.array([edges[int(r)] for r in rows]) for rows in (row, row + 1))
    west, east = (360 * (column + side) / count - 180 for side in (0, 1))
    return np.stack([west, south, east, north], -1)


@lru_cache(maxsize=64)
def _rows(size_km: float) -> tuple[np.ndarray, np.ndarray]:
    """Blocks in each row from the South Pole, and the number of the first block of each."""
    if not 0.1 <= size_km <= 5000:
        raise UsageError(f"a block of {size_km} km is out of range; choose 0.1 to 5000 km")
    half_turn = np.pi * EARTH_RADIUS_M / 1000
    rows = max(2, round(half_turn / size_km))
    middle = (np.arange(rows) + 0.5) / rows * np.pi - np.pi / 2
    counts = np.maximum(1, np.rint(2 * half_turn * np.cos(middle) / size_km)).astype(np.int64)
    return counts, np.concatenate([[0], np.cumsum(counts)])


def _authalic(lat: np.ndarray | np.float64) -> Any:
    """Sine of the authalic latitude: -1 to 1 in proportion to the area south of `lat`."""
    return _q(np.sin(np.radians(lat))) / _q(np.float64(1.0))


def _q(sine: np.ndarray | np.float64) -> Any:
    return (1 - _E2) * (sine / (1 - _E2 * sine**2) + np.arctanh(_E * sine) / _E)


def _latitude(authalic_sine: float) -> float:
    """Invert `_authalic` by bisection (it rises everywhere)."""
    low, high = -90.0, 90.0
    if abs(authalic_sine) >= 1:  # flat at the poles: bisection would stop 7 cm short
        return high if authalic_sine > 0 else low
    for _ in range(60):
        middle = (low + high) / 2
        if _authalic(np.float64(middle)) < authalic_sine:
            low = middle
        else:
            high = middle
    return (low + high) / 2
