"""BigEarthNet v2 (reBEN) as folders of GeoTIFFs, Sentinel-1, Sentinel-2 and reference maps.

Clasen et al., "reBEN: Refined BigEarthNet dataset" (arXiv 2407.03653):

    BigEarthNet-S2/TILE FOLDER/PATCH/PATCH_B02.tif      120, 60 and 20 pixels, uint16, 0 = no data
    BigEarthNet-S1/PASS FOLDER/PATCH/PATCH_VV.tif       120 pixels, float32 dB
    Reference_Maps/TILE FOLDER/PATCH/PATCH_reference_map.tif    CORINE level 3 codes
    metadata.parquet                                    pairs, labels, splits, flags

The level-2A numbers carry no offset; see `shards.sources.bigearthnet` for the evidence. Where a
patch lies is written in its name and in its files, and both must agree.
"""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fm import sensors
from fm.console import progress
from fm.errors import FMError, UsageError, suggest
from fm.geo import great_circle_m
from shards.building.writer import Declared
from shards.format import LabelInfo
from shards.sample import Sample
from shards.sources import corine, raster_io
from shards.sources.base import Content
from shards.sources.bigearthnet import CLASSES, SIZES, SPLIT_NAMES, TABLES, place_and_time
from shards.sources.sensor_file import listed

HELP = "BigEarthNet v2 folders: Sentinel-1 and Sentinel-2 pairs, 19 labels, reference maps"
EXAMPLE = "fm shards build bigearthnet-v2 --root BigEarthNet --out data/bigearthnet"
LICENCE = "CDLA-Permissive-1.0"
PARTS = {"s2": "BigEarthNet-S2", "s1": "BigEarthNet-S1", "map": "Reference_Maps"}
S2, S1 = "sentinel2-l2a", "sentinel1-grd"
MAP = "reference_map"
IGNORE = 255
FLAGS = {"seasonal_snow": "contains_seasonal_snow", "cloud_or_shadow": "contains_cloud_or_shadow"}
"""Labels, and the columns of the table that they come from."""


@dataclass(frozen=True)
class Task:
    """One pair: the files of each part, and what is written of it elsewhere.

    Attributes:
        key: name of the Sentinel-2 patch.
        s2: path of its files, with `{}` for the band.
        s1: the same.
        map: path of the reference map.
        time: ISO-8601.
        centre: longitude and latitude, to compare with the files.
        corner: x and y of the upper left corner, to compare with the files.
        split: such as `train`.
        labels: as in `Sample`.
    """

    key: str
    s2: str | None
    s1: str | None
    map: str | None
    time: str
    centre: tuple[float, float] | None
    corner: tuple[float, float] | None
    split: str | None
    labels: Mapping[str, Any]


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--root", type=Path, required=True, help="folder that holds the parts")
    parser.add_argument(
        "--parts",
        default="s2,s1,map",
        help="which of s2, s1, map (default all three; each must be there)",
    )
    parser.add_argument(
        "--map-classes",
        choices=("19", "44"),
        default="19",
        help="classes of the reference map: BigEarthNet-19 (default) or CORINE level 3",
    )
    parser.add_argument(
        "--include-flagged",
        action="store_true",
        help="also the pairs with snow, cloud or shadow, of their own metadata table",
    )
    parser.add_argument(
        "--skip-missing",
        action="store_true",
        help="leave out pairs without all their files (otherwise the build stops with a list)",
    )


def read(arguments: Namespace) -> Content:
    """Read the tables and check that every file they name is there."""
    root, parts = arguments.root, _parts(arguments.parts, arguments.root)
    tables = TABLES if arguments.include_flagged else TABLES[:1]
    rows = _rows(root, tables)
    tasks, problems = [], []
    for row in rows:
        try:
            tasks.append(_task(root, parts, row))
        except FMError as error:
            problems.append(str(error))
    if problems:
        raise FMError(f"{root}: {listed(problems)}")
    whole, missing = with_all_files(tasks)
    if missing and not arguments.skip_missing:
        raise FMError(f"{root}: {listed(missing)}. Leave such pairs out with --skip-missing")
    nineteen = arguments.map_classes == "19"
    labels = {"land_cover": LabelInfo("land_cover", "multilabel", CLASSES)}
    labels |= {name: LabelInfo(name, "class", ("no", "yes")) for name in FLAGS}
    labels |= {name: LabelInfo(name, "text") for name in ("country", "s1_name")}
    if "map" in parts:
        classes = CLASSES if nineteen else corine.CLASSES_44
        labels["land_cover_map"] = LabelInfo("land_cover_map", "mask", classes, IGNORE, MAP)
    return Content(
        name="bigearthnet-v2",
        tasks=whole,
        make=partial(make_pair, nineteen),
        files=files_of,
        modalities=modalities(parts),
        labels=labels,
        provenance={
            "source": "bigearthnet-v2",
            "parts": parts,
            "tables": list(tables),
            "left_out": len(missing),
            "time": "of the Sentinel-2 pass; the Sentinel-1 pass (s1_name) is another one",
            "radar": "dB as released (sigma or gamma nought is not stated)",
            "offset": "none: smallest numbers lie far below 1000",
        },
        licence=LICENCE,
    )


