"""Batches: threads read, check and decode members straight into the arrays of a batch.

What a batch holds depends on its global position alone, so ranks and threads change nothing but
who does the work. Threads share one process: the decoder frees the GIL, and no pixels are copied
between processes.
"""

import sys
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from fm.errors import FMError, UsageError
from shards.reading.batch import Batch
from shards.reading.device import on_device
from shards.reading.plan import Schedule, Work, whole
from shards.reading.quarantine import Quarantine
from shards.reading.source import Fault, Source

PREFETCH = 2
"""Batches that are read ahead of the one in use."""
HINTED = 8
"""Batches beyond those that are asked of remote storage."""

Job = Callable[[], list[Fault]]


def load(
    sources: Sequence[Source],
    schedule: Schedule,
    quarantines: Sequence[Quarantine],
    *,
    names: Sequence[str] | None = None,
    threads: int = 2,
    device: torch.device | str | None = None,
) -> Generator[Batch, None, None]:
    """Stream the batches of a schedule.

    Args:
        sources: one a dataset.
        schedule: what each step reads.
        quarantines: one a source: counts the samples that cannot be read, and stops.
        names: of the sources; where given, a step reads one source and its batch says which.
        threads: that read and decode; 0 reads in the caller's.
        device: where the tensors go, copied while the batch before is in use; None leaves them.

    Yields:
        batches in the order of the stream. Closing the generator ends its threads and closes its
        files.

    Raises:
        FMError: more samples cannot be read than a quarantine allows, or sources whose batches
            are not alike are mixed sample by sample.
        UsageError: a negative number of threads.
    """
    whole("threads", threads, 0)
    if names is None:
        _alike(sources)
    batches = _Stream(sources, schedule, quarantines, names, threads).run()
    if device is None:
        return batches
    try:
        where = torch.device(device)
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device={device!r}: {str(error).splitlines()[0]}") from None
    return on_device(batches, where)


def _alike(sources: Sequence[Source]) -> None:
    first = sources[0].form
    for other in sources[1:]:
        for what, value in other.form.items():
            if value != first[what]:
                raise FMError(
                    f"{other.dataset.place} and {sources[0].dataset.place} differ in {what}: "
                    f"{value} and {first[what]}; deal whole batches instead (by='batch')"
                )


