"""Maps whose files hold codes of a large legend, of which a benchmark asks for some.

The other codes of the legend do not count. Where the whole legend is known, a number outside of it
is refused: it is another product. Where it is not, a dataset of which no map looked at holds a
class is.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError
from probes.benchmarks.declare import Window
from probes.benchmarks.files import read_image

LOOKED_AT = 24
"""Maps that are read when a folder is listed, spread over all of them."""


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
            FMError: more than one band, or a number outside the legend.
        """
        path = self.path(place)
        stored = read_image(path, window)
        if len(stored) != 1:
            raise FMError(f"{path}: {len(stored)} bands, expected one of class codes")
        plane = stored[0].astype(np.int64)
        if self._legend is not None:
            known = np.isin(plane, self._legend)
            if not known.all():
                strange = int(plane[~known].flat[0])
                raise FMError(f"{path}: its map holds {strange}, which its legend does not have")
        at = np.minimum(np.searchsorted(self._codes, plane), len(self._codes) - 1)
        return np.where(self._codes[at] == plane, self._numbers[at], -1)

    def look(self, count: int, where: Path) -> None:
        """Read some of `count` maps.

        Raises:
            FMError: as above, or none of them holds a class.
        """
        some = np.unique(np.linspace(0, count - 1, min(LOOKED_AT, count)).astype(np.int64))
        if not any((self(n, None) >= 0).any() for n in some.tolist()):
            raise FMError(
                f"{where}: none of {len(some)} maps holds one of the {len(self._codes)} codes of "
                f"this benchmark ({int(self._codes[0])} to {int(self._codes[-1])}); take its masks"
            )