def _parts(text: str, root: Path) -> list[str]:
    given = [name.strip() for name in text.split(",") if name.strip()]
    for name in given:
        if name not in PARTS:
            raise UsageError(f"--parts: there is no {name!r}; {suggest(name, PARTS)}")
    if not {"s2", "s1"} & set(given):
        raise UsageError("--parts: name s2, s1 or both; a map alone is no sample")
    for name in given:
        if not (root / PARTS[name]).is_dir():
            raise FMError(
                f"{root / PARTS[name]}: no such folder; name the parts that are there with --parts"
            )
    return [name for name in PARTS if name in given]


def _rows(root: Path, tables: Iterable[str]) -> list[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    columns = ["patch_id", "s1_name", "labels", "split", "country", *FLAGS.values()]
    rows: list[dict[str, Any]] = []
    for name in tables:
        path = root / name
        if not path.is_file():
            raise FMError(f"{path}: no such table; it lies beside the parts in the release")
        try:
            there = parquet.read_schema(path).names
            if lacking := [column for column in columns if column not in there]:
                raise FMError(f"{path}: no column {', '.join(lacking)}")
            rows += parquet.read_table(path, columns=columns).to_pylist()
        except (pyarrow.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())[:160]
            raise FMError(f"{path}: not a Parquet file that can be read ({reason})") from None
    if not rows:
        raise FMError(f"{root}: the tables are empty")
    return sorted(rows, key=lambda row: str(row["patch_id"]))


def _task(root: Path, parts: Sequence[str], row: Mapping[str, Any]) -> Task:
    patch, radar = str(row["patch_id"]), str(row["s1_name"])
    time, centre = place_and_time(patch)
    if unknown := [label for label in row["labels"] or () if label not in CLASSES]:
        raise FMError(f"{patch}: unknown labels {unknown}")
    if row["split"] not in SPLIT_NAMES:
        raise FMError(f"{patch}: unknown split {row['split']!r}")
    tile, flight = patch.rsplit("_", 2)[0], radar.rsplit("_", 3)[0]
    folder = f"{tile}/{patch}/{patch}"
    labels: dict[str, Any] = {} if row["s1_name"] is None else {"s1_name": radar}
    if row["labels"] is not None:  # null is unknown, an empty list is none of the classes
        labels["land_cover"] = [CLASSES.index(label) for label in row["labels"]]
    if row["country"] is not None:
        labels["country"] = row["country"]
    labels |= {name: int(row[column]) for name, column in FLAGS.items() if row[column] is not None}
    return Task(
        key=patch,
        s2=f"{root / PARTS['s2'] / folder}_{{}}.tif" if "s2" in parts else None,
        s1=f"{root / PARTS['s1'] / flight / radar / radar}_{{}}.tif" if "s1" in parts else None,
        map=f"{root / PARTS['map'] / folder}_reference_map.tif" if "map" in parts else None,
        time=time,
        centre=centre,
        corner=None,
        split=SPLIT_NAMES[row["split"]],
        labels=labels,
    )


def modalities(parts: Iterable[str]) -> dict[str, Declared]:
    """What the parts hold: Sentinel-2 L2A without offset, Sentinel-1 in dB."""
    result = {}
    for part in parts:
        if part == "map":
            continue
        sensor = sensors.sensor(S2 if part == "s2" else S1)
        for modality, bands in sensor.modalities.items():
            result[modality] = Declared(
                sensor.name,
                tuple(band.name for band in bands),
                nodata=raster_io.sentinel2_nodata(bands) if part == "s2" else None,
            )
    return result


def files_of(task: Task) -> list[str]:
    """Every file that a pair is made of."""
    result = [task.map] if task.map else []
    for pattern, sensor in ((task.s2, S2), (task.s1, S1)):
        if pattern:
            result += [pattern.format(band.name) for band in sensors.sensor(sensor).bands]
    return result


def with_all_files(tasks: Sequence[Task]) -> tuple[list[Task], list[str]]:
    """Split pairs into those whose files are all there, and a line for each of the others."""

    def lacking(task: Task) -> list[str]:
        return [Path(file).name for file in files_of(task) if not os.path.exists(file)]

    whole, missing = [], []
    with ThreadPoolExecutor(8) as pool, progress("looking for files", len(tasks)) as bar:
        for task, lost in zip(tasks, pool.map(lacking, tasks), strict=True):
            if lost:
                more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
                missing.append(f"{task.key}: no {lost[0]}{more}")
            else:
                whole.append(task)
            bar.advance()
    if not whole:
        raise FMError(f"not one pair has all its files: {listed(missing, 3)}")
    return whole, missing


def make_pair(nineteen: bool, task: Task) -> Sample:
    """Read one pair."""
    arrays: dict[str, np.ndarray] = {}
    place: raster_io.Header | None = None
    for pattern, name, dtype in ((task.s2, S2, "uint16"), (task.s1, S1, "float32")):
        if pattern is None:
            continue
        for modality, bands in sensors.sensor(name).modalities.items():
            side = SIZES[modality]
            files = {band.name: Path(pattern.format(band.name)) for band in bands}
            arrays[modality], header = raster_io.stack(files, dtype=dtype, shape=(side, side))
            if any(value not in (None, 0) for value in header.nodata) and name == S2:
                raise FMError(f"{header.path}: states no-data {header.nodata[0]:g}, expected 0")
            place = place or header
            _same_corner(header, place)
    assert place is not None
    if task.map is not None:
        codes, header = raster_io.read_all(task.map)
        _same_corner(header, place)
        arrays[MAP] = classes_of(codes[0], corine.code_table(nineteen), task.map)
        if arrays[MAP].shape != place.shape:
            raise FMError(f"{task.map}: {header.height}x{header.width}, expected {place.shape[0]}")
    _where_it_should_be(place, task)
    return Sample(
        key=task.key,
        arrays=arrays,
        lonlat=place.lonlat,
        time=task.time,
        split=task.split,
        labels=dict(task.labels),
        crs=place.crs,
        transform=place.transform,
        valid_fraction=None,
    )


def _where_it_should_be(place: raster_io.Header, task: Task) -> None:
    """Raise `FMError` when a patch lies more than a pixel from where its name or JSON says."""
    apart = 0.0
    if task.centre is not None:
        apart = float(great_circle_m(np.array(place.lonlat), np.array(task.centre)))
    if task.corner is not None:
        west, north = place.transform[2], place.transform[5]
        apart = max(apart, abs(west - task.corner[0]), abs(north - task.corner[1]))
    if apart > 10:
        raise FMError(f"{place.path}: lies {apart:.0f} m from where its name or JSON says")


def _same_corner(one: raster_io.Header, other: raster_io.Header) -> None:
    """Raise `FMError` when two rasters of a patch do not share system, corner and extent."""

    def ground(header: raster_io.Header) -> tuple[Any, ...]:
        a, b, c, d, e, f = header.transform
        return header.crs, b, d, c, f, a * header.width, e * header.height

    if ground(one) != ground(other):
        raise FMError(f"{one.path}: does not cover the same ground as {Path(other.path).name}")


def classes_of(codes: np.ndarray, table: Mapping[int, int | None], path: str) -> np.ndarray:
    """Turn CORINE codes `[H, W]` into uint8 class numbers, `IGNORE` where there is no class.

    Raises:
        FMError: a code that CORINE does not have.
    """
    found, places = np.unique(codes, return_inverse=True)
    if unknown := [code for code in found.tolist() if code not in table]:
        raise FMError(f"{path}: codes {unknown[:5]} are not CORINE level 3")
    numbers = [IGNORE if table[code] is None else table[code] for code in found.tolist()]
    result: np.ndarray = np.array(numbers, np.uint8)[places].reshape(codes.shape)
    return result
