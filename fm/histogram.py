"""Histograms whose bins are fixed before the data is seen, so that any two can be added.

Fine bins divide every octave of magnitude into `PER_OCTAVE` equal parts, on both sides of zero, as
HdrHistogram does (Tene 2012): a bin is the sign, exponent and leading mantissa bits of a float64.
An outlier lands in a far bin and moves no other. What is reported are bins of one width, a power
of two, over the bulk of the values; fine bins nest in them, so reported counts are exact.
"""

import math

import numpy as np

PER_OCTAVE = 128
LOWEST, HIGHEST = -32, 32
"""Magnitudes below 2^LOWEST count as zero, from 2^HIGHEST on as the last bin."""
SHOWN = 32
"""The bulk is reported in bins of the smallest width that needs at most about so many."""

_BITS = PER_OCTAVE.bit_length() - 1
_SIDE = (HIGHEST - LOWEST) * PER_OCTAVE
_FEW = 4096
"""With fewer values than this, touching every bin costs more than adding one by one."""
_BASE = (1023 + LOWEST) * PER_OCTAVE - 1


class Histogram:
    """Counts of the values of one band."""

    def __init__(self) -> None:
        self._counts = np.zeros(2 * _SIDE + 1, np.int64)

    def add(self, values: np.ndarray) -> None:
        """Count finite float64 values `[n]`."""
        bits = np.ascontiguousarray(values, np.float64).view(np.int64)
        negative = bits < 0
        # one step towards zero, so that a negative value on an edge belongs to the bin above
        place = (bits & np.int64(2**63 - 1)) - negative
        place >>= np.int64(52 - _BITS)
        place -= _BASE
        np.minimum(np.maximum(place, 0, out=place), _SIDE, out=place)
        np.negative(place, out=place, where=negative)
        place += _SIDE
        if place.size < _FEW:
            np.add.at(self._counts, place, 1)
        else:
            self._counts += np.bincount(place, minlength=self._counts.size)

    def merge(self, other: "Histogram") -> None:
        """Add the counts of another."""
        self._counts += other._counts

    def sparse(self) -> tuple[np.ndarray, np.ndarray]:
        """Return `(bins, counts)` of the bins that are not empty, to keep in a file."""
        bins = np.flatnonzero(self._counts)
        return bins.astype(np.int32), self._counts[bins]

    @classmethod
    def from_sparse(cls, bins: np.ndarray, counts: np.ndarray) -> "Histogram":
        """Restore what `sparse` gave."""
        made = cls()
        made._counts[bins] = counts
        return made

    def report(self, low: float, high: float) -> tuple[float, float, list[int]]:
        """Count in bins of one width between two values, such as the 1st and 99th percentile.

        Args:
            low: lower end of the bulk; the first bin holds it.
            high: upper end; the last bin holds it.

        Returns:
            `(start, step, counts)`: `counts[1]` is of `[start, start + step)` and so on; the first
            count is of all values below `start`, the last of all from the last bin's end on.
        """
        step = 2.0 ** max(_exponent((high - low) / SHOWN), _exponent(max(-low, high)) - _BITS)
        step = max(step, 2.0**LOWEST)
        first, last = math.floor(low / step), math.floor(high / step)
        bins = np.flatnonzero(self._counts)
        place = np.floor(_centres(bins) / step).astype(np.int64) - first + 1
        shown = last - first + 1
        counts = np.zeros(shown + 2, np.int64)
        np.add.at(counts, np.clip(place, 0, shown + 1), self._counts[bins])
        return first * step, step, counts.tolist()


def _exponent(value: float) -> int:
    """Return the smallest e with value <= 2^e."""
    if value <= 0:
        return LOWEST
    fraction, exponent = math.frexp(value)
    return exponent - 1 if fraction == 0.5 else exponent


def _centres(bins: np.ndarray) -> np.ndarray:
    signed = bins.astype(np.int64) - _SIDE
    octave, part = np.divmod(np.abs(signed) - 1, PER_OCTAVE)
    centre = np.ldexp(1.0 + (part + 0.5) / PER_OCTAVE, octave + LOWEST)
    return np.where(signed == 0, 0.0, np.sign(signed) * centre)
