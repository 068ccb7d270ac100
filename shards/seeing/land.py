"""The Equal Earth projection, and land and sea on it as a picture."""

import zipfile
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fm.console import progress

_A = (1.340264, -0.081106, 0.000893, 0.003796)
_M = np.sqrt(3) / 2
_FACTOR = 12
"""Cells of the 30 arc second mask along a side of ours: 6 arc minutes."""
_FILE = "globe_combined_mask_compressed.npz"


def equal_earth(lonlat: np.ndarray) -> np.ndarray:
    """Project to the plane; equal areas stay equal.

    Savric, Patterson and Jenny, "The Equal Earth map projection", IJGIS 33 (2019), eq. 8 to 10,
    on the sphere.

    Args:
        lonlat: `[..., 2]` degrees.

    Returns:
        `[..., 2]` x and y in Earth radii: |x| up to 2.7066, |y| up to 1.3173.
    """
    lon, lat = np.moveaxis(np.radians(np.asarray(lonlat, np.float64)), -1, 0)
    theta = np.arcsin(_M * np.sin(lat))
    return np.stack([lon * np.cos(theta) / (_M * _slope(theta)), _height(theta)], axis=-1)


def inverse_equal_earth(xy: np.ndarray) -> np.ndarray:
    """Return lon, lat in degrees of points of the plane, NaN outside of the globe's outline."""
    x, y = np.moveaxis(np.asarray(xy, np.float64), -1, 0)
    theta = y / _A[0]
    for _ in range(8):  # Newton; converges to rounding in 4 to 5 steps
        theta = theta - (_height(theta) - y) / _slope(theta)
    sine = np.sin(theta) / _M
    with np.errstate(invalid="ignore"):
        lat = np.degrees(np.arcsin(sine))
        lon = np.degrees(x * _M * _slope(theta) / np.cos(theta))
    outside = ~(np.abs(sine) <= 1) | ~(np.abs(lon) <= 180)
    return np.where(outside[..., None], np.nan, np.stack([lon, lat], axis=-1))


def picture(width: int) -> tuple[np.ndarray, tuple[float, float, float, float]] | None:
    """Draw the land in the plane.

    Args:
        width: in pixels.

    Returns:
        `[H, W]` uint8: 0 outside of the globe, 1 sea, 2 land; and the left, right, bottom and top
        of the picture in the plane. None where the package with the coasts is not installed.
    """
    mask = _land()
    if mask is None:
        return None
    right, top = equal_earth(np.array([[180.0, 0.0], [0.0, 90.0]])).max(axis=0)
    height = round(width * top / right)
    x = (np.arange(width) + 0.5) / width * 2 * right - right
    y = top - (np.arange(height) + 0.5) / height * 2 * top
    lonlat = inverse_equal_earth(np.stack(np.meshgrid(x, y), axis=-1))
    inside = np.isfinite(lonlat[..., 0])
    lon, lat = np.nan_to_num(lonlat[..., 0]), np.nan_to_num(lonlat[..., 1])
    row = np.clip(((90 - lat) / 180 * mask.shape[0]).astype(int), 0, mask.shape[0] - 1)
    column = np.clip(((lon + 180) / 360 * mask.shape[1]).astype(int), 0, mask.shape[1] - 1)
    found = np.where(inside, 1 + mask[row, column], 0).astype(np.uint8)
    return found, (-right, right, -top, top)


def coarse_land() -> np.ndarray | None:
    """Return land at 6 arc minutes, bool `[1800, 3600]` from the north-west.

    None where the package with the coasts is not installed.
    """
    return _land()


@lru_cache(maxsize=1)
def _land() -> np.ndarray | None:
    """Land at 6 arc minutes, bool `[1800, 3600]` from the north-west.

    From the GLOBE elevation model's sea mask (NOAA) in the package global-land-mask. Importing
    that package takes a gigabyte, so its file is read here row by row.
    """
    spec = find_spec("global_land_mask")
    path = Path(str(spec.origin)).parent / _FILE if spec and spec.origin else None
    if path is None or not path.is_file():
        return None
    rows = []
    with zipfile.ZipFile(path) as archive, archive.open("mask.npy") as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            return None
        (height, width), _, dtype = np.lib.format.read_array_header_1_0(stream)
        if dtype != np.dtype(bool) or height % _FACTOR or width % _FACTOR:
            return None
        with progress("coasts", height // _FACTOR) as bar:
            for _ in range(height // _FACTOR):
                sea = np.frombuffer(stream.read(_FACTOR * width), np.uint8)
                lines = sea.reshape(_FACTOR, width).sum(axis=0, dtype=np.uint8)
                cells = lines.reshape(-1, _FACTOR).sum(axis=1, dtype=np.uint8)
                rows.append(cells < _FACTOR**2 // 2)
                bar.advance()
    return np.stack(rows)


def _height(theta: np.ndarray) -> np.ndarray:
    square = theta**2
    return theta * (_A[0] + _A[1] * square + square**3 * (_A[2] + _A[3] * square))


def _slope(theta: np.ndarray) -> np.ndarray:
    square = theta**2
    return _A[0] + 3 * _A[1] * square + square**3 * (7 * _A[2] + 9 * _A[3] * square)
