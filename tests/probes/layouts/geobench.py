"""GEO-Bench v1 in miniature: a folder a task, an HDF5 file a sample, metadata in pickles.

The pickles name the publisher's classes without needing them, so that his package opens the files
where it is installed and ours has to do without.
"""

import datetime
import json
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import h5py
import numpy as np

from tests.probes.layouts.scene import codes, colour, optical

S2_NAMES = (
    *("01 - Coastal aerosol", "02 - Blue", "03 - Green", "04 - Red", "05 - Vegetation Red Edge"),
    *("06 - Vegetation Red Edge", "07 - Vegetation Red Edge", "08 - NIR"),
    *("08A - Vegetation Red Edge", "09 - Water vapour", "10 - SWIR - Cirrus", "11 - SWIR"),
    "12 - SWIR",
)
"""What the publisher's table calls the 13 bands."""
L2A_NAMES = tuple(name for name in S2_NAMES if not name.startswith("10"))
L1C = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A"),
    *("B09", "B10", "B11", "B12"),
)
L2A = tuple(band for band in L1C if band != "B10")
EUROSAT = (*L1C[:8], *L1C[9:], "B8A")
"""What stands in m-eurosat, in the order of the names."""
KILN = ("B01", "B02", "B03", "B04", "B05", "B07", "B8A", "B08", "B11", "B12")
COUNTS = {"train": 3, "val": 2, "test": 2}


def thing(module: str, kind_name: str, /, **fields: Any) -> Any:
    """An object that pickles as one of `module.kind_name` with some attributes."""
    kind = type(kind_name, (), {"__module__": module, "__qualname__": kind_name})
    made = kind()
    made.__dict__.update(fields)
    return made


def pickled(value: Any, things: Sequence[Any]) -> bytes:
    """Pickle, with the classes of `things` to be found where they say they are."""
    modules = {}
    for one in things:
        kind = type(one)
        for part in (kind.__module__.partition(".")[0], kind.__module__):
            modules.setdefault(part, ModuleType(part))
        setattr(modules[kind.__module__], kind.__name__, kind)
    # one class a name, else pickle says that it is not the same object
    for one in things:
        one.__class__ = getattr(modules[type(one).__module__], type(one).__name__)
    with mock.patch.dict(sys.modules, modules):
        return pickle.dumps(value, protocol=4)


def _band(name: str) -> Any:
    kind = "Mask" if name.startswith("Cloud") else "SpectralBand"
    extra = {} if kind == "Mask" else {"wavelength": 0.5}
    return thing("geobench.dataset", kind, name=name, alt_names=(), spatial_resolution=10, **extra)


def _specs(names: Sequence[str], classes: int, task: str, side: int) -> bytes:
    bands = [_band(name) for name in names]
    if task == "segmentation":
        label = _map_type(classes)
    else:
        kind = "Classification" if task == "class" else "MultiLabelClassification"
        label = thing("geobench.label", kind, n_classes=classes, _class_names=None)
    specs = thing(
        "geobench.task",
        "TaskSpecifications",
        dataset_name="made",
        benchmark_name="made",
        patch_size=(side, side),
        n_time_steps=1,
        bands_info=bands,
        label_type=label,
        spatial_resolution=10,
    )
    return pickled(specs, [specs, label, *bands])


def _map_type(classes: int) -> Any:
    return thing(
        "geobench.dataset",
        "SegmentationClasses",
        name="label",
        alt_names=(),
        spatial_resolution=10,
        n_classes=classes,
        _class_names=None,
    )


def write_sample(
    path: Path,
    bands: Mapping[str, np.ndarray],
    label: Any,
    date: datetime.date | None = None,
    classes: int = 0,
) -> Path:
    """Write one sample; a label of two dimensions is a map of `classes`."""
    about: dict[str, Any] = {}
    things: list[Any] = []
    order = []
    is_map = isinstance(label, np.ndarray) and label.ndim == 2
    arrays = {**bands, "label": label} if is_map else dict(bands)
    with h5py.File(path, "w") as file:
        for name, data in arrays.items():
            info = _map_type(classes) if name == "label" else _band(name)
            things.append(info)
            key = name if date is None else f"{name}_{date:%Y-%m-%d}"
            file[key] = data
            order.append(key)
            about[key] = {
                "date": date,
                "date_id": date,
                "spatial_resolution": 10,
                "band_info": info,
                "meta_info": {"location": "here"},
                "transform": None,
                "crs": "EPSG:4326",
            }
        if not is_map:
            about["label"] = label
        about["bands_order"] = order
        file.attrs["pickle"] = str(pickled(about, things))
    return path


Bands = Callable[[int], dict[str, np.ndarray]]
"""Number of a sample to its bands by the names of the files."""


def write(
    root: Path,
    bands: Bands,
    label: Callable[[int], Any],
    classes: int,
    task: str,
    ids: Sequence[str],
    counts: Mapping[str, int] = COUNTS,
    date: datetime.date | None = None,
) -> Path:
    """Write a folder with `default_partition.json`, `task_specs.pkl` and a file a sample."""
    root.mkdir(parents=True, exist_ok=True)
    lists: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    where = [part.replace("val", "valid") for part, n in counts.items() for _ in range(n)]
    for n, (name, part) in enumerate(zip(ids, where, strict=True)):
        lists[part].append(name)
        write_sample(root / f"{name}.hdf5", bands(n), label(n), date, classes)
    (root / "default_partition.json").write_text(json.dumps(lists, indent=2))
    first = bands(0)
    side = max(max(plane.shape) for plane in first.values())
    (root / "task_specs.pkl").write_bytes(_specs(list(first), classes, task, side))
    return root


def sentinel2(
    names: Sequence[str], stands: Sequence[str], side: int, dtype: str, scale: float = 1.0
) -> Bands:
    """Bands of Sentinel-2: under each name the band that stands there."""

    def make(n: int) -> dict[str, np.ndarray]:
        data = (optical(stands, side, side, n) * scale).astype(dtype)
        return dict(zip(names, data, strict=True))

    return make


def pictures(names: Sequence[str], side: int, dtype: str = "uint8", scale: float = 1.0) -> Bands:
    """8-bit pictures, perhaps scaled."""

    def make(n: int) -> dict[str, np.ndarray]:
        data = colour(len(names), side, side, n)
        return dict(zip(names, (data * scale).astype(dtype), strict=True))

    return make


def maps(classes: int, side: int) -> Callable[[int], np.ndarray]:
    """A map a sample."""
    return lambda n: codes(classes - 1, side, side, n).astype(np.int16)
