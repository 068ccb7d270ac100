"""BigEarthNet in its published folders: v1 with 19 or 43 labels, v2 (reBEN) with 19.

Patches of 1.2 km: 120 pixels of 10 m, 60 of 20 m and 20 of 60 m, one file a band, each on its
native grid, which is kept. (Other loaders bring every band to 120 pixels, bilinearly, and cut
Sentinel-1's decibels to whole numbers.) Sentinel-2 is Level-2A without the offset of baseline
04.00, Sentinel-1 in dB; `shards.sources.bigearthnet_folder` has the evidence.
"""

import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError
from fm.sensors import sensor
from probes.benchmarks import signatures
from probes.benchmarks.declare import Array, Declaration, Listing
from probes.benchmarks.files import Files, all_there, read_lines
from shards.sources import corine
from shards.sources.bigearthnet import CLASSES, SIZES, SPLIT_NAMES
from shards.sources.raster_io import header

S2, S1 = "sentinel2-l2a", "sentinel1-grd"
V1 = {S2: "BigEarthNet-v1.0", S1: "BigEarthNet-S1-v1.0"}
V2 = {S2: "BigEarthNet-S2", S1: "BigEarthNet-S1"}
LISTS = "bigearthnet-{}.csv"


def arrays(*names: str) -> tuple[Array, ...]:
    """Arrays of one or both sensors on their native grids."""
    return tuple(
        Array(
            modality,
            name,
            tuple(band.name for band in bands),
            "uint16" if name == S2 else "float32",
            (SIZES[modality],) * 2,
            bands[0].gsd_m,
            source=name,
        )
        for name in names
        for modality, bands in sensor(name).modalities.items()
    )


def scan_v1(folder: Path, sensors: tuple[str, ...], classes: int) -> Listing:
    """List the patches of `bigearthnet-{train,val,test}.csv` (Sentinel-2 name, Sentinel-1 name)."""
    pairs: list[dict[str, str]] = []
    split: list[str] = []
    for part in ("train", "val", "test"):
        path = folder / LISTS.format(part)
        for line in read_lines(path):
            words = line.split(",")
            if len(words) < 2:
                raise FMError(f"{path}: {line!r} names no pair of patches, `S2 name,S1 name`")
            pairs.append({S2: words[0], S1: words[1]})
            split.append(part)
    for name in sensors:
        root = folder / V1[name]
        all_there(root, [pair[name] for pair in pairs], _folders(root))
    labels = np.zeros((len(pairs), classes), bool)
    read = S2 if S2 in sensors else S1
    for row, pair in enumerate(pairs):
        about = folder / V1[read] / pair[read] / f"{pair[read]}_labels_metadata.json"
        labels[row, _numbers(about, classes)] = True

    def paths(i: int, array: Array, date: int) -> Sequence[Path]:
        patch = pairs[i][array.source]
        return [folder / V1[array.source] / patch / f"{patch}_{b}.tif" for b in array.file_bands]

    def lonlat(i: int) -> tuple[float, float]:
        patch, band = pairs[i][read], arrays(read)[0].file_bands[0]
        return header(folder / V1[read] / patch / f"{patch}_{band}.tif").lonlat

    ids = [pair[S2] for pair in pairs]
    return Listing(ids, split, Files(paths), labels, lonlat=lonlat, notes=_absent(labels, split))


def scan_v2(folder: Path, sensors: tuple[str, ...]) -> Listing:
    """List the patches of `metadata.parquet`."""
    rows = _table(folder / "metadata.parquet")
    labels = np.zeros((len(rows), len(CLASSES)), bool)
    split: list[str] = []
    for number, row in enumerate(rows):
        unknown = [label for label in row["labels"] if label not in CLASSES]
        if unknown or row["split"] not in SPLIT_NAMES:
            raise FMError(
                f"{folder}/metadata.parquet: {row['patch_id']}: "
                f"{unknown[0] if unknown else row['split']!r} is not of BigEarthNet v2"
            )
        labels[number, [CLASSES.index(label) for label in row["labels"]]] = True
        split.append(SPLIT_NAMES[row["split"]])
    homes = [
        {
            S2: f"{row['patch_id'].rsplit('_', 2)[0]}/{row['patch_id']}",
            S1: f"{row['s1_name'].rsplit('_', 3)[0]}/{row['s1_name']}",
        }
        for row in rows
    ]
    for name in sensors:
        root = folder / V2[name]
        there = {f"{tile}/{patch}" for tile in _folders(root) for patch in _folders(root / tile)}
        all_there(root, [home[name] for home in homes], there)

    def path_of(i: int, name: str, band: str) -> Path:
        home = homes[i][name]
        return folder / V2[name] / home / f"{home.rpartition('/')[2]}_{band}.tif"

    def lonlat(i: int) -> tuple[float, float]:
        return header(path_of(i, sensors[0], arrays(sensors[0])[0].file_bands[0])).lonlat

    return Listing(
        ids=[row["patch_id"] for row in rows],
        split=split,
        source=Files(
            lambda i, array, date: [path_of(i, array.source, b) for b in array.file_bands]
        ),
        targets=labels,
        groups=[home[S2].partition("/")[0].rpartition("_")[2] for home in homes],
        lonlat=lonlat,
        notes=_absent(labels, split),
    )


