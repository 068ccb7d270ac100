"""BigEarthNet v1 (BigEarthNet-MM) as folders of GeoTIFFs with a JSON of labels in each.

Sumbul et al., "BigEarthNet-MM" (arXiv 2105.07921):

    BigEarthNet-v1.0/PATCH/PATCH_B02.tif, PATCH_labels_metadata.json       Sentinel-2 L2A
    BigEarthNet-S1-v1.0/PATCH/PATCH_VV.tif, PATCH_labels_metadata.json     Sentinel-1 GRD

Labels are 43 CORINE classes; `--classes 19` converts them by the published table
(`shards.sources.corine`) and leaves out patches that keep none. The time comes from the JSON: the
names drop leading zeros (`20170924T93020`), and a time must not be read out of such a number. All
products are from 2017 and 2018, before numbers carried an offset.
"""

import datetime
import json
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from fm.console import progress
from fm.errors import FMError
from shards.format import LabelInfo
from shards.sources import corine
from shards.sources.base import Content
from shards.sources.bigearthnet import CLASSES
from shards.sources.bigearthnet_folder import (
    LICENCE,
    Task,
    files_of,
    make_pair,
    modalities,
    with_all_files,
)
from shards.sources.sensor_file import listed

HELP = "BigEarthNet v1 folders: Sentinel-2 patches (and their Sentinel-1 pairs), 43 or 19 labels"
EXAMPLE = (
    "fm shards build bigearthnet-v1 --s2 BigEarthNet-v1.0 --s1 BigEarthNet-S1-v1.0 --out data/ben"
)
SPLITS = ("train", "val", "test")


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--s2", type=Path, required=True, help="folder of the Sentinel-2 patches")
    parser.add_argument("--s1", type=Path, help="folder of the Sentinel-1 patches")
    parser.add_argument(
        "--classes", choices=("43", "19"), default="43", help="labels as released (default) or 19"
    )
    parser.add_argument(
        "--splits",
        type=Path,
        help="folder with train.csv, val.csv and test.csv, a Sentinel-2 patch name first in each "
        "line; patches in none of them have no split",
    )
    parser.add_argument(
        "--exclude",
        type=Path,
        nargs="+",
        default=[],
        help="lists of patches to leave out (seasonal snow, cloud and shadow), a name a line",
    )
    parser.add_argument(
        "--skip-missing",
        action="store_true",
        help="leave out patches without all their files (otherwise the build stops with a list)",
    )


def read(arguments: Namespace) -> Content:
    """Read every patch's JSON and check that its files are there."""
    s2 = _abouts(arguments.s2)
    radar = {} if arguments.s1 is None else _pairs(arguments.s1)
    splits = _splits(arguments.splits)
    excluded = {name for path in arguments.exclude for name in _names(path)}
    nineteen = arguments.classes == "19"
    tasks, problems, unlabelled = [], [], 0
    for patch, about in s2.items():
        if patch in excluded:
            continue
        if arguments.s1 is not None and patch not in radar:
            problems.append(f"{patch}: no Sentinel-1 patch corresponds to it")
            continue
        try:
            labels, time = _label_numbers(about, nineteen), _time(about)
            corner = _corner(about)
        except FMError as error:
            problems.append(f"{patch}: {error}")
            continue
        if not labels:
            unlabelled += 1
            continue
        one = radar.get(patch)
        known: dict[str, Any] = {"land_cover": labels}
        tasks.append(
            Task(
                key=patch,
                s2=f"{arguments.s2 / patch / patch}_{{}}.tif",
                s1=None if one is None else f"{arguments.s1 / one / one}_{{}}.tif",
                map=None,
                time=time,
                centre=None,
                corner=corner,
                split=splits.get(patch),
                labels=known if one is None else known | {"s1_name": one},
            )
        )
    if not tasks:
        raise FMError(f"{arguments.s2}: no patch remains: {listed(problems, 3)}")
    whole, missing = with_all_files(tasks)
    problems += missing
    if problems and not arguments.skip_missing:
        raise FMError(
            f"{arguments.s2}: {listed(problems)}. Leave such patches out with --skip-missing"
        )
    classes = CLASSES if nineteen else corine.CLASSES_43
    labels_known = {"land_cover": LabelInfo("land_cover", "multilabel", classes)}
    if radar:
        labels_known["s1_name"] = LabelInfo("s1_name", "text")
    return Content(
        name="bigearthnet-v1",
        tasks=whole,
        make=partial(make_pair, nineteen),
        files=files_of,
        modalities=modalities(["s2", "s1"] if radar else ["s2"]),
        labels=labels_known,
        provenance={
            "source": "bigearthnet-v1",
            "classes": len(classes),
            "left_out": {
                "incomplete": len(problems),
                "without a label of the classes": unlabelled,
                "excluded by list": len(excluded & set(s2)),
            },
            "time": "acquisition_date of the Sentinel-2 patch, taken as UTC",
            "radar": "dB as released (sigma or gamma nought is not stated)",
        },
        licence=LICENCE,
    )


