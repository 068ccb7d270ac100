"""Tiny rasters for the tests of ingestion: every band and every pixel tells where it is from."""

from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import Affine


def plane(code: int, height: int, width: int, dtype: str = "uint16") -> np.ndarray:
    """A constant for the band and a gradient for the pixel, so that any mix-up shows."""
    rows, columns = np.mgrid[:height, :width]
    return (code * 100 + rows * 7 % 50 + columns * 3 % 50).astype(dtype)


def write_raster(
    path: Path,
    data: np.ndarray,
    *,
    crs: str | None = "EPSG:32633",
    west: float = 390_000.0,
    north: float = 5_348_400.0,
    pixel: float = 10.0,
    nodata: float | None = None,
    transform: Affine | None = None,
    tags: dict | None = None,
) -> Path:
    """Write `[H, W]` or `[C, H, W]`; `tags` may hold scales, offsets, units, a band each."""
    data = data[None] if data.ndim == 2 else data
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=data.shape[1],
        width=data.shape[2],
        count=data.shape[0],
        dtype=data.dtype,
        crs=crs,
        transform=transform or Affine(pixel, 0, west, 0, -pixel, north),
        nodata=nodata,
    ) as raster:
        raster.write(data)
        for name, value in (tags or {}).items():
            setattr(raster, name, value)
    return path
