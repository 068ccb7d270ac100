"""Batches: threads read, check and decode members straight into the arrays of a batch.

What a batch holds depends on its global position alone, so ranks and threads change nothing but
who does the work. Threads share one process: the decoder frees the GIL, and no pixels are copied
between processes.
"""

import dataclasses
import math
import sys
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fm.console import note
from fm.errors import FMError, UsageError, suggest
from shards.codec import CorruptError
from shards.dataset import Dataset
from shards.format import LabelInfo
from shards.layout import Layout
from shards.order import Order
from shards.store import Store

PREFETCH = 2
"""Batches that are read ahead of the one in use."""
UNKNOWN_CLASS = -1
"""A class label that is not known, where the label declares no `ignore`."""
_LISTED = 50


@dataclass
class Batch:
    """This rank's part of one global batch.

    Attributes:
        keys: sample keys; `""` for padding.
        pixels: by modality, `[B, C, H, W]` or `[B, T, C, H, W]`, of the stored dtype.
        lonlat: `[B, 2]` float64 degrees, NaN where unknown.
        time: `[B]` float64 seconds since 1970 UTC, NaN where unknown.
        labels: by name. class: `[B]` int64 (the label's `ignore`, else -1, where unknown);
            multilabel: `[B, classes]` float32 of 0 and 1 (NaN where unknown); regression: `[B]`
            float64 (NaN where unknown); mask: `[B, H, W]` of the stored dtype.
        weight: `[B]` float32: 1, or 0 for a quarantined sample or padding, whose pixels are zero.
        positions: `[B]` int64 places in the stream.
        epochs: `[B]` int64.
        scaling: by modality `(scale, offset)`: physical = stored * scale + offset.
    """

    keys: list[str]
    pixels: dict[str, Tensor]
    lonlat: Tensor
    time: Tensor
    labels: dict[str, Tensor]
    weight: Tensor
    positions: Tensor
    epochs: Tensor
    scaling: dict[str, tuple[float, float]]

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch with its tensors on a device."""

        def move(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value.to(device, non_blocking=True)
            return {name: move(item) for name, item in value.items()}

        moved = ("pixels", "lonlat", "time", "labels", "weight", "positions", "epochs")
        return dataclasses.replace(self, **{name: move(getattr(self, name)) for name in moved})


@dataclass(frozen=True)
class Plan:
    """Which samples stand in which batch.

    Step k of the stream holds the positions `[position + k*B, position + (k+1)*B)` of the global
    batch; rank r of w takes `[r*B//w, (r+1)*B//w)` of them.

    Attributes:
        count: samples in the dataset.
        batch_size: global, over all ranks.
        seed: of the order.
        epoch: of position 0.
        rank: this process.
        world_size: number of processes.
        position: where the stream begins, in samples; may exceed `count`.
        shuffle: false gives the order of the index.
        pad: stop after one epoch and fill the last batch with padding of weight 0.
    """

    count: int
    batch_size: int
    seed: int = 0
    epoch: int = 0
    rank: int = 0
    world_size: int = 1
    position: int = 0
    shuffle: bool = True
    pad: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be streamed."""
        if not 0 <= self.rank < self.world_size:
            raise UsageError(f"rank {self.rank} of {self.world_size}: ranks count from 0")
        if self.batch_size < self.world_size:
            raise UsageError(
                f"batch_size {self.batch_size} is the global batch and must be at least "
                f"world_size {self.world_size}"
            )
        if self.position < 0 or self.epoch < 0:
            raise UsageError(f"position {self.position} and epoch {self.epoch} must be at least 0")

    @property
    def steps(self) -> int | None:
        """Number of batches; None for an endless stream."""
        if not self.pad:
            return None
        return max(0, math.ceil((self.count - self.position) / self.batch_size))

    def range(self, step: int) -> tuple[int, int]:
        """Return this rank's positions `[start, stop)` of a step."""
        start, batch, world = (
            self.position + step * self.batch_size,
            self.batch_size,
            self.world_size,
        )
        return start + self.rank * batch // world, start + (self.rank + 1) * batch // world


