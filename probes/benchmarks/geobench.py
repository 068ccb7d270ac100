"""Read the folders of GEO-Bench v1 (Lacoste et al., arXiv 2306.03831): one HDF5 file a sample.

A folder holds `default_partition.json` (names of the samples in train, valid and test),
`task_specs.pkl` and `NAME.hdf5`, in which every band is a dataset `BAND` or `BAND_DATE` and a map
is `label`. The class of an image is in the attribute `pickle`, a printed pickle of the bands'
metadata. Neither pickle is ever loaded: `probes.benchmarks.pickled` reads the plain values out of
them.

Bands are found by the names the files give them, which are not all true (see
`probes.benchmarks.geobench_v1`): a `Layer` says which band stands under which name.
"""

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError
from probes.benchmarks import pickled
from probes.benchmarks.declare import Array, Listing, Window
from probes.benchmarks.files import all_there, names_in, open_hdf5

LISTS = {"train": "train", "valid": "val", "test": "test"}
"""Their names of the splits to ours."""
DATE = re.compile(r"_\d{4}-\d{2}-\d{2}")
NEAR_WHOLE = 1e-3


@dataclass(frozen=True)
class Layer:
    """An array and where its bands stand.

    Attributes:
        array: as it is given.
        names: of the files, in the order of `array.file_bands`.
        factor: stored numbers are multiplied with it. Floating numbers become physical values,
            pictures that were divided by 255 whole numbers again.
    """

    array: Array
    names: tuple[str, ...]
    factor: float = 1.0


class Samples:
    """The files of some samples.

    Args:
        folder: where they are.
        ids: their names.
        layers: what they hold.
    """

    def __init__(self, folder: Path, ids: Sequence[str], layers: Sequence[Layer]) -> None:
        self._folder, self._ids = folder, ids
        self._layers = {layer.array.modality: layer for layer in layers}

    def path(self, place: int) -> Path:
        """File of a sample."""
        return self._folder / f"{self._ids[place]}.hdf5"

    def image(self, place: int, array: Array, date: int, window: Window | None) -> np.ndarray:
        """Read the bands of an array in the order of `array.file_bands`."""
        del date, window  # one image a sample, taken whole
        layer, path = self._layers[array.modality], self.path(place)
        with open_hdf5(path) as file:
            planes = [_plane(file, name, layer, path) for name in layer.names]
        sizes = {plane.shape for plane in planes}
        if len(sizes) > 1:
            raise FMError(f"{path}: bands of several sizes, {sorted(sizes)}")
        return np.stack(planes)

    def mask(self, place: int, window: Window | None) -> NDArray[np.int64]:
        """Read the map of a sample."""
        del window
        path = self.path(place)
        with open_hdf5(path) as file:
            stored = np.asarray(file[_key(file, "label", path)])
        whole = stored.dtype.kind in "iu" or (stored.dtype.kind == "f" and not (stored % 1).any())
        if stored.ndim != 2 or not whole:
            raise FMError(
                f"{path}: label is {stored.dtype} {stored.shape}, expected classes [H, W]"
            )
        return stored.astype(np.int64)


def scan(
    folder: Path,
    layers: Sequence[Layer],
    classes: Sequence[str],
    task: str,
    group: Callable[[str], str] | None = None,
    lonlat: Callable[[str], tuple[float, float]] | None = None,
) -> Listing:
    """List a folder.

    Args:
        folder: the task's own, `.../classification_v1.0/m-eurosat`.
        layers: what its samples hold.
        classes: names in the order of the numbers.
        task: `class`, `multilabel` or `segmentation`.
        group: block of a sample by its name.
        lonlat: place of a sample by its name.

    Raises:
        FMError: a list, a file or a class is missing, or `task_specs.pkl` tells another task.
    """
    check_specs(folder, layers, classes)
    lists = read_lists(folder / "default_partition.json")
    ids = [name for names in lists.values() for name in names]
    split = [LISTS[part] for part, names in lists.items() for _ in names]
    there = {name.removesuffix(".hdf5") for name in names_in(folder, ".hdf5")}
    all_there(folder, ids, there)
    samples = Samples(folder, ids, layers)
    targets = None
    if task != "segmentation":
        found = [label_of(samples.path(i), len(classes), task) for i in range(len(ids))]
        targets = np.stack(found) if found else np.zeros(0, np.int64)
    try:
        groups = None if group is None else [group(name) for name in ids]
    except FMError as error:
        raise FMError(f"{folder}: {error}") from None
    return Listing(
        ids=ids,
        split=split,
        source=samples,
        targets=targets,
        mask=samples.mask if targets is None else None,
        groups=groups,
        lonlat=None if lonlat is None else lambda i: lonlat(ids[i]),
    )


