"""Small tars in the layouts of other people, written by hand (no zarr package here)."""

import io
import itertools
import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np

SIDE = 24
TIMES = [f"2020-{month:02d}-15T10:20:30" for month in (2, 5, 8, 11)]
BLOSC = numcodecs.Blosc("lz4", 5, 1)
S2L2A = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
S2L1C = (*S2L2A[:10], "B10", *S2L2A[10:])


def npy(array: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def zarr_zip(
    arrays: Mapping[str, Any],
    *,
    chunks: Mapping[str, Sequence[int]] | None = None,
    compressor: Any = BLOSC,
    attributes: Mapping[str, Mapping[str, Any]] | None = None,
    method: int = zipfile.ZIP_STORED,
    consolidated: bool = True,
) -> bytes:
    """Write a Zarr v2 store into a zip, as xarray does."""
    stream, metadata = io.BytesIO(), {".zgroup": {"zarr_format": 2}}
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, value in arrays.items():
            array = np.asarray(value)
            shape = tuple((chunks or {}).get(name, array.shape))
            about = {
                "zarr_format": 2,
                "shape": list(array.shape),
                "chunks": list(shape),
                "dtype": array.dtype.str,
                "order": "C",
                "compressor": None if compressor is None else compressor.get_config(),
                "filters": None,
                "fill_value": "NaN" if array.dtype.kind == "f" else None,
            }
            metadata[f"{name}/.zarray"] = about
            archive.writestr(f"{name}/.zarray", json.dumps(about))
            if attributes and name in attributes:
                archive.writestr(f"{name}/.zattrs", json.dumps(attributes[name]))
            counts = [-(-side // step) for side, step in zip(array.shape, shape, strict=True)]
            for place in itertools.product(*map(range, counts)):
                region = tuple(
                    slice(at * step, (at + 1) * step) for at, step in zip(place, shape, strict=True)
                )
                block = np.zeros(shape, array.dtype)
                part = array[region]
                block[tuple(slice(side) for side in part.shape)] = part
                data = block.tobytes() if compressor is None else bytes(compressor.encode(block))
                archive.writestr(f"{name}/{'.'.join(map(str, place)) or '0'}", data)
        archive.writestr(".zgroup", json.dumps({"zarr_format": 2}))
        if consolidated:
            text = {"zarr_consolidated_format": 1, "metadata": metadata}
            archive.writestr(".zmetadata", json.dumps(text))
    return stream.getvalue()


def write_tar(
    path: Path, files: Mapping[str, bytes] | Sequence[tuple[str, bytes]], **options: Any
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    items = files.items() if isinstance(files, Mapping) else files
    with tarfile.open(path, "w", **options) as archive:
        for name, data in items:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def place(number: int) -> tuple[float, float]:
    return 8.0 + number / 10, 47.0 - number / 10


def sample_zip(
    number: int,
    bands: Sequence[str],
    pixels: np.ndarray,
    times: Sequence[str],
    attributes: Mapping[str, Mapping[str, Any]] | None = None,
    **more: Any,
) -> bytes:
    """One sample of either published layout."""
    lon, lat = place(number)
    moments = np.array(times, "M8[ns]").astype("<i8")
    east, north = 400_000 + 10.0 * np.arange(SIDE), 5_200_000 - 10.0 * np.arange(SIDE)
    arrays = {
        "bands": pixels,
        "band": np.array(bands, "<U4"),
        "center_lon": np.float64(lon),
        "center_lat": np.float64(lat),
        "crs": np.int64(32632),
        "time": moments,
        "x": east,
        "y": north,
        **more,
    }
    return zarr_zip(arrays, chunks={"bands": (1, *pixels.shape[1:])}, attributes=attributes)


def pixels_of(number: int, series: str, steps: int) -> np.ndarray:
    """Pixels of one sample, `[T, C, H, W]`."""
    rng = np.random.default_rng([number, *series.encode()])
    bands = {"S2L2A": 12, "S2L1C": 13, "S1GRD": 2, "S1RTC": 2}.get(series, 1)
    if series in ("S1GRD", "S1RTC"):
        result = rng.normal(-15, 3, (steps, bands, SIDE, SIDE)).astype("<f2")
        result[:, :, 0, 0] = np.nan
        return result
    return rng.integers(0, 4000, (steps, bands, SIDE, SIDE)).astype("<i2")


NAMES = {
    "S2L2A": S2L2A,
    "S2L1C": S2L1C,
    "S1GRD": ("vv", "vh"),
    "S1RTC": ("vv", "vh"),
    "DEM": ("DEM",),
}


def write_ssl4eo(
    root: Path, series: Sequence[str] = ("S2L2A", "S1GRD", "DEM"), count: int = 5
) -> None:
    """SSL4EO-S12 v1.1: four dates a sample (one for the DEM), 3 samples a tar."""
    for name in series:
        for first in range(0, count, 3):
            files = {}
            for number in range(first, min(first + 3, count)):
                steps = 1 if name == "DEM" else 4
                pixels = pixels_of(number, name, steps)
                more = {}
                if name == "S2L2A":
                    more["cloud_mask"] = (pixels[:, 0] % 7).astype("u1")
                times = ["1970-01-01"] if name == "DEM" else TIMES
                key = f"ssl4eos12_val_{number:07d}.zarr.zip"
                files[key] = sample_zip(number, NAMES[name], pixels, times, **more)
            write_tar(root / name / f"ssl4eos12_shard_{first // 3 + 1:06d}.tar", files)


def write_terramesh(root: Path) -> None:
    """TerraMesh: one date; Sentinel-1 is GRD in one part and RTC in the other."""
    parts = {"ssl4eos12_shard_000009": range(3), "majortom_shard_000001": range(3, 6)}
    for shard, numbers in parts.items():
        grd = shard.startswith("ssl4eos12")
        for name in ("S2L1C", "S2L2A", "S1GRD" if grd else "S1RTC"):
            files = {}
            for number in numbers:
                pixels = pixels_of(number, name, 1)
                more = {}
                if name == "S2L2A" and number != 1:
                    more["cloud_mask"] = (pixels[:, 0] % 7).astype("u1")
                key = f"{shard.partition('_')[0]}_val_{number:07d}.zarr.zip"
                files[key] = sample_zip(number, NAMES[name], pixels, TIMES[:1], **more)
            write_tar(root / name / f"{shard}.tar", files)