def load(
    dataset: Dataset,
    plan: Plan,
    *,
    modalities: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    threads: int = 2,
    steps: int | None = None,
    crop: int | None = None,
    on_quarantine: Callable[[str, str], None] | None = None,
    max_bad: float = 0.05,
) -> Generator[Batch, None, None]:
    """Stream the batches of a plan.

    Args:
        dataset: where the samples come from.
        plan: which samples.
        modalities: those to read; None reads all.
        labels: those to read; None reads all.
        threads: that read and decode.
        steps: number of batches; None goes on without end (or to the end of a padded pass).
        crop: centre crop in pixels of the finest grid; None takes samples whole.
        on_quarantine: called as `(key, reason)` once for each sample that cannot be read; None
            prints a line.
        max_bad: this share of the dataset (at least one sample) may be quarantined.

    Yields:
        batches in the order of the stream. Closing the generator ends its threads and closes its
        files.

    Raises:
        FMError: sizes differ and no crop was given, a modality is absent in a sample, or more
            samples than `max_bad` allows cannot be read (the keys are listed).
        UsageError: an argument out of range or an unknown name.
    """
    if threads < 1 or (steps is not None and steps < 0) or not 0 <= max_bad <= 1:
        raise UsageError(
            f"threads={threads}, steps={steps}, max_bad={max_bad}: threads is at least 1, steps at "
            "least 0, max_bad between 0 and 1"
        )
    info = dataset.info
    names = _chosen("modality", modalities, info.modalities)
    chosen = {name: info.labels[name] for name in _chosen("label", labels, info.labels)}
    if not names:
        raise UsageError("modalities is empty; name at least one")
    source = _Source(dataset, names, chosen, crop)
    ends = [value for value in (steps, plan.steps) if value is not None]
    allowed = max(1, math.floor(max_bad * len(dataset)))
    return _stream(source, plan, threads, min(ends, default=None), allowed, on_quarantine)


def _chosen(what: str, names: Sequence[str] | None, valid: Any) -> tuple[str, ...]:
    for name in names or ():
        if name not in valid:
            raise UsageError(f"no {what} {name!r}; {suggest(name, valid)}")
    return tuple(valid) if names is None else tuple(dict.fromkeys(names))


def _stream(
    source: "_Source",
    plan: Plan,
    threads: int,
    steps: int | None,
    allowed: int,
    on_quarantine: Callable[[str, str], None] | None,
) -> Generator[Batch, None, None]:
    order = Order(plan.count, plan.seed, epoch=plan.epoch, shuffle=plan.shuffle)
    report = on_quarantine or (lambda key, reason: note(f"quarantined sample {key}: {reason}"))
    bad: dict[str, str] = {}
    pending: deque[tuple[Batch, list[Future[list[tuple[int, str]]]]]] = deque()
    executor = ThreadPoolExecutor(threads, thread_name_prefix="shards-reader")
    submitted = 0
    try:
        while True:
            while len(pending) <= PREFETCH and (steps is None or submitted < steps):
                pending.append(source.start(executor, threads, plan, order, submitted))
                submitted += 1
            if not pending:
                return
            batch, futures = pending.popleft()
            for slot, reason in sorted(failure for f in futures for failure in f.result()):
                batch.weight[slot] = 0.0
                key = batch.keys[slot]
                if key not in bad:
                    bad[key] = reason
                    report(key, reason)
            if len(bad) > allowed:
                listed = ", ".join(list(bad)[:_LISTED]) + (", ..." if len(bad) > _LISTED else "")
                raise FMError(
                    f"{source.path}: {len(bad)} of {plan.count} samples cannot be read, more than "
                    f"the {allowed} allowed: {listed}; run `fm shards verify`, mend the data or "
                    "raise max_bad"
                )
            yield batch
            del batch
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        source.store.close()


