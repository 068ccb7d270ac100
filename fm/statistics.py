"""Per-band statistics of physical values, in one pass over pixels and over many processes.

As in `fm.normalize`, everything is in physical units (reflectance fraction, dB).
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np

from fm.errors import FMError
from fm.histogram import Histogram
from fm.normalize import STORED, band_label, band_names
from fm.splitmix import GOLDEN, splitmix64

PERCENTILES = {"p1": 1.0, "p2": 2.0, "p50": 50.0, "p98": 98.0, "p99": 99.0}
SAMPLE = 16_384
"""Values kept a band for percentiles; up to this many, percentiles are exact."""

_STREAM_BITS = 40


class Statistics:
    """Per-band count, mean, std, min, max, percentiles, histogram over valid pixels, in one pass.

    Mean and variance are merged by the pairwise update of Chan, Golub, LeVeque (1979, "Updating
    Formulae and a Pairwise Algorithm for Computing Sample Variances", STAN-CS-79-773) in float64;
    std is the population's (divisor n). Percentiles come from a bottom-k sample: every pixel has a
    priority, a hash of its place in the stream, and a band keeps the values of the `SAMPLE` lowest
    priorities. They are exact up to that many values; beyond, the rank error has a standard
    deviation below 0.4 %. The result does not depend on how the stream was cut into updates.
    Histograms have fixed bins (`fm.histogram`), so their counts are exact.

    States that several processes made are merged in one agreed order, which makes the result the
    same to the bit; another order changes mean and std in the last digits.
    """

    def __init__(self, bands: Iterable[Any], *, stream: int = 0) -> None:
        """Start empty.

        Args:
            bands: band names or `Band`s, in channel order.
            stream: number of this part of the data (below 2^24) where several are merged, so that
                no two pixels have the same priority.
        """
        self._names = band_names(bands)
        count = len(self._names)
        if not count:
            raise FMError("statistics of no bands; name at least one")
        self._count = np.zeros(count, np.int64)
        self._mean, self._m2 = np.zeros(count), np.zeros(count)
        self._min, self._max = np.full(count, np.inf), np.full(count, -np.inf)
        self._first, self._seen = np.uint64(stream << _STREAM_BITS), 0
        self._samples = [_Sample() for _ in range(count)]
        self._histograms = [Histogram() for _ in range(count)]

    def update(self, physical: np.ndarray, valid: np.ndarray | None = None) -> None:
        """Add pixels.

        Args:
            physical: `[C, ...]` values in physical units.
            valid: bool, False where a value must not count; broadcasts against `physical` (`[...]`
                without the band axis, or `[C, ...]`). None: all of them.

        Raises:
            FMError: another number of bands, integers (stored numbers), or a valid value that is
                not finite.
        """
        if physical.ndim < 1 or len(physical) != len(self._names):
            raise FMError(
                f"statistics of {len(self._names)} bands got an array of shape "
                f"{list(physical.shape)}; bands come first"
            )
        if physical.dtype.kind != "f":
            raise FMError(STORED.format(physical.dtype))
        values = np.ascontiguousarray(physical, dtype=np.float64).reshape(len(physical), -1)
        masks = None
        if valid is not None:
            if valid.dtype != np.bool_:
                raise FMError(f"valid must be bool, got {valid.dtype}")
            masks = np.broadcast_to(valid, physical.shape).reshape(values.shape)
        places = np.arange(self._seen, self._seen + values.shape[1], dtype=np.uint64)
        priority = splitmix64((self._first + places) * GOLDEN)
        self._seen += values.shape[1]
        for band, row in enumerate(values):
            mask = None if masks is None or masks[band].all() else masks[band]
            self._add(band, row if mask is None else row[mask], row, mask, priority)

    def _add(
        self,
        band: int,
        kept: np.ndarray,
        row: np.ndarray,
        mask: np.ndarray | None,
        priority: np.ndarray,
    ) -> None:
        if not kept.size:
            return
        low, high = float(kept.min()), float(kept.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise FMError(
                f"{band_label(self._names, band)} holds values that are not finite; "
                f"mark them invalid"
            )
        mean = float(kept.mean())
        self._chan(band, kept.size, mean, float(np.square(kept - mean).sum()))
        self._min[band], self._max[band] = min(self._min[band], low), max(self._max[band], high)
        self._histograms[band].add(kept)
        near = priority <= self._samples[band].limit
        if mask is not None:
            near &= mask
        self._samples[band].add(priority[near], row[near])

    def _chan(self, band: int, count: int, mean: float, m2: float) -> None:
        before = int(self._count[band])
        total = before + count
        delta = mean - self._mean[band]
        self._mean[band] += delta * count / total
        self._m2[band] += m2 + delta * delta * before * count / total
        self._count[band] = total

    def merge(self, other: "Statistics") -> None:
        """Add what another accumulator has seen.

        Args:
            other: statistics of the same bands; left as it is.

        Raises:
            FMError: other bands.
        """
        if other._names != self._names:
            raise FMError(
                f"cannot merge statistics of {list(other._names)} into those of {list(self._names)}"
            )
        for band in range(len(self._names)):
            if other._count[band]:
                count = int(other._count[band])
                self._chan(band, count, float(other._mean[band]), float(other._m2[band]))
        self._min = np.minimum(self._min, other._min)
        self._max = np.maximum(self._max, other._max)
        self._seen += other._seen
        for mine, theirs in zip(self._samples, other._samples, strict=True):
            priority, values = theirs.kept()
            near = priority <= mine.limit
            mine.add(priority[near], values[near])
        for ours, more in zip(self._histograms, other._histograms, strict=True):
            ours.merge(more)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the whole state as arrays, to be kept in a file and merged elsewhere."""
        samples = [sample.kept() for sample in self._samples]
        bins = [histogram.sparse() for histogram in self._histograms]
        return {
            "count": self._count,
            "moments": np.stack([self._mean, self._m2, self._min, self._max]),
            "seen": np.array([self._seen]),
            "sample_ends": np.cumsum([priority.size for priority, _ in samples]),
            "priorities": np.concatenate([priority for priority, _ in samples]),
            "values": np.concatenate([values for _, values in samples]),
            "bin_ends": np.cumsum([places.size for places, _ in bins]),
            "bins": np.concatenate([places for places, _ in bins]),
            "bin_counts": np.concatenate([counts for _, counts in bins]),
        }

    @classmethod
    def from_arrays(cls, bands: Iterable[Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """Restore what `to_arrays` gave.

        Raises:
            FMError: the arrays are of another number of bands.
        """
        made = cls(bands)
        count = len(made._names)
        if arrays["moments"].shape != (4, count):
            raise FMError(f"the state is of {arrays['moments'].shape[-1]} bands, not of {count}")
        made._count = arrays["count"].astype(np.int64)
        made._mean, made._m2, made._min, made._max = arrays["moments"].astype(np.float64)
        made._seen = int(arrays["seen"][0])
        ends = arrays["sample_ends"][:-1]
        for sample, priority, values in zip(
            made._samples,
            np.split(arrays["priorities"], ends),
            np.split(arrays["values"], ends),
            strict=True,
        ):
            sample.restore(priority, values)
        ends = arrays["bin_ends"][:-1]
        pairs = zip(
            np.split(arrays["bins"], ends), np.split(arrays["bin_counts"], ends), strict=True
        )
        made._histograms = [Histogram.from_sparse(*pair) for pair in pairs]
        return made

    def to_dict(self) -> dict[str, list[Any]]:
        """Report, one entry a band.

        Returns:
            lists `mean std min max p1 p2 p50 p98 p99 count`, physical units; and `histogram`,
            `histogram_start`, `histogram_step`: bins of one width from the 1st to the 99th
            percentile, with everything below as the first count and everything above as the last.

        Raises:
            FMError: a band has not one valid value.
        """
        if (empty := np.flatnonzero(self._count == 0)).size:
            raise FMError(
                f"{band_label(self._names, int(empty[0]))} has no valid pixel; leave the band out"
            )
        std = np.sqrt(self._m2 / self._count)
        points = np.array(
            [np.percentile(s.kept()[1], list(PERCENTILES.values())) for s in self._samples]
        )
        reports = [
            histogram.report(float(low), float(high))
            for histogram, (low, *_, high) in zip(self._histograms, points, strict=True)
        ]
        return {
            "mean": self._mean.tolist(),
            "std": std.tolist(),
            "min": self._min.tolist(),
            "max": self._max.tolist(),
            **{name: points[:, i].tolist() for i, name in enumerate(PERCENTILES)},
            "count": self._count.tolist(),
            "histogram": [counts for _, _, counts in reports],
            "histogram_start": [start for start, _, _ in reports],
            "histogram_step": [step for _, step, _ in reports],
        }


class _Sample:
    """The values with the `SAMPLE` lowest priorities among all that were added."""

    def __init__(self) -> None:
        self.limit = np.uint64(2**64 - 1)
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []
        self._size = 0
        self._tidy = False

    def add(self, priority: np.ndarray, values: np.ndarray) -> None:
        if not values.size:
            return
        self._parts.append((priority, values))
        self._size += values.size
        self._tidy = False
        if self._size > 2 * SAMPLE:
            self.limit = self.kept()[0].max()

    def restore(self, priority: np.ndarray, values: np.ndarray) -> None:
        """Take over what `kept` of another one gave."""
        self._parts, self._size, self._tidy = [(priority, values)], values.size, True

    def kept(self) -> tuple[np.ndarray, np.ndarray]:
        if not self._parts:
            return np.empty(0, np.uint64), np.empty(0)
        if not self._tidy:
            priority = np.concatenate([p for p, _ in self._parts])
            values = np.concatenate([v for _, v in self._parts])
            if priority.size > SAMPLE:  # sorting only those that can stay is several times faster
                near = priority <= np.partition(priority, SAMPLE - 1)[SAMPLE - 1]
                priority, values = priority[near], values[near]
            order = np.argsort(priority)
            if np.any(np.diff(priority[order]) == 0):  # parts of one stream: the values decide
                order = np.lexsort((values, priority))
            order = order[:SAMPLE]
            self.restore(priority[order], values[order])
        return self._parts[0]
