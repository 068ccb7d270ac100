"""EuroSAT, the multispectral release: `CLASS/CLASS_N.tif`, 13 bands of Sentinel-2 L1C.

Helber et al., "EuroSAT" (arXiv 1709.00029). All bands lie on one grid of 64 pixels of about 10 m.
The files keep B8A *last* (B01 ... B08, B09, B10, B11, B12, B8A), and do not say so. Two things show
it: the published statistics (mean 732 and 12 in places 9 and 10, which only B09 and B10 can have;
2594 in the last, 1.1 times B08), and two real files (484 and 12 in places 9 and 10 over cropland,
2030 in the last). Bands are put into the order of the sensor table here.

The release is of 2017 to 2018, before numbers carried an offset. It tells no times.
"""

import re
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fm import sensors
from fm.errors import FMError, UsageError
from shards.building.writer import Declared
from shards.format import LabelInfo
from shards.sample import Sample
from shards.sources import raster_io
from shards.sources.base import Content
from shards.sources.sensor_file import listed

HELP = "EuroSAT MS folders: 13-band Sentinel-2 L1C patches in ten classes"
EXAMPLE = "fm shards build eurosat --root EuroSAT_MS --out data/eurosat"
LICENCE = "MIT; Copernicus Sentinel data, free and open (Regulation EU 377/2014)"
SENSOR, MODALITY, SIDE, GSD_M = "sentinel2-l1c", "s2l1c", 64, 10.0
FILE_ORDER = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08"),
    *("B09", "B10", "B11", "B12", "B8A"),
)
CLASSES = (
    *("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial"),
    *("Pasture", "PermanentCrop", "Residential", "River", "SeaLake"),
)
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Task:
    """One file."""

    path: str
    label: int
    split: str | None


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--root", type=Path, required=True, help="folder that holds the classes")
    parser.add_argument(
        "--split",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a list of file names, one a line, that make up train, val or test; files in no list "
        "have no split",
    )


def read(arguments: Namespace) -> Content:
    """List the files and put them into their splits."""
    root = arguments.root
    if not root.is_dir():
        raise FMError(f"{root}: no such folder; give the one that holds AnnualCrop, Forest, ...")
    splits = _splits(arguments.split)
    problems, tasks, found = [], [], set()
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if folder.name not in CLASSES:
            problems.append(f"{folder.name} is no class of EuroSAT")
            continue
        for path in sorted(folder.glob("*.tif"), key=_number):
            if not re.fullmatch(rf"{folder.name}_\d+", path.stem):
                problems.append(f"{folder.name}/{path.name} is no {folder.name}_N.tif")
            tasks.append(Task(str(path), CLASSES.index(folder.name), splits.get(path.stem)))
            found.add(path.stem)
    problems += [f"{name} of the lists is missing" for name in sorted(set(splits) - found)]
    if problems:
        raise FMError(f"{root}: {listed(problems)}")
    if not tasks:
        raise FMError(f"{root}: no CLASS/CLASS_N.tif in it")
    bands = sensors.sensor(SENSOR).bands
    names = tuple(band.name for band in bands)
    nodata = raster_io.sentinel2_nodata(bands)
    return Content(
        name="eurosat",
        tasks=tasks,
        make=_sample,
        files=_files,
        modalities={MODALITY: Declared(SENSOR, names, gsd_m=GSD_M, nodata=nodata)},
        labels={"land_use": LabelInfo("land_use", "class", CLASSES)},
        provenance={
            "source": "eurosat",
            "file_order": list(FILE_ORDER),
            "resampled": "20 and 60 m bands were brought to 10 m by the authors",
            "splits": {name: sum(s == name for s in splits.values()) for name in SPLITS},
            "time": "not published",
        },
        licence=LICENCE,
    )


def _number(path: Path) -> tuple[int, str]:
    digits = path.stem.rpartition("_")[2]
    return (int(digits) if digits.isdigit() else -1, path.name)


def _splits(options: list[str]) -> dict[str, str]:
    """File name without its ending to split."""
    result: dict[str, str] = {}
    for text in options:
        split, equals, name = text.partition("=")
        if not equals or split not in SPLITS:
            raise UsageError(f"--split {text}: write train=FILE, val=FILE or test=FILE")
        try:
            lines = Path(name).read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise FMError(f"{name}: this list cannot be read ({error})") from None
        for line in lines:
            stem = Path(line).stem
            if result.setdefault(stem, split) != split:
                raise FMError(f"{name}: {stem} is in {result[stem]} and in {split}")
    return result


def _files(task: Task) -> list[str]:
    return [task.path]


def _sample(task: Task) -> Sample:
    data, header = raster_io.read_all(task.path)
    expected = (len(FILE_ORDER), SIDE, SIDE)
    if data.shape != expected or data.dtype != np.uint16:
        raise FMError(f"{task.path}: {data.dtype} {data.shape}, expected uint16 {expected}")
    order = [FILE_ORDER.index(band.name) for band in sensors.sensor(SENSOR).bands]
    return Sample(
        key=Path(task.path).stem,
        arrays={MODALITY: np.ascontiguousarray(data[order])},
        lonlat=header.lonlat,
        split=task.split,
        labels={"land_use": task.label},
        crs=header.crs,
        transform=header.transform,
        valid_fraction=None,
    )
