"""Pooled features of a dataset as GeoParquet: one row a sample."""

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import fm
import shards
from fm.console import note, progress
from fm.errors import FMError, UsageError
from fm.files import write_atomic
from fm.models import Backbone
from probes.backbones.feed import make_feed
from probes.backbones.look import units
from probes.benchmarks.base import Data, Inputs
from probes.features.extraction import encode, model_hash
from probes.settings.features import Axes
from shards.seeing.scan import scan


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
    name and hash, the dataset's name and manifest hash, the filter, the modalities, and warnings
    about what the model was given, which are also printed.

    Args:
        model: a checkpoint folder, or a model with `encode`.
        dataset: a dataset folder.
        out: the file to write; it appears whole or not at all.
        where: keep the samples for which this is true (`shards.open`).
        batch_size: samples of one shape at once.

    Returns:
        `out`.

    Raises:
        UsageError: the model takes none of the dataset's modalities, or other bands of them, or
            the numbers cannot be what their unit says.
        FMError: the model or the dataset cannot be read.
    """
    loaded = fm.load(model) if isinstance(model, str | Path) else model
    ds = shards.open(dataset, where=where)
    modalities = [m for m in ds.modalities if m in loaded.bands]
    if not modalities:
        raise UsageError(
            f"{ds.place}: the model takes {', '.join(loaded.bands)}, the dataset has "
            f"{', '.join(ds.modalities)}; embed with another model"
        )
    loaded.eval()
    features, notes = _features(loaded, ds, modalities, batch_size)
    table = _table(ds, features)
    about = {
        "model": getattr(getattr(loaded, "card", None), "name", type(loaded).__name__),
        "model_sha256": model_hash(loaded),
        "dataset": ds.info.name,
        "manifest_hash": ds.manifest_hash,
        "where": where,
        "modalities": modalities,
        "notes": notes,
    }
    metadata = {"geo": json.dumps(_geo(table)), "eofm": json.dumps(about)}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    write_atomic(out, sink.getvalue().to_pybytes())
    return Path(out)


def _doubts(
    loaded: Any,
    ds: "shards.Dataset",
    inputs: Inputs,
    bands: dict[str, tuple[str, ...]],
    scaling: dict[str, tuple[float, float]],
) -> list[str]:
    """Look at samples as a probe does: wrong units are refused, odd values are warned of."""

    def read(index: np.ndarray) -> Inputs:
        valid = None if inputs.valid is None else {m: v[index] for m, v in inputs.valid.items()}
        return Inputs({m: x[index] for m, x in inputs.pixels.items()}, valid)

    count = len(next(iter(inputs.pixels.values())))
    blank = np.zeros(count, np.int64)
    where = str(ds.place)
    data = Data(
        read=read,
        targets=blank,
        split=np.full(count, "train"),
        unit=blank,
        shards=np.full(count, ""),
        classes=(),
        bands=bands,
        scaling=scaling,
        dataset=ds.info.name,
        manifest_hash=ds.manifest_hash,
        folder=Path(where),
    )
    found = units(data, where)
    if isinstance(loaded, Backbone):
        found += make_feed(loaded, data, Axes(), benchmark=where).notes
    for text in found:
        note(text)
    return found


def _features(
    loaded: Any, ds: "shards.Dataset", modalities: list[str], batch_size: int
) -> tuple[np.ndarray, list[str]]:
    """Return the features of every sample, `[N, D]`, in the order of the dataset, and warnings."""
    bands = {m: tuple(ds.modalities[m].bands) for m in modalities}
    scaling = {m: ds.modalities[m].scaling for m in modalities}
    features = np.empty((0, 0), np.float32)
    reasons: list[tuple[str, str]] = []
    notes: list[str] = []
    with torch.inference_mode(), progress("embedding", len(ds)) as bar:
        for places, names in _groups(ds, modalities):
            own = {m: bands[m] for m in names}
            alike = ds if len(places) == len(ds) else ds.only(ds.keys[i] for i in places.tolist())
            batches = alike.loader(
                batch_size,
                modalities=names,
                labels=(),
                shuffle=False,
                pad=True,
                on_quarantine=lambda *reason: reasons.append(reason),
            )
            for batch in batches:
                if reasons:
                    key, reason = reasons[0]
                    raise FMError(
                        f"{ds.place}: sample {key}: {reason}; run fm shards verify and repair"
                    )
                real = batch.weight.numpy() > 0  # the last batch is filled up
                inputs = Inputs.of({m: batch.pixels[m].numpy()[real] for m in names})
                if batch.times is not None:
                    inputs = replace(inputs, times=batch.times.numpy()[real])
                if not features.size and all(x.ndim == 4 for x in inputs.pixels.values()):
                    notes = _doubts(loaded, ds, inputs, own, scaling)
                pooled = encode(loaded, inputs, own, scaling).float().cpu().numpy()
                if not features.size:
                    features = np.empty((len(ds), pooled.shape[1]), np.float32)
                features[places[batch.positions.numpy()[real]]] = pooled
                bar.advance(len(pooled))
    return features, notes


def _groups(ds: "shards.Dataset", modalities: list[str]) -> list[tuple[np.ndarray, list[str]]]:
    """Return the places of samples with the same modalities and shapes, and which those are.

    Raises:
        FMError: a sample has none.
    """
    rows = np.arange(ds.columns.count) if ds.rows is None else ds.rows
    numbers = np.stack([ds.columns.take(f"{m}.shape", rows) for m in modalities], axis=1)
    if (empty := np.flatnonzero((numbers == 0).all(axis=1))).size:
        raise FMError(
            f"{ds.place}: sample {ds.keys[empty[0]]} has none of {', '.join(modalities)}; "
            "filter it out"
        )
    kinds, inverse = np.unique(numbers, axis=0, return_inverse=True)
    inverse = inverse.ravel()
    return [
        (np.flatnonzero(inverse == place), [m for m, n in zip(modalities, kind, strict=True) if n])
        for place, kind in enumerate(kinds.tolist())
    ]


def _table(ds: "shards.Dataset", features: np.ndarray) -> pa.Table:
    names = ["key", "lon", "lat", "time", "split"]
    parts = list(scan(ds, names))
    found = pa.Table.from_batches([batch for _, batch in parts]).select(names)
    found = found.take(pa.array(np.argsort(np.concatenate([places for places, _ in parts]))))
    columns = {name: found.column(name) for name in names}
    columns["embedding"] = pa.array(list(features), type=pa.list_(pa.float32()))
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
