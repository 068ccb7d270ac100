"""Write tortillas as GEO-Bench-2 publishes them: samples that are tortillas of GeoTIFFs."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet
from rasterio.io import MemoryFile
from rasterio.transform import Affine

START = 200
"""Where the first file begins; the head is filled up with zeros."""


def tif(data: np.ndarray) -> bytes:
    """A GeoTIFF [C, H, W] of the authors' profile."""
    side = data.shape[-1]
    tiles = {"tiled": True, "blockxsize": side, "blockysize": side} if side % 16 == 0 else {}
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            count=len(data),
            height=data.shape[1],
            width=side,
            dtype=data.dtype,
            interleave="pixel",
            compress="zstd",
            crs="EPSG:32633",
            transform=Affine(10, 0, 390_000, 0, -10, 5_348_400),
            **tiles,
        ) as raster:
            raster.write(data)
        return bytes(memory.read())


def pack(files: Sequence[tuple[str, str, bytes]], rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A tortilla of files (name, format, bytes) with more columns of each."""
    at, table = START, []
    for (name, kind, data), row in zip(files, rows, strict=True):
        table.append(
            {
                "tortilla:id": name,
                "tortilla:file_format": kind,
                "tortilla:offset": at,
                "tortilla:length": len(data),
                **row,
            }
        )
        at += len(data)
    sink = io.BytesIO()
    parquet.write_table(
        pyarrow.Table.from_pylist(table), sink, compression="zstd", use_dictionary=False
    )
    footer = sink.getvalue()
    head = b"#y" + b"".join(n.to_bytes(8, "little") for n in (at, len(footer), 1))
    return head.ljust(START, b"\0") + b"".join(data for _, _, data in files) + footer


def write(
    path: Path,
    parts: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    splits: Sequence[str],
) -> Path:
    """Write a data set; `parts` gives the array of each file of sample n."""
    samples = []
    outer = []
    for n, (row, split) in enumerate(zip(rows, splits, strict=True)):
        about = {"tortilla:data_split": split, **row}
        files = [(name, "GTiff", tif(make(n))) for name, make in parts.items()]
        samples.append((f"sample_{1000 + n}", "TORTILLA", pack(files, [about] * len(files))))
        outer.append(about)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pack(samples, outer))
    return path