def _abouts(folder: Path) -> dict[str, dict[str, Any]]:
    """Read the JSON of every patch folder, by patch, sorted."""
    if not folder.is_dir():
        raise FMError(f"{folder}: no such folder; give the one that holds a folder a patch")
    with os.scandir(folder) as entries:
        patches = sorted(entry.name for entry in entries if entry.is_dir())
    if not patches:
        raise FMError(f"{folder}: holds no patch folders")
    result, problems = {}, []

    def one(patch: str) -> dict[str, Any] | str:
        path = folder / patch / f"{patch}_labels_metadata.json"
        try:
            about = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            return f"{patch}: its labels_metadata.json cannot be read ({error})"
        return about if isinstance(about, dict) else f"{patch}: its JSON is no object"

    with ThreadPoolExecutor(8) as pool, progress(f"reading {folder.name}", len(patches)) as bar:
        for patch, about in zip(patches, pool.map(one, patches), strict=True):
            if isinstance(about, str):
                problems.append(about)
            else:
                result[patch] = about
            bar.advance()
    if problems:
        raise FMError(f"{folder}: {listed(problems)}")
    return result


def _pairs(folder: Path) -> dict[str, str]:
    """Sentinel-2 patch to its Sentinel-1 patch, as the latter's JSON says."""
    result: dict[str, str] = {}
    problems = []
    for patch, about in _abouts(folder).items():
        partner = about.get("corresponding_s2_patch")
        if not isinstance(partner, str):
            problems.append(f"{patch}: no corresponding_s2_patch")
        elif partner in result:
            problems.append(f"{patch} and {result[partner]} both belong to {partner}")
        else:
            result[partner] = patch
    if problems:
        raise FMError(f"{folder}: {listed(problems)}")
    return result


def _label_numbers(about: Mapping[str, Any], nineteen: bool) -> list[int]:
    names = about.get("labels")
    if not isinstance(names, list) or not names:
        raise FMError("its JSON names no labels")
    if unknown := [name for name in names if name not in corine.CLASSES_43]:
        raise FMError(f"unknown labels {unknown}")
    return corine.to_19(names) if nineteen else [corine.CLASSES_43.index(name) for name in names]


def _time(about: Mapping[str, Any]) -> str:
    text = about.get("acquisition_date")
    try:
        moment = datetime.datetime.fromisoformat(str(text))
    except ValueError:
        raise FMError(f"acquisition_date {text!r} is no time") from None
    return f"{moment.isoformat()}Z"


def _corner(about: Mapping[str, Any]) -> tuple[float, float]:
    coordinates = about.get("coordinates")
    try:
        return float(coordinates["ulx"]), float(coordinates["uly"])  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        raise FMError("its JSON has no coordinates ulx and uly") from None


def _splits(folder: Path | None) -> dict[str, str]:
    result: dict[str, str] = {}
    for split in SPLITS if folder is not None else ():
        assert folder is not None
        for name in _names(folder / f"{split}.csv"):
            if result.setdefault(name, split) != split:
                raise FMError(f"{folder}: {name} is in {result[name]} and in {split}")
    return result


def _names(path: Path) -> Iterable[str]:
    """First column of a list."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FMError(f"{path}: this list cannot be read ({error})") from None
    return [line.split(",")[0].strip() for line in lines if line.strip()]
