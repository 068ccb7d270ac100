"""Pooled features of a dataset as GeoParquet: one row a sample."""

import os
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

import fm
import shards
from fm.console import note, progress
from fm.errors import FMError, UsageError
from fm.location.checkpoint import DESCRIPTION
from probes.benchmarks.base import Inputs
from probes.embed import parquet
from probes.embed.doubts import doubts
from probes.embed.keys import ImagesBesidePlaces
from probes.embed.ranks import Ranks
from probes.embed.stage import Stage, kept_bytes, publish, refuse_existing
from probes.embed.target import check_ending, check_room
from probes.features import workers as pool
from probes.features.extraction import encode, model_hash
from shards.seeing.scan import scan

VERSION = 2
"""Raised when the same model and samples would give other numbers."""
_SPAN = 8
"""Batches that are read one after another by one process."""


def embed(
    model: str | Path | Any,
    dataset: str | Path,
    out: str | Path,
    *,
    where: str | None = None,
    batch_size: int = 64,
    workers: int = 1,
    overwrite: bool = False,
) -> Path:
    """Write the features of every sample of a dataset, in its order.

    Columns: key, lon, lat, time, split, embedding (a list of D float32), geometry (WKB point, null
    where unknown). The file's metadata holds `geo` (GeoParquet 1.1.0) and `eofm`: the model's
    name, hash, bands and normalisation, the dataset's name and manifest hash, the filter, the
    modalities, and warnings about what the model was given, which are also printed. Batches that
    are done are kept when the process dies: the same call goes on from there.

    Args:
        model: a checkpoint folder; the `location` folder of a run that contrasted images with
            places, for images in the space of its places; or a model with `encode`.
        dataset: a dataset folder.
        out: the `.parquet` file to write; it appears whole or not at all.
        where: keep the samples for which this is true (`shards.open`).
        batch_size: samples of one shape at once.
        workers: processes that share the batches; no number depends on them, nor on the ranks of a
            launcher (`probes.embed.ranks`).
        overwrite: replace what is there.

    Returns:
        `out`.

    Raises:
        UsageError: the model takes none of the dataset's modalities, or other bands of them, or
            the numbers cannot be what their unit says.
        FMError: the model or the dataset cannot be read, an embedding is not finite, the file is
            there, or the disk is too small.
    """
    out = Path(out)
    check_ending(out, (parquet.ENDING,), "a dataset's embeddings")
    refuse_existing(out, overwrite)
    loaded = _loaded(model) if isinstance(model, str | Path) else model
    ds = shards.open(dataset, where=where)
    modalities = [m for m in ds.modalities if m in loaded.bands]
    if not modalities:
        raise UsageError(
            f"{ds.place}: the model takes {', '.join(loaded.bands)}, the dataset has "
            f"{', '.join(ds.modalities)}; embed with another model"
        )
    ranks = Ranks.of_launcher()
    if isinstance(loaded, torch.nn.Module):
        loaded.to(ranks.device(workers))
    loaded.eval()
    work = _Work(loaded, dataset, where, ds, modalities, batch_size)
    numbers = getattr(loaded, "normalisation", {})
    about = {
        "model": getattr(getattr(loaded, "card", None), "name", type(loaded).__name__),
        "model_sha256": model_hash(loaded),
        "bands": {m: [str(band.name) for band in loaded.bands[m]] for m in modalities},
        "normalisation": {m: numbers[m].to_dict() for m in modalities if m in numbers},
        "dataset": ds.info.name,
        "manifest_hash": ds.manifest_hash,
        "where": where,
        "modalities": modalities,
        **getattr(loaded, "about", {}),
    }
    job = {"version": VERSION, "batch_size": batch_size, **about}
    with torch.inference_mode():
        first, notes = work.first()
    dim = first.shape[1]
    check_room(out, 2 * 4 * dim * len(ds), kept_bytes(out))
    with (
        ranks.together(),
        ranks.opened(out, job, (len(ds), dim), work.bounds, overwrite=overwrite) as stage,
    ):
        begun, there = time.perf_counter(), sum(work.size(p) for p in stage.done)
        if there and ranks.first:
            note(f"going on: {there} of {len(ds)} samples are there")
        mine = ranks.part(work.spans(stage.left))
        share = there + sum(work.size(batch) for span in mine for batch in span)
        with progress("embedding", share, done=there, show=ranks.first) as bar:
            total = 0

            def advance(count: int) -> None:
                nonlocal total
                total += count
                rate = total / max(1e-9, time.perf_counter() - begun)
                bar.advance(count, rate=f"{rate:.0f}/s")

            pool.each(lambda span: work.fill(stage, span), mine, workers, advance)
        ended = ranks.finished(stage, total, begun)
        if ended is None:
            return out  # the first rank puts it together
        if ended.made:
            note(f"{ended.made} samples in {ended.seconds:.1f} s, {ended.rate:.0f} a second")
        kept, order = stage.read(), np.argsort(work.rows)
        parquet.write(
            stage.result,
            _table(ds),
            dim,
            lambda a, b: kept.take(order[a:b]),
            {**about, "notes": notes},
        )
        publish(stage.result, out)
    return out


