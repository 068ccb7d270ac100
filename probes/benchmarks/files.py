"""Readers by kind of file: rasters of one or many bands, pictures, HDF5; and lists of names."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError
from probes.benchmarks.declare import Array, Window
from shards.sources import raster_io

Paths = Callable[[int, Array, int], Path | Sequence[Path]]
"""Takes the number of a sample, an array and a date; several paths are a band each."""
Classes = Callable[[np.ndarray, str], NDArray[np.int64]]
"""Turns what a mask file holds, [C, H, W] as stored, into class numbers [H, W]; takes the path too,
for errors."""


NEAR = 8
"""How far a channel of a label picture may lie from 0 or 255."""


class Files:
    """A source whose arrays are image files; `paths` finds those of an array."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths

    def image(self, place: int, array: Array, date: int, window: Window | None) -> np.ndarray:
        """Read the bands of an array in file order."""
        found = self.paths(place, array, date)
        if isinstance(found, Path):
            return read_image(found, window)
        planes = [read_image(path, window) for path in found]
        for path, plane in zip(found, planes, strict=True):
            if plane.shape != (1, *planes[0].shape[1:]):
                raise FMError(
                    f"{path}: {' x '.join(map(str, plane.shape))}, expected one band of "
                    f"{' x '.join(map(str, planes[0].shape[1:]))}"
                )
        return np.concatenate(planes)


class MaskFiles:
    """Maps that are image files.

    Args:
        path: finds the file of a sample.
        classes: reads the file's numbers; None takes those of its first band.
    """

    def __init__(self, path: Callable[[int], Path], classes: Classes | None = None) -> None:
        self.path, self.classes = path, classes

    def __call__(self, place: int, window: Window | None) -> NDArray[np.int64]:
        """Read the map of a sample, or a window of it."""
        path = self.path(place)
        stored = read_image(path, window)
        if self.classes is not None:
            return self.classes(stored, str(path))
        return stored[0].astype(np.int64)


def numbers(table: Mapping[int, int]) -> Classes:
    """Take stored numbers for class numbers by a table; refuse the ones it lacks."""
    size = max(table) + 1
    lookup = np.full(size + 1, -2, np.int64)
    for stored, number in table.items():
        lookup[stored] = number

    def read(stored: np.ndarray, path: str) -> NDArray[np.int64]:
        plane = stored[0].astype(np.int64)
        found = lookup[np.where((plane < 0) | (plane >= size), size, plane)]
        if (found == -2).any():
            strange = int(plane[found == -2].flat[0])
            raise FMError(f"{path}: its map holds {strange}, which is no class of this dataset")
        return found

    return read


def colours(table: Mapping[tuple[int, int, int], int]) -> Classes:
    """Take colours for class numbers by a table; refuse the ones it lacks.

    The table's colours are corners of the cube. A channel within `NEAR` of 0 or 255 is taken for
    it, because some published label files were once compressed with loss.
    """
    codes = {(r << 16) | (g << 8) | b: number for (r, g, b), number in table.items()}
    keys = np.array(sorted(codes), np.int64)
    values = np.array([codes[int(key)] for key in keys], np.int64)

    def read(stored: np.ndarray, path: str) -> NDArray[np.int64]:
        if len(stored) != 3:
            raise FMError(f"{path}: {len(stored)} bands, expected the colours of a map")
        near = np.where(stored <= NEAR, 0, np.where(stored >= 255 - NEAR, 255, stored))
        red, green, blue = near.astype(np.int64)
        code = (red << 16) | (green << 8) | blue
        place = np.minimum(np.searchsorted(keys, code), len(keys) - 1)
        strange = keys[place] != code
        if strange.any():
            where = tuple(np.argwhere(strange)[0])
            shown = tuple(int(v) for v in stored[(slice(None), *where)])
            raise FMError(f"{path}: its map holds the colour {shown}, which is no class")
        result: NDArray[np.int64] = values[place]
        return result

    return read


