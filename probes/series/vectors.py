"""Features of the dates of series, `[M, D]` sample after sample, and their mean a sample."""

import hashlib
import io
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fm.console import progress
from fm.errors import FMError
from fm.files import write_atomic
from probes.benchmarks.dates import Dates
from probes.families.job import Job

IMAGES = 64
"""Images read at once while looking for data."""


@dataclass(frozen=True)
class Fixed(Job):
    """A job whose features are there already.

    Attributes:
        vectors: [N, D].
    """

    vectors: np.ndarray | None = None

    def features(self) -> np.ndarray:
        """The vectors."""
        assert self.vectors is not None
        return self.vectors

    @classmethod
    def of(cls, job: Job, settings: object, vectors: np.ndarray) -> "Fixed":
        """Take a job with other settings and these vectors in place of its features."""
        given = {field.name: getattr(job, field.name) for field in fields(Job)}
        return cls(**(given | {"settings": settings}), vectors=vectors)


def dates_of(job: Job) -> Dates:
    """The dates of the benchmark's samples.

    Raises:
        FMError: they are single images.
    """
    if job.data.dates is None:
        raise FMError(f"{job.benchmark.full_name}: samples are single images, not series of them")
    return job.data.dates


def with_data(job: Job) -> tuple[Job, list[str]]:
    """The same job without the images that have no valid pixel in any array, and a note of them.

    They are looked for once, which reads every image, and remembered in the cache folder.

    Raises:
        FMError: a sample has no other image.
    """
    dates = dates_of(job)
    if dates.sure:
        return job, []
    about = f"dates-1 {job.benchmark.full_name} {job.data.manifest_hash}"
    name = hashlib.sha256(about.encode()).hexdigest()[:32]
    path = job.cache / f"dates-{name}.npy" if job.cache is not None else None
    known = _kept(path, len(dates.owner)) if path is not None else None
    if known is None:
        known = _look(dates)
        if path is not None:
            stream = io.BytesIO()
            np.save(stream, known)
            write_atomic(path, stream.getvalue())
    left = replace(dates.only(np.flatnonzero(known)), sure=True)
    gone = int((~known).sum())
    notes = [f"{gone} images without data are no dates"] if gone else []
    return replace(job, data=replace(job.data, dates=left, read=left.series)), notes


def _look(dates: Dates) -> NDArray[np.bool_]:
    """Which images [M] have a valid pixel."""
    total = len(dates.owner)
    known = np.ones(total, bool)
    with progress("looking for dates without data", total) as bar:
        for start in range(0, total, IMAGES):
            rows = np.arange(start, min(start + IMAGES, total))
            valid = dates.read(rows).valid
            if valid is not None:
                known[rows] = np.any([mask.any((1, 2)) for mask in valid.values()], axis=0)
            bar.advance(len(rows))
    return known


def _kept(path: Path, count: int) -> NDArray[np.bool_] | None:
    """What was found before; None when it is absent, damaged or of something else."""
    try:
        known: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return known if known.dtype == bool and known.shape == (count,) else None


def vectors(job: Job) -> np.ndarray:
    """Features [M, D] of every image of every series; each is encoded once, and alone."""
    return replace(job, data=job.data.single()).features()


def mean(x: np.ndarray, dates: Dates) -> NDArray[np.float64]:
    """Mean over the dates of each sample: [N, D]."""
    sums = np.add.reduceat(np.asarray(x, np.float64), dates.starts[:-1], axis=0)
    return np.asarray(sums / np.diff(dates.starts)[:, None])


@dataclass(frozen=True)
class Padded:
    """Features of dates as batches of series, filled up to the longest series of the batch.

    Attributes:
        x: [M, D] float32.
        days: [M] day of the year.
        starts: [N + 1], as `Dates.starts`.
    """

    x: Tensor
    days: Tensor
    starts: Tensor

    @classmethod
    def of(cls, x: np.ndarray, dates: Dates) -> "Padded":
        """Take features [M, D] of the dates of all samples."""
        parts = (x.astype(np.float32), dates.days, dates.starts)
        return cls(*(torch.from_numpy(np.ascontiguousarray(part)) for part in parts))

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Series of some samples: features [B, T, D], days [B, T], and which are dates [B, T].

        Filled places repeat the first date; the mask is what tells them.
        """
        index = torch.from_numpy(rows)
        first, count = self.starts[index], self.starts[index + 1] - self.starts[index]
        place = torch.arange(int(count.max()))
        mask = place < count[:, None]
        numbers = first[:, None] + torch.where(mask, place, 0)
        return self.x[numbers], self.days[numbers], mask