class _Stream:
    def __init__(
        self,
        sources: Sequence[Source],
        schedule: Schedule,
        quarantines: Sequence[Quarantine],
        names: Sequence[str] | None,
        threads: int,
    ) -> None:
        self._sources, self._schedule, self._quarantines = sources, schedule, quarantines
        self._names, self._threads = names, threads
        self._pool = _Pool()
        self._remote = any(source.dataset.remote for source in sources)

    def run(self) -> Generator[Batch, None, None]:
        pending: deque[tuple[Batch, Work, list[Future[list[Fault]]] | list[Job]]] = deque()
        executor = (
            ThreadPoolExecutor(self._threads, thread_name_prefix="shards-reader")
            if self._threads
            else None
        )
        step, hinted, ended = 0, 0, False
        try:
            while True:
                if self._remote:
                    hinted = self._hint(max(hinted, step), step + HINTED)
                while not ended and len(pending) <= (PREFETCH if executor else 0):
                    work = self._schedule(step)
                    ended = work is None
                    if work is not None:
                        batch, jobs = self._start(work)
                        futures = [executor.submit(job) for job in jobs] if executor else jobs
                        pending.append((batch, work, futures))
                        step += 1
                if not pending:
                    return
                batch, work, running = pending.popleft()
                found = [f.result() if isinstance(f, Future) else f() for f in running]
                self._settle(batch, work, [fault for part in found for fault in part])
                del running
                yield batch
                del batch
        finally:
            if executor:
                executor.shutdown(wait=True, cancel_futures=True)
            for source in self._sources:
                source.store.release()

    def _hint(self, start: int, stop: int) -> int:
        for step in range(start, stop):
            work = self._schedule(step)
            if work is None:
                return stop
            for number, slots in self._parts(work):
                source = self._sources[number]
                rows = source.rows(work.rows[slots])
                for places in source.places(rows[rows >= 0]).values():
                    source.store.hint(places)
        return stop

    def _parts(self, work: Work) -> list[tuple[int, np.ndarray]]:
        """The sources of a step and their slots."""
        if work.parts is None:
            return [(0, np.arange(len(work.rows)))]
        return [(int(n), np.flatnonzero(work.parts == n)) for n in np.unique(work.parts)]

    def _start(self, work: Work) -> tuple[Batch, list[Job]]:
        """Make a batch, and the jobs that fill its pixels."""
        parts = self._parts(work)
        lead = self._sources[parts[0][0]] if parts else self._sources[0]
        arrays = {
            member: self._pool.take((len(work.rows), *shape), lead.store.dtype[member])
            for member, shape in lead.shapes.items()
        }
        jobs: list[Job] = []
        for number, slots in parts:
            pieces = max(1, self._threads)  # batches ahead even out what differs between them
            jobs += self._sources[number].tasks(work, slots, arrays, pieces)
        return self._batch(work, parts, lead, arrays), jobs

    def _batch(
        self,
        work: Work,
        parts: list[tuple[int, np.ndarray]],
        lead: Source,
        arrays: dict[str, np.ndarray],
    ) -> Batch:
        about = _joined(
            [(slots, self._sources[n].about(work.rows[slots])) for n, slots in parts],
            len(work.rows),
        )
        labels = {name: torch.from_numpy(value) for name, value in about["labels"].items()}
        labels |= {
            label.name: torch.from_numpy(arrays[member]) for member, label in lead.masks.items()
        }
        times = about["times"]
        return Batch(
            keys=about["keys"],
            pixels={name: torch.from_numpy(arrays[name]) for name in lead.modalities},
            lonlat=torch.from_numpy(about["lonlat"]),
            time=torch.from_numpy(about["time"]),
            labels=labels,
            weight=torch.from_numpy((work.rows >= 0).astype(np.float32)),
            positions=torch.from_numpy(work.positions),
            epochs=torch.from_numpy(work.epochs),
            scaling=dict(lead.scaling),
            bands=dict(lead.bands),
            nodata=dict(lead.nodata),
            times=None if times is None else torch.from_numpy(times),
            texts=about["texts"],
            part=None if self._names is None else self._names[parts[0][0]],
        )

    def _settle(self, batch: Batch, work: Work, faults: list[Fault]) -> None:
        """Take what could not be read out of the batch, and count it."""
        for fault in sorted(faults, key=lambda fault: fault.slot):
            batch.weight[fault.slot] = 0.0
            part = 0 if work.parts is None else int(work.parts[fault.slot])
            self._quarantines[part].add(
                batch.keys[fault.slot],
                fault.shard,
                fault.reason,
                int(work.positions[fault.slot]),
                fault.member,
            )
        for number, slots in self._parts(work):
            self._quarantines[number].seen(int((work.rows[slots] >= 0).sum()))


def _joined(parts: list[tuple[np.ndarray, dict[str, Any]]], count: int) -> dict[str, Any]:
    """Put what several sources say of their slots into one."""
    if len(parts) == 1:
        return parts[0][1]
    back = np.empty(count, np.int64)
    back[np.concatenate([slots for slots, _ in parts])] = np.arange(count)

    def join(values: list[Any]) -> Any:
        if values[0] is None:
            return None
        if isinstance(values[0], dict):
            return {name: join([value[name] for value in values]) for name in values[0]}
        if isinstance(values[0], list):
            flat = [item for value in values for item in value]
            return [flat[i] for i in back.tolist()]
        return np.concatenate(values)[back]

    return {name: join([about[name] for _, about in parts]) for name in parts[0][1]}


_probe = [np.empty(0)]
_UNUSED = sys.getrefcount(_probe[0])
"""What `sys.getrefcount(list[i])` says of an array that only the list holds."""


class _Pool:
    """Batch arrays, used again when nothing refers to them any more (a new one faults its pages).

    A tensor made by `torch.from_numpy`, and every view of it, holds a reference to the array, so
    an array whose count is that of an unused one is free. Where there is CUDA the memory is
    pinned, so that copies to the device run beside everything else.
    """

    _KEPT = PREFETCH + 3

    def __init__(self) -> None:
        self._arrays: dict[tuple[tuple[int, ...], str], list[np.ndarray]] = {}
        self._pin = torch.cuda.is_available()

    def take(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """Return an array with arbitrary content that nobody else holds."""
        kept = self._arrays.setdefault((shape, dtype), [])
        for place in range(len(kept)):
            if sys.getrefcount(kept[place]) == _UNUSED:
                return kept[place]
        if self._pin:
            array = torch.empty(shape, dtype=getattr(torch, dtype), pin_memory=True).numpy()
        else:
            array = np.empty(shape, dtype)
        if len(kept) < self._KEPT:
            kept.append(array)
        return array
