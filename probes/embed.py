"""Pooled features of a dataset as GeoParquet: one row a sample."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import fm
import shards
from fm.console import progress
from fm.errors import FMError, UsageError
from fm.files import write_atomic
from probes.benchmarks.base import Inputs
from probes.features import encode, model_hash


def embed(
    model: str | Path | Any,
    dataset: str | Path,
    out: str | Path,
    *,
    where: str | None = None,
    batch_size: int = 64,
) -> Path:
    """Write the features of every sample of a dataset.

    Columns: key, lon, lat, time, split, embedding (list of float32), geometry (WKB point, null
    where unknown). The file's metadata holds `geo` (GeoParquet 1.1.0) and `eofm`: the model's
    name and hash, the dataset's name and manifest hash, the filter and the modalities.

    Args:
        model: a checkpoint folder, or a model with `encode`.
        dataset: a dataset folder.
        out: the file to write; it appears whole or not at all.
        where: keep the samples for which this is true (`shards.open`).
        batch_size: samples of one shape at once.

    Returns:
        `out`.

    Raises:
        UsageError: the model takes none of the dataset's modalities, or other bands of them.
        FMError: the model or the dataset cannot be read.
    """
    loaded = fm.load(model) if isinstance(model, str | Path) else model
    ds = shards.open(dataset, where=where)
    modalities = [m for m in ds.modalities if m in loaded.bands]
    if not modalities:
        raise UsageError(
            f"{dataset}: the model takes {', '.join(loaded.bands)}, the dataset has "
            f"{', '.join(ds.modalities)}; embed with another model"
        )
    bands = {m: tuple(ds.modalities[m].bands) for m in modalities}
    scaling = {m: ds.modalities[m].scaling for m in modalities}
    loaded.eval()
    features: dict[int, np.ndarray] = {}
    with torch.inference_mode(), progress("embedding", len(ds)) as bar:
        for group in _groups(ds, modalities, batch_size):
            arrays = [ds.read(i, list(group[1])) for i in group[0]]
            inputs = Inputs.of({m: np.stack([a[m] for a in arrays]) for m in group[1]})
            own = {m: bands[m] for m in group[1]}
            pooled = encode(loaded, inputs, own, scaling).float().cpu().numpy()
            features.update(zip(group[0], pooled, strict=True))
            bar.advance(len(arrays))
    if len(features) < len(ds):
        lost = next(i for i in range(len(ds)) if i not in features)
        raise FMError(
            f"{dataset}: sample {ds.keys[lost]} has none of {', '.join(modalities)}; filter it out"
        )
    table = _table(ds, [features[i] for i in range(len(ds))])
    about = {
        "model": getattr(getattr(loaded, "card", None), "name", type(loaded).__name__),
        "model_sha256": model_hash(loaded),
        "dataset": ds.info.name,
        "manifest_hash": ds.manifest_hash,
        "where": where,
        "modalities": modalities,
    }
    metadata = {"geo": json.dumps(_geo(table)), "eofm": json.dumps(about)}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    write_atomic(out, sink.getvalue().to_pybytes())
    return Path(out)


def _groups(
    ds: "shards.Dataset", modalities: list[str], batch_size: int
) -> list[tuple[list[int], tuple[str, ...]]]:
    """Batch samples with the same modalities and shapes; samples without any are left out."""
    shapes = {m: ds.index.column(f"{m}.shape").to_pylist() for m in modalities}
    alike: dict[tuple, list[int]] = {}
    for i in range(len(ds)):
        key = tuple((m, tuple(shapes[m][i])) for m in modalities if shapes[m][i] is not None)
        if key:
            alike.setdefault(key, []).append(i)
    return [
        (rows[start : start + batch_size], tuple(m for m, _ in key))
        for key, rows in alike.items()
        for start in range(0, len(rows), batch_size)
    ]


def _table(ds: "shards.Dataset", features: list[np.ndarray]) -> pa.Table:
    columns = {name: ds.index.column(name) for name in ("key", "lon", "lat", "time", "split")}
    columns["embedding"] = pa.array(
        [f.astype(np.float32) for f in features], type=pa.list_(pa.float32())
    )
    places = zip(columns["lon"].to_pylist(), columns["lat"].to_pylist(), strict=True)
    columns["geometry"] = pa.array([_point(lon, lat) for lon, lat in places], type=pa.binary())
    return pa.table(columns)


def _point(lon: float | None, lat: float | None) -> bytes | None:
    """Little-endian WKB of a point."""
    if lon is None or lat is None:
        return None
    return struct.pack("<BIdd", 1, 1, lon, lat)


def _geo(table: pa.Table) -> dict[str, Any]:
    column: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["Point"]}
    lon = [x for x in table.column("lon").to_pylist() if x is not None]
    lat = [x for x in table.column("lat").to_pylist() if x is not None]
    if lon and lat:
        column["bbox"] = [min(lon), min(lat), max(lon), max(lat)]
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