def read_lists(path: Path) -> dict[str, list[str]]:
    """Read a partition: `train`, `valid`, `test` to the names of samples.

    Raises:
        FMError: missing, no JSON, or not those three lists of names.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FMError(
            f"{path}: this list cannot be read ({error}); take the published one"
        ) from None
    names = found.values() if isinstance(found, dict) and set(found) == set(LISTS) else [None]
    if not all(isinstance(part, list) and all(isinstance(n, str) for n in part) for part in names):
        raise FMError(f"{path}: expected lists of names under train, valid and test")
    return {part: found[part] for part in LISTS}


def check_specs(folder: Path, layers: Sequence[Layer], classes: Sequence[str]) -> None:
    """Refuse a folder whose `task_specs.pkl` has other bands, or another number of classes.

    Raises:
        FMError: says which.
    """
    path = folder / "task_specs.pkl"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FMError(f"{path}: cannot be read ({error}); open the folder of the task") from None
    specs = pickled.read(data, str(path))
    fields = specs.fields if isinstance(specs, pickled.Made) else {}
    bands = [_fields(band).get("name") for band in _list(fields.get("bands_info"))]
    for layer in layers:
        absent = [name for name in layer.names if name not in bands]
        if absent:
            raise FMError(f"{path}: names no band {absent[0]!r}, only {', '.join(map(str, bands))}")
    count = _fields(fields.get("label_type")).get("n_classes")
    if count != len(classes):
        raise FMError(f"{path}: tells {count} classes, expected {len(classes)}")


def label_of(path: Path, classes: int, task: str) -> np.ndarray:
    """Read the class of an image, [] int64, or its labels, [K] bool.

    Raises:
        FMError: none, or not of this number of classes.
    """
    with open_hdf5(path) as file:
        printed = file.attrs.get("pickle")
    about = pickled.read(_bytes(printed, path), str(path))
    if not isinstance(about, dict) or "label" not in about:
        raise FMError(f"{path}: its attribute `pickle` has no label; take the published files")
    value = pickled.numbers_of(about["label"], str(path))
    if task == "class" and value.shape == () and value.dtype.kind in "iu":
        if not 0 <= int(value) < classes:
            raise FMError(f"{path}: label is {int(value)}, expected 0 to {classes - 1}")
        return value.astype(np.int64)
    if task == "multilabel" and value.shape == (classes,) and np.isin(value, (0, 1)).all():
        return value.astype(bool)
    raise FMError(f"{path}: label is {value.dtype} {value.shape}, expected a {task} of {classes}")


def _bytes(printed: Any, path: Path) -> bytes:
    """The bytes of a printed pickle, `b'...'`."""
    try:
        data = ast.literal_eval(printed) if isinstance(printed, str) else None
    except (ValueError, SyntaxError, MemoryError):
        data = None
    if not isinstance(data, bytes):
        raise FMError(
            f"{path}: its attribute `pickle` is no printed pickle; take the published files"
        )
    return data


def _plane(file: Any, name: str, layer: Layer, path: Path) -> np.ndarray:
    """One band, [H, W], of the array's type."""
    stored = np.asarray(file[_key(file, name, path)])
    wanted = np.dtype(layer.array.dtype)
    if stored.ndim != 2 or stored.dtype.kind not in "iuf":
        raise FMError(f"{path}: {name!r} is {stored.dtype} {stored.shape}, expected numbers [H, W]")
    values = stored if layer.factor == 1.0 else stored.astype(np.float64) * layer.factor
    if wanted.kind == "f":
        return values.astype(wanted)
    whole = values if values.dtype.kind in "iu" else np.rint(values)
    off = 0.0 if whole is values else float(np.abs(values - whole).max(initial=0))
    limits, low, high = np.iinfo(wanted), float(values.min()), float(values.max())
    if not off < NEAR_WHOLE or low < limits.min - NEAR_WHOLE or high > limits.max + NEAR_WHOLE:
        raise FMError(
            f"{path}: {name!r} holds {low:g} to {high:g}, expected whole numbers that fit {wanted}"
        )
    return whole.astype(wanted)


def _key(file: Any, name: str, path: Path) -> str:
    """The dataset of a band: its name, perhaps with a date."""
    found = [
        k for k in file if k == name or (k.startswith(name) and DATE.fullmatch(k[len(name) :]))
    ]
    if len(found) != 1:
        raise FMError(
            f"{path}: {len(found)} datasets of {name!r}, expected 1, among {', '.join(file)}"
        )
    return str(found[0])


def _fields(value: Any) -> Mapping[str, Any]:
    return value.fields if isinstance(value, pickled.Made) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
