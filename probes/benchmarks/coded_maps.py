"""Maps whose files hold codes of a large legend, of which a benchmark asks for some.

The other codes do not count, so a folder of another product's masks would open without a word and
score nothing, or nonsense. Some maps are looked at when a folder is listed: they must hold a class,
and, where the whole legend is known, hardly a number outside of it. (A stray number is left alone:
old editions of a legend have codes that newer ones lack.)
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError
from probes.benchmarks.declare import Window
from probes.benchmarks.files import read_image

LOOKED_AT = 24
"""Maps that are looked at, spread over all of them."""
STRAY = 0.01
"""Largest share of their pixels that may lie outside the legend."""


class CodedMaps:
    """Reads class numbers [H, W]; -1 where the code is none of the benchmark's.

    Args:
        path: finds the file of a sample, one band of whole numbers.
        codes: the code of each class, in the order of the classes.
        legend: every code that may stand in a file; None where that is not known.
    """

    def __init__(
        self,
        path: Callable[[int], Path],
        codes: Sequence[int],
        legend: Collection[int] | None = None,
    ) -> None:
        self.path = path
        self._codes = np.sort(np.asarray(codes, np.int64))
        self._numbers = np.argsort(np.asarray(codes, np.int64), kind="stable")
        self._legend = None if legend is None else np.array(sorted(legend), np.int64)

    def __call__(self, place: int, window: Window | None) -> NDArray[np.int64]:
        """Read the map of a sample, or a window of it.

        Raises:
            FMError: it has more than one band.
        """
        plane = self._stored(place, window)
        at = np.minimum(np.searchsorted(self._codes, plane), len(self._codes) - 1)
        return np.where(self._codes[at] == plane, self._numbers[at], -1)

    def look(self, count: int, where: Path) -> None:
        """Look at some of `count` maps.

        Raises:
            FMError: as above; none of them holds a class; too many numbers outside the legend.
        """
        some = np.unique(np.linspace(0, count - 1, min(LOOKED_AT, count)).astype(np.int64))
        found: dict[int, int] = {}
        for n in some.tolist():
            values, counts = np.unique(self._stored(n, None), return_counts=True)
            for value, times in zip(values.tolist(), counts.tolist(), strict=True):
                found[value] = found.get(value, 0) + times
        if self._legend is not None:
            strange = {v: n for v, n in found.items() if v not in self._legend}
            share = sum(strange.values()) / max(1, sum(found.values()))
            if share > STRAY:
                most = max(strange, key=lambda value: strange[value])
                raise FMError(
                    f"{where}: {share:.0%} of the pixels of {len(some)} maps hold numbers that "
                    f"this legend does not have, such as {most}; take its masks"
                )
        if not set(found) & set(self._codes.tolist()):
            raise FMError(
                f"{where}: none of {len(some)} maps holds one of the {len(self._codes)} codes of "
                f"this benchmark ({int(self._codes[0])} to {int(self._codes[-1])}); take its masks"
            )

    def _stored(self, place: int, window: Window | None) -> NDArray[np.int64]:
        path = self.path(place)
        stored = read_image(path, window)
        if len(stored) != 1:
            raise FMError(f"{path}: {len(stored)} bands, expected one of class codes")
        return stored[0].astype(np.int64)