class _Source:
    """The columns of a dataset that batches need, and the reading of one sample."""

    def __init__(
        self,
        dataset: Dataset,
        modalities: tuple[str, ...],
        labels: dict[str, LabelInfo],
        crop: int | None,
    ) -> None:
        self.path, self._keys = dataset.path, dataset.keys
        self._lonlat, self._time = dataset.lonlat, dataset.time
        self._modalities, self._labels = modalities, labels
        self._scaling = {name: dataset.modalities[name].scaling for name in modalities}
        self._masks = {label.member: label for label in labels.values() if label.member}
        self._members = (*modalities, *self._masks)
        optional = tuple(m for m, label in self._masks.items() if label.ignore is not None)
        self.store = Store(dataset.path, dataset.info, dataset.index, self._members)
        self._layout = Layout(self.store, self._keys, self._members, optional, crop)
        self._columns = {
            name: _label_column(dataset.index.column(name), label)
            for name, label in labels.items()
            if label.kind != "mask"
        }
        self._pool = _Pool()

    def start(
        self, executor: ThreadPoolExecutor, threads: int, plan: Plan, order: Order, step: int
    ) -> tuple[Batch, list[Future[list[tuple[int, str]]]]]:
        """Make a batch and set threads to fill its pixels; each returns the slots that failed."""
        start, stop = plan.range(step)
        known = min(stop, max(start, plan.count)) if plan.pad else stop
        rows = np.full(stop - start, -1, np.int64)
        rows[: known - start] = order.indices(start, known)
        arrays = {
            member: self._pool.take((len(rows), *shape), self.store.dtype[member])
            for member, shape in self._layout.shapes.items()
        }
        # Neighbours in a shard go to the same thread, in the order in which they lie there.
        first = self.store.offset[self._members[0]]
        slots = np.lexsort((first[rows], self.store.shard[rows]))
        parts = np.array_split(slots, min(len(slots), 4 * threads))
        futures = [executor.submit(self._fill, part.tolist(), rows, arrays) for part in parts]
        return self._batch(plan, order, start, stop, rows, arrays), futures

    def _fill(
        self, slots: list[int], rows: np.ndarray, arrays: dict[str, np.ndarray]
    ) -> list[tuple[int, str]]:
        failed = []
        for slot in slots:
            row = int(rows[slot])
            try:
                for member, array in arrays.items():
                    self._read(row, member, array[slot])
            except CorruptError as error:
                for array in arrays.values():
                    array[slot] = 0
                failed.append((slot, str(error)))
        return failed

    def _read(self, row: int, member: str, out: np.ndarray) -> None:
        if row < 0:
            out[...] = 0
        elif not self.store.shape(row, member):
            out[...] = self._masks[member].ignore
        elif self.store.shape(row, member) == out.shape:
            self.store.read_into(row, member, out)
        else:
            across = self._layout.window(self.store, row, member)
            out[...] = self.store.read(row, member)[..., across[0], across[1]]

    def _batch(
        self,
        plan: Plan,
        order: Order,
        start: int,
        stop: int,
        rows: np.ndarray,
        arrays: dict[str, np.ndarray],
    ) -> Batch:
        real = rows >= 0
        lonlat, time = self._lonlat[rows], self._time[rows]
        lonlat[~real], time[~real] = np.nan, np.nan
        labels = {}
        for name, label in self._labels.items():
            if label.member:
                labels[name] = torch.from_numpy(arrays[label.member])
            else:
                labels[name] = torch.from_numpy(self._columns[name](rows))
        return Batch(
            keys=[self._keys[row] if row >= 0 else "" for row in rows.tolist()],
            pixels={name: torch.from_numpy(arrays[name]) for name in self._modalities},
            lonlat=torch.from_numpy(lonlat),
            time=torch.from_numpy(time),
            labels=labels,
            weight=torch.from_numpy(real.astype(np.float32)),
            positions=torch.arange(start, stop, dtype=torch.int64),
            epochs=torch.from_numpy(
                np.full(len(rows), plan.epoch) if plan.pad else order.epochs(start, stop)
            ),
            scaling=dict(self._scaling),
        )


_probe = [np.empty(0)]
_UNUSED = sys.getrefcount(_probe[0])
"""What `sys.getrefcount(list[i])` says of an array that only the list holds."""


class _Pool:
    """Batch arrays, used again when nothing refers to them any more (a new one faults its pages).

    A tensor made by `torch.from_numpy`, and every view of it, holds a reference to the array, so
    an array whose count is that of an unused one is free.
    """

    _KEPT = PREFETCH + 3

    def __init__(self) -> None:
        self._arrays: dict[tuple[tuple[int, ...], str], list[np.ndarray]] = {}

    def take(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """Return an array with arbitrary content that nobody else holds."""
        kept = self._arrays.setdefault((shape, dtype), [])
        for place in range(len(kept)):
            if sys.getrefcount(kept[place]) == _UNUSED:
                return kept[place]
        array = np.empty(shape, dtype)
        if len(kept) < self._KEPT:
            kept.append(array)
        return array


def _label_column(column: Any, label: LabelInfo) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from rows (-1 is padding) to the label's array."""
    array = column.combine_chunks()
    unknown = array.is_null().to_numpy(zero_copy_only=False)
    if label.kind == "multilabel":
        lists, count = array, len(label.classes)

        def multi_hot(rows: np.ndarray) -> np.ndarray:
            result = np.zeros((len(rows), count), np.float32)
            for slot, row in enumerate(rows.tolist()):
                if row < 0 or unknown[row]:
                    result[slot] = np.nan
                    continue
                chosen = [number for number in lists[row].as_py() if number != label.ignore]
                result[slot, chosen] = 1.0
            return result

        return multi_hot
    fill: float | int = np.nan
    if label.kind == "class":
        fill = UNKNOWN_CLASS if label.ignore is None else label.ignore
    values = array.fill_null(fill).to_numpy(zero_copy_only=False)
    return lambda rows: np.where(rows >= 0, values[rows], fill).astype(values.dtype)