def read_image(path: Path, window: Window | None = None) -> np.ndarray:
    """Read a GeoTIFF, PNG or JPEG, or a window of it, as [C, H, W] of the stored type.

    PNG and JPEG go through Pillow, as a JPEG decoder's rounding is part of the numbers. Palettes
    are resolved to colours.

    Raises:
        FMError: missing or unreadable.
    """
    if path.suffix.lower() in (".png", ".jpg", ".jpeg"):
        try:
            whole = _picture(str(path), path.stat().st_mtime_ns)
        except OSError as error:
            raise FMError(f"{path}: cannot be read ({error}); take the published files") from None
        return whole if window is None else whole[_box(window)]
    if window is None:
        if not path.is_file():
            raise FMError(f"{path}: no such file; take the published files")
        return raster_io.read_all(path)[0]
    bands = range(1, _bands(str(path)) + 1)
    return np.stack([raster_io.read_window(str(path), band, window) for band in bands])


@lru_cache(maxsize=4096)
def _bands(path: str) -> int:
    return raster_io.header(path).count


@lru_cache(maxsize=8)
def _picture(path: str, changed: int) -> np.ndarray:
    """Decode a picture; the last few stay, because windows of one come after one another."""
    del changed  # part of the key
    from PIL import Image

    with Image.open(path) as picture:
        data = np.array(picture.convert("RGB") if picture.mode in ("P", "RGBA") else picture)
    data = data[None] if data.ndim == 2 else np.moveaxis(data, -1, 0)
    data = np.ascontiguousarray(data.astype(np.uint8) if data.dtype == bool else data)
    data.flags.writeable = False
    return data


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture or raster, from its header."""
    if path.suffix.lower() in (".png", ".jpg", ".jpeg"):
        from PIL import Image

        try:
            with Image.open(path) as picture:
                return picture.height, picture.width
        except OSError as error:
            raise FMError(f"{path}: cannot be read ({error}); take the published files") from None
    return raster_io.header(path).shape


def _box(window: Window) -> tuple[slice, slice, slice]:
    row, col, height, width = window
    return slice(None), slice(row, row + height), slice(col, col + width)


class Hdf5:
    """Datasets of HDF5 files, opened when first read, one handle a process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: tuple[int, Any] | None = None

    def __getitem__(self, name: str) -> Any:
        """One of its groups or datasets."""
        if self._open is None or self._open[0] != os.getpid():
            self._open = os.getpid(), open_hdf5(self.path)
        handle = self._open[1]
        if name not in handle:
            raise FMError(f"{self.path}: holds no {name!r}, only {', '.join(list(handle)[:8])}")
        return handle[name]

    def keys(self) -> list[str]:
        """Names at its root, sorted."""
        with open_hdf5(self.path) as handle:
            return sorted(handle)


def open_hdf5(path: Path) -> Any:
    """Open an HDF5 file for reading.

    Raises:
        FMError: h5py is not installed, or the file is missing or damaged.
    """
    try:
        import h5py
    except ImportError:
        raise FMError(f"{path}: reading it needs h5py; pip install h5py") from None
    if not path.is_file():
        raise FMError(f"{path}: no such file; take the published files")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        reason = " ".join(str(error).split())[:160]
        raise FMError(f"{path}: not an HDF5 file that can be read ({reason})") from None


def read_lines(path: Path) -> list[str]:
    """Lines of a list, stripped, without the empty ones.

    Raises:
        FMError: missing or empty.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise FMError(
            f"{path}: this list cannot be read ({error}); it is published beside the images"
        ) from None
    lines = [line for line in lines if line]
    if not lines:
        raise FMError(f"{path}: an empty list; take the published one")
    return lines


def names_in(folder: Path, suffix: str) -> list[str]:
    """Sorted names of the files of a folder that end so.

    Raises:
        FMError: no such folder.
    """
    if not folder.is_dir():
        raise FMError(f"{folder}: no such folder; take the published layout")
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.name.lower().endswith(suffix))


def all_there(folder: Path, wanted: Sequence[str], found: Mapping[str, object] | set[str]) -> None:
    """Refuse a folder that lacks files of its lists.

    Raises:
        FMError: says how many are missing and names the first.
    """
    missing = [name for name in wanted if name not in found]
    if missing:
        more = f" and {len(missing) - 1} more of the lists" if len(missing) > 1 else ""
        raise FMError(f"{folder}: no {missing[0]}{more}; the download is incomplete")
