"""Fixture pixels that look like the sensors they stand for, and the files they are written to.

Every band has its own level (means of real data), every sample and pixel its own value, so that
any permutation of bands, rows, columns or samples shows.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.shards.rasters import write_raster

LEVEL = {
    "B01": 1354.0,
    "B02": 1118.0,
    "B03": 1043.0,
    "B04": 948.0,
    "B05": 1200.0,
    "B06": 2000.0,
    "B07": 2369.0,
    "B08": 2297.0,
    "B8A": 2594.0,
    "B09": 732.0,
    "B10": 12.0,
    "B11": 1819.0,
    "B12": 1119.0,
}
"""Mean stored number of each band over EuroSAT."""


def _field(bands: int, height: int, width: int, seed: int) -> np.ndarray:
    """Uniform numbers in 0..1, [C, H, W]: a patch of prime sides repeated.

    Its repeats fall on no window's edge, so windows, rows and columns differ; making and packing
    it is quick.
    """
    patch = np.random.default_rng(seed).random((bands, min(height, 37), min(width, 41)))
    rows, columns = np.arange(height) % patch.shape[1], np.arange(width) % patch.shape[2]
    return patch[:, rows[:, None], columns]


def optical(bands: Sequence[str], height: int, width: int, seed: int) -> np.ndarray:
    """DN [C, H, W] uint16."""
    level = np.array([LEVEL[b] for b in bands])[:, None, None]
    return np.rint(level * (0.8 + 0.4 * _field(len(bands), height, width, seed))).astype(np.uint16)


def radar(bands: int, height: int, width: int, seed: int) -> np.ndarray:
    """Decibels [C, H, W] float32."""
    level = np.array([-11.0, -18.0, 0.6])[:bands, None, None]
    return (level + _field(bands, height, width, seed) - 0.5).astype(np.float32)


def colour(bands: int, height: int, width: int, seed: int) -> np.ndarray:
    """8-bit numbers [C, H, W]."""
    return (256 * _field(bands, height, width, seed)).astype(np.uint8)


def codes(highest: int, height: int, width: int, seed: int) -> np.ndarray:
    """A map [H, W] of whole numbers from 0 to `highest`."""
    return ((highest + 1) * _field(1, height, width, 900 + seed)[0]).astype(np.int64)


def write_tif(path: Path, data: np.ndarray, **options: object) -> Path:
    """Write [C, H, W]."""
    return write_raster(path, data, **options)  # type: ignore[arg-type]


def write_picture(path: Path, data: np.ndarray) -> Path:
    """Write [3, H, W] or [H, W] as PNG or JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(data if data.ndim == 2 else np.moveaxis(data, 0, -1)).save(path)
    return path


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    """Write a list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path
