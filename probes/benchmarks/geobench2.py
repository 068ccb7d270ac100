"""Read a data set of GEO-Bench-2 (Simumba et al., arXiv 2511.15658): one tortilla a data set.

Each sample is a tortilla in it, whose files have names (`s1`, `s2`, `mask`, ...). Its row tells the
split (`tortilla:data_split`: train, validation, test) and, in columns that differ between data
sets, labels, place and scene. `Array.source` is the name of the file that holds an array.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError
from probes.benchmarks import tortilla
from probes.benchmarks.declare import Array, Listing, Window
from probes.benchmarks.files import Classes

LISTS = {"train": "train", "validation": "val", "test": "test"}
"""Their names of the splits to ours."""
SPLIT = "tortilla:data_split"
Row = Mapping[str, Any]
Undo = Callable[[np.ndarray, str], np.ndarray]
"""Takes back what the authors did to an array [C, H, W]; takes the place too, for errors."""


class Samples:
    """The samples of a tortilla; the table of each is read with its first file.

    Args:
        path: the tortilla.
        items: its samples.
        undo: name of a file in a sample to what is done to its array.
    """

    def __init__(
        self, path: Path, items: Sequence[tortilla.Item], undo: Mapping[str, Undo] | None = None
    ) -> None:
        self._path, self._items, self._undo = path, items, undo or {}

    def image(self, place: int, array: Array, date: int, window: Window | None) -> np.ndarray:
        """Read an array; floats of any width become the declared type."""
        del date, window  # one image a sample, taken whole
        found = self.part(place, array.source)
        if array.source in self._undo:
            found = self._undo[array.source](found, self.where(place, array.source))
        wanted = np.dtype(array.dtype)
        return found.astype(wanted) if found.dtype.kind == wanted.kind == "f" else found

    def mask(self, place: int, name: str, classes: Classes) -> NDArray[np.int64]:
        """Read a map, [H, W]."""
        stored = self.part(place, name)
        where = self.where(place, name)
        if len(stored) != 1 or stored.dtype.kind not in "iuf" or (stored % 1).any():
            raise FMError(f"{where}: {stored.dtype} of {len(stored)} bands, expected a map")
        return classes(stored, where)

    def part(self, place: int, name: str) -> np.ndarray:
        """Read a file of a sample, [C, H, W] as stored."""
        sample = self._items[place]
        inside = tortilla.contents(self._path, sample)
        found = [item for item in inside if item.name == name]
        if len(found) != 1:
            names = ", ".join(item.name for item in inside)
            raise FMError(
                f"{self._path}: {sample.name} holds {names}, expected one {name}; take the "
                f"published file"
            )
        return tortilla.raster(self._path, found[0])

    def where(self, place: int, name: str) -> str:
        """The place of a file, for errors."""
        return f"{self._path}: {self._items[place].name}: {name}"


def scan(
    folder: Path,
    file: str,
    classes: Sequence[str],
    task: str,
    labels: str = "labels",
    mask: tuple[str, Classes] | None = None,
    group: Callable[[Row], str] | None = None,
    placed: bool = True,
    undo: Mapping[str, Undo] | None = None,
) -> Listing:
    """List a data set.

    Args:
        folder: holds the tortilla.
        file: name of the tortilla.
        classes: names in the order of the numbers.
        task: `class`, `multilabel` or `segmentation`.
        labels: column of the class's name, or of a list of names.
        mask: name of the file in a sample that is its map, and how its numbers are read.
        group: block of a sample by its row.
        placed: columns `lon` and `lat` tell where a sample lies, in degrees.
        undo: as in `Samples`.

    Raises:
        FMError: the tortilla is missing or damaged, or a column, a split or a class is not of this
            data set.
    """
    path = folder / file
    items = tortilla.contents(path)
    split = []
    for item in items:
        part = item.about.get(SPLIT)
        if item.kind != tortilla.NESTED or part not in LISTS:
            raise FMError(
                f"{path}: {item.name} is {item.kind} in the split {part!r}, expected a "
                f"{tortilla.NESTED} in {', '.join(LISTS)}; take the published file"
            )
        split.append(LISTS[part])
    try:
        groups = None if group is None else [group(item.about) for item in items]
        lonlat = [lonlat_of(item.about) for item in items] if placed else []
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise FMError(
            f"{path}: its table tells no scene or place of every sample ({error!r}); take the "
            f"published file"
        ) from None
    samples = Samples(path, items, undo)
    return Listing(
        ids=[item.name for item in items],
        split=split,
        source=samples,
        targets=None if mask else _targets(path, items, labels, classes, task),
        mask=None if mask is None else lambda i, window: samples.mask(i, *mask),
        groups=groups,
        lonlat=(lambda i: lonlat[i]) if placed else None,
    )


def lonlat_of(row: Row) -> tuple[float, float]:
    """Longitude and latitude of a sample, degrees."""
    return float(row["lon"]), float(row["lat"])


def square(row: Row) -> str:
    """Square of one degree that a sample lies in."""
    lon, lat = lonlat_of(row)
    return f"{math.floor(lat)} {math.floor(lon)}"


def _targets(
    path: Path, items: Sequence[tortilla.Item], labels: str, classes: Sequence[str], task: str
) -> np.ndarray:
    """Classes [N] int64, or labels [N, K] bool."""
    number = {name: n for n, name in enumerate(classes)}
    multi = task == "multilabel"
    targets = np.zeros((len(items), len(classes)), bool)
    for row, item in enumerate(items):
        found = item.about.get(labels)
        names = found if multi else [found]
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise FMError(f"{path}: {item.name}: {labels} is {found!r}, expected names of classes")
        unknown = [name for name in names if name not in number]
        if unknown:
            raise FMError(f"{path}: {item.name}: {unknown[0]!r} is no class of this data set")
        targets[row, [number[name] for name in names]] = True
    return targets if multi else targets.argmax(1).astype(np.int64)