def _loaded(model: str | Path) -> Any:
    if (Path(model) / DESCRIPTION).is_file():
        return ImagesBesidePlaces(model)
    return fm.load(model)


class _Work:
    """The batches of a dataset: of the samples of one kind after those of another.

    Attributes:
        rows: `[N]` places in the dataset, in the order of the work.
        bounds: ends of the batches in that order.
    """

    def __init__(
        self,
        loaded: Any,
        dataset: str | Path,
        where: str | None,
        ds: "shards.Dataset",
        modalities: list[str],
        batch_size: int,
    ) -> None:
        self.loaded, self.batch_size = loaded, batch_size
        self._again = (dataset, where)
        self._own, self._ds = os.getpid(), ds
        self.groups = _groups(ds, modalities)
        self.bands = {m: tuple(ds.modalities[m].bands) for m in modalities}
        self.scaling = {m: ds.modalities[m].scaling for m in modalities}
        self.rows = np.concatenate([places for places, _ in self.groups])
        self.bounds = [0]
        self._of: list[tuple[int, int]] = []
        """Group of each batch, and the batch's number in it."""
        for number, (places, _) in enumerate(self.groups):
            base = self.bounds[-1]
            cuts = [*range(0, len(places), batch_size), len(places)]
            self.bounds += [base + cut for cut in cuts[1:]]
            self._of += [(number, n) for n in range(len(cuts) - 1)]
        self._kinds = lru_cache(maxsize=8)(self._kind)

    def size(self, batch: int) -> int:
        """Samples of a batch."""
        return self.bounds[batch + 1] - self.bounds[batch]

    def spans(self, batches: list[int]) -> list[list[int]]:
        """Cut batches into runs that follow one another within a group."""
        found: list[list[int]] = []
        for batch in batches:
            last = found[-1] if found else []
            follows = last and batch == last[-1] + 1 and self._of[batch][0] == self._of[last[0]][0]
            if follows and len(last) < _SPAN:
                last.append(batch)
            else:
                found.append([batch])
        return found

    def first(self) -> tuple[np.ndarray, list[str]]:
        """Look at the first batch, and embed it."""
        stream = self._read([0])
        inputs, own = next(stream)
        stream.close()
        notes: list[str] = []
        if all(x.ndim == 4 for x in inputs.pixels.values()):
            notes = doubts(self.loaded, inputs, own, self.scaling, where=str(self._ds.place))
        return self._encode(inputs, own), notes

    def fill(self, stage: Stage, span: list[int]) -> int:
        """Embed batches that follow one another."""
        with torch.inference_mode():
            for batch, (inputs, own) in zip(span, self._read(span), strict=True):
                stage.put(batch, self._encode(inputs, own))
        return sum(map(self.size, span))

    def _encode(self, inputs: Inputs, own: dict[str, tuple[str, ...]]) -> np.ndarray:
        pooled = encode(self.loaded, inputs, own, self.scaling).float().cpu().numpy()
        if not np.isfinite(pooled).all():
            raise FMError(f"{self._ds.place}: the model gives NaN or infinite embeddings")
        return pooled

    def _kind(self, process: int, group: int) -> tuple["shards.Dataset", list[str]]:
        """The samples of a group, opened anew in a process of one's own."""
        places, names = self.groups[group]
        ds = self._ds
        if process != self._own:
            dataset, where = self._again
            ds = shards.open(dataset, where=where)
        return (
            ds if len(places) == len(ds) else ds.only(ds.keys[i] for i in places.tolist())
        ), names

    def _read(self, span: list[int]) -> Generator[tuple[Inputs, dict[str, tuple[str, ...]]]]:
        group, number = self._of[span[0]]
        ds, names = self._kinds(os.getpid(), group)
        size = min(self.batch_size, len(ds))  # the last batch is filled up to it
        reasons: list[tuple[str, str]] = []
        batches: Iterator[Any] = ds.loader(
            size,
            position=number * size,
            steps=len(span),
            modalities=names,
            labels=(),
            shuffle=False,
            pad=True,
            on_quarantine=lambda *reason: reasons.append(reason),
        )
        own = {m: self.bands[m] for m in names}
        for batch in batches:
            if reasons:
                key, reason = reasons[0]
                raise FMError(
                    f"{ds.place}: sample {key}: {reason}; run fm shards verify and repair"
                )
            real = batch.weight.numpy() > 0  # the last batch is filled up
            inputs = Inputs.known(
                {m: batch.pixels[m].numpy()[real] for m in names},
                {m: batch.valid(m).numpy()[real].all(-3) for m in names},
            )
            if batch.times is not None:
                inputs = replace(inputs, times=batch.times.numpy()[real])
            yield inputs, own


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


def _table(ds: "shards.Dataset") -> pa.Table:
    names = ["key", "lon", "lat", "time", "split"]
    parts = list(scan(ds, names))
    found = pa.Table.from_batches([batch for _, batch in parts]).select(names)
    return found.take(pa.array(np.argsort(np.concatenate([places for places, _ in parts]))))
