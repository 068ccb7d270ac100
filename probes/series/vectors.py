"""Features of the dates of series, `[M, D]` sample after sample, and their mean a sample."""

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fm.errors import FMError
from probes.benchmarks.dates import Dates
from probes.families.job import Job


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