def _folders(root: Path) -> set[str]:
    if not root.is_dir():
        raise FMError(f"{root}: no such folder; it is published beside the lists")
    with os.scandir(root) as entries:
        return {entry.name for entry in entries if entry.is_dir()}


def _numbers(path: Path, classes: int) -> list[int]:
    try:
        names = json.loads(path.read_bytes())["labels"]
        if classes == len(CLASSES):
            return corine.to_19(names)
        return [corine.CLASSES_43.index(name) for name in names]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FMError(f"{path}: its labels cannot be read ({error})") from None


def _table(path: Path) -> list[Mapping[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    columns = ["patch_id", "s1_name", "labels", "split"]
    try:
        rows = parquet.read_table(path, columns=columns).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise FMError(f"{path}: not BigEarthNet's table of patches ({reason})") from None
    return rows


def _absent(labels: NDArray[np.bool_], split: Sequence[str]) -> tuple[str, ...]:
    test = labels[np.array(split) == "test"]
    count = int((~test.any(0)).sum())
    none = int((~labels.any(1)).sum())
    notes = (
        [f"{count} labels have no positive test image and are not in macro mAP"] if count else []
    )
    if none:
        notes.append(f"{none} patches have none of the labels")
    return tuple(notes)


def _v1(name: str, help: str, sensors: tuple[str, ...], classes: int = 19) -> Declaration:
    return Declaration(
        name=name,
        version=1,
        help=help,
        task="multilabel",
        primary="map_micro",
        classes=CLASSES if classes == 19 else corine.CLASSES_43,
        arrays=arrays(*sensors),
        scan=partial(scan_v1, sensors=sensors, classes=classes),
        published={"train": 269695, "val": 123723, "test": 125866},
        split="train, val and test of BigEarthNet-MM (patches with snow and cloud left out)",
        layout=f"{_homes(V1, 'PATCH', sensors)} and bigearthnet-{{train,val,test}}.csv",
        paper="Sumbul et al., arXiv 2105.07921",
        witness="BigEarthNet",
        leaks="neighbouring patches are in train, val and test; v2 is split by place",
        checks=_checks(sensors),
        verified="samples (6 real pairs of bigearthnet-common 2.8.0)",
    )


def _v2(name: str, help: str, sensors: tuple[str, ...]) -> Declaration:
    return Declaration(
        name=name,
        version=1,
        help=help,
        task="multilabel",
        primary="map",
        classes=CLASSES,
        arrays=arrays(*sensors),
        scan=partial(scan_v2, sensors=sensors),
        published={"train": 237871, "val": 122342, "test": 119825},
        split="the official train, validation and test, apart in place",
        layout=f"{_homes(V2, 'TILE/PATCH', sensors)} and metadata.parquet",
        paper="Clasen et al., arXiv 2407.03653",
        witness="BigEarthNetV2",
        unit="block",
        checks=_checks(sensors),
    )


def _homes(parts: Mapping[str, str], inside: str, sensors: tuple[str, ...]) -> str:
    return ", ".join(f"{parts[name]}/{inside}/" for name in sensors)


def _checks(sensors: tuple[str, ...]) -> tuple[Any, ...]:
    optical = signatures.S2_L2A if S2 in sensors else ()
    return (*optical, signatures.decibels) if S1 in sensors else optical


DECLARATIONS = (
    _v1("bigearthnet-v1-s2", "19 labels, BigEarthNet v1, Sentinel-2 L2A", (S2,)),
    _v1("bigearthnet-v1-s1", "19 labels, BigEarthNet v1, Sentinel-1", (S1,)),
    _v1("bigearthnet-v1-s1s2", "19 labels, BigEarthNet v1, both sensors", (S2, S1)),
    _v1("bigearthnet-v1-s2-43", "43 labels, BigEarthNet v1, Sentinel-2 L2A", (S2,), 43),
    _v2("reben-s2", "19 labels, BigEarthNet v2, Sentinel-2 L2A", (S2,)),
    _v2("reben-s1", "19 labels, BigEarthNet v2, Sentinel-1", (S1,)),
    _v2("reben-s1s2", "19 labels, BigEarthNet v2, both sensors", (S2, S1)),
)
