"""Samples that are series of dated images: whose each image is, when it was taken, how it is read.

A series has no empty places: a date without data is left out when the benchmark is opened, so the
series are ragged, and whatever is padded later is padded with something that says so.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError
from probes.benchmarks.base import Inputs

DAY = 86400


@dataclass(frozen=True)
class Dates:
    """The images of N samples, `M` in all, sample after sample.

    Attributes:
        count: N.
        owner: [M] sample of each image, ascending.
        times: [M] seconds since 1970 UTC, ascending inside a sample.
        read: gives the images with the given numbers, [B, C, H, W] each.
        years: the years are real. Where a dataset tells the time of year alone they are nominal:
            heads see the day of the year, and models are told no time.
        sure: each image is known to have data. Where it is not, images without a valid pixel are
            looked for before heads that see dates one by one are fitted (`probes.series.vectors`).

    Raises:
        FMError: a sample without an image, images out of order, or a time that is not known.
    """

    count: int
    owner: NDArray[np.int64]
    times: NDArray[np.float64]
    read: Callable[[NDArray[np.int64]], Inputs]
    years: bool = True
    sure: bool = True

    def __post_init__(self) -> None:
        if len(self.owner) != len(self.times) or not np.isfinite(self.times).all():
            raise FMError("each image of a series needs a known time")
        step = np.diff(self.owner)
        if (step < 0).any() or (np.diff(self.times)[step == 0] < 0).any():
            raise FMError("images of series must come sample after sample, in the order of time")
        empty = np.flatnonzero(np.diff(self.starts) == 0)
        if len(empty) or (self.owner[-1:] >= self.count).any():
            raise FMError(f"{len(empty)} series have no image with data; leave those samples out")

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """[N + 1], where the images of each sample begin; they end where the next one's do."""
        return np.searchsorted(self.owner, np.arange(self.count + 1)).astype(np.int64)

    @cached_property
    def days(self) -> NDArray[np.int64]:
        """[M] day of the year in UTC, 1 to 366."""
        date = np.floor(self.times / DAY).astype(np.int64).astype("datetime64[D]")
        return (date - date.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64) + 1

    @property
    def span(self) -> str:
        """How many dates there are, in words."""
        counts = np.diff(self.starts)
        low, high = int(counts.min()), int(counts.max())
        return f"series of {low} dates" if low == high else f"series of {low} to {high} dates"

    def images(self, numbers: NDArray[np.int64]) -> Inputs:
        """Single images with what a model may be told of their times."""
        return replace(self.read(numbers), times=self._told(numbers))

    def series(self, samples: NDArray[np.int64]) -> Inputs:
        """Whole series [B, T, C, H, W], T the longest one's; what is filled up is invalid.

        Filled places hold zeros, are invalid in every pixel and have no time (NaN).
        """
        lengths = np.diff(self.starts)[samples]
        row = np.repeat(np.arange(len(samples)), lengths)
        place = np.concatenate([np.arange(n) for n in lengths])
        numbers = self.starts[samples][row] + place
        found = self.read(numbers)
        shape = (len(samples), int(lengths.max()))
        pixels, valid = {}, {}
        for modality, array in found.pixels.items():
            pixels[modality] = np.zeros((*shape, *array.shape[1:]), array.dtype)
            pixels[modality][row, place] = array
            valid[modality] = np.zeros((*shape, *array.shape[2:]), bool)
            valid[modality][row, place] = True if found.valid is None else found.valid[modality]
        times = np.full(shape, np.nan)
        times[row, place] = self._told(numbers)
        return Inputs(pixels, valid, times=times)

    def thinned(self, most: int) -> "Dates":
        """At most so many images a sample, spread evenly over its dates, the ends among them."""
        kept = []
        for first, end in zip(self.starts[:-1], self.starts[1:], strict=True):
            few = min(most, int(end - first))
            kept.append(first + np.rint(np.linspace(0, end - first - 1, few)).astype(np.int64))
        return self.only(np.concatenate(kept))

    def only(self, rows: NDArray[np.int64]) -> "Dates":
        """The images with some numbers, ascending.

        Raises:
            FMError: a sample is left without an image.
        """
        return replace(
            self,
            owner=self.owner[rows],
            times=self.times[rows],
            read=lambda numbers: self.read(rows[numbers]),
        )

    def _told(self, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.times[numbers] if self.years else np.full(len(numbers), np.nan)
