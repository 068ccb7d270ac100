"""Photographs and other colour pictures in a table that says where each was taken.

For sets such as Im2GPS3k or YFCC, of which a folder of JPEGs and a CSV (path, lon, lat) is what
people have. Any size, turned as their EXIF says; the middle square is brought to `--size` pixels.
"""

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fm.errors import FMError, UsageError, suggest
from shards.building.writer import Declared
from shards.format import check_dataset_name
from shards.sample import Sample
from shards.sources.base import Content, Skip
from shards.sources.declare import pairs
from shards.sources.sensor_file import listed
from shards.sources.table import Row, load_columns, parse_row

HELP = "colour pictures (JPEG, PNG) and a table of path, lon, lat"
EXAMPLE = (
    "fm shards build pictures --table im2gps3k.csv --column path=IMG_ID --column lon=LON "
    "--column lat=LAT --out data/im2gps3k"
)
SENSOR, MODALITY, BANDS = "rgb", "rgb_0", ("R", "G", "B")
COLUMNS = ("path", "lon", "lat", "time", "split")
_ODD = re.compile(r"[^A-Za-z0-9_+=@,-]")


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        path: of the file.
        row: what the table says of it.
    """

    path: Path
    row: Row


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--name", default="pictures", help="name of the dataset")
    parser.add_argument("--licence", default="not stated", help="licence of the data")
    parser.add_argument("--table", type=Path, required=True, help="CSV or Parquet, a row a picture")
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=COLUMN",
        help=f"the table's own name of {', '.join(COLUMNS)}, such as lon=LON",
    )
    parser.add_argument("--root", type=Path, help="where paths start (default: the table's folder)")
    parser.add_argument("--size", type=int, default=224, help="pixels of a side (default 224)")
    parser.add_argument(
        "--skip-missing", action="store_true", help="leave out rows without a file and count them"
    )


def read(arguments: Namespace) -> Content:
    """Read the table and check that the files are there.

    Raises:
        UsageError: options that contradict each other.
        FMError: a list of what is wrong with the table or the files.
    """
    check_dataset_name(arguments.name)
    if not 8 <= arguments.size <= 4096:
        raise UsageError(f"--size {arguments.size}: give 8 to 4096 pixels")
    names, columns = load_columns(arguments.table)
    renamed = pairs("--column", arguments.column)
    for name in renamed:
        if name not in COLUMNS:
            raise UsageError(f"--column {name}=...: {suggest(name, COLUMNS)}")
    wanted = {name: renamed.get(name, name) for name in COLUMNS}
    needed = {*renamed, "path", "lon", "lat"}  # a picture may lack a place, not all of them
    for name, column in wanted.items():
        if name in needed and column not in names:
            raise FMError(
                f"{arguments.table}: no column {column!r}; {suggest(column, names)}; name its own "
                f"by --column {name}=COLUMN"
            )
    root = arguments.root or arguments.table.parent
    tasks, problems, missing = _pictures(wanted, columns, root, arguments.table)
    if problems or (missing and not arguments.skip_missing):
        hint = ". Leave rows without a file out with --skip-missing" if missing else ""
        raise FMError(f"{arguments.table}: {listed(problems + missing)}{hint}")
    if not tasks:
        raise FMError(f"{arguments.table}: not one of its pictures is in {root}")
    return Content(
        name=arguments.name,
        tasks=tasks,
        make=partial(make, size=arguments.size),
        files=_files,
        modalities={MODALITY: Declared(SENSOR, BANDS)},
        provenance={
            "source": "pictures",
            "table": arguments.table.name,
            "size": arguments.size,
            "left_out": len(missing),
        },
        licence=arguments.licence,
    )


def _pictures(
    wanted: dict[str, str], columns: dict[str, list], root: Path, table: Path
) -> tuple[list[Picture], list[str], list[str]]:
    """The pictures that are there, what is wrong with the table, and which files are missing."""
    tasks: list[Picture] = []
    problems, missing, keys = [], [], set()
    cells = {name: columns[column] for name, column in wanted.items() if column in columns}
    for index, path in enumerate(cells["path"]):
        where = f"row {index + 1}"
        if path is None:
            problems.append(f"{where}: no path")
            continue
        own = {name: values[index] for name, values in cells.items() if name != "path"}
        try:
            row = parse_row(index, {"key": key_of(str(path)), **own})
        except FMError as error:
            problems.append(f"{where}: {error}")
            continue
        if row.key in keys:
            problems.append(f"{where}: {path} comes twice, or differs in its ending alone")
        keys.add(row.key)
        file = root / str(path)
        if not file.is_file():
            missing.append(f"{file} is missing")
            continue
        tasks.append(Picture(file, row))
    return tasks, problems, missing


def key_of(path: str) -> str:
    """Key of a sample: the path without its ending, with `_` for what keys cannot hold."""
    return _ODD.sub("_", str(Path(path).with_suffix("")))


def _files(task: Picture) -> Sequence[Path]:
    return [task.path]


def make(task: Picture, *, size: int) -> Sample:
    """Read one picture; one that cannot be read is left out and counted."""
    return Sample(
        key=task.row.key,
        arrays={MODALITY: square(task.path, size)},
        lonlat=task.row.lonlat,
        time=task.row.time,
        split=task.row.split,
    )


def square(path: Path, size: int) -> np.ndarray:
    """Middle square of a picture as `[3, size, size]` uint8, by an antialiasing bicubic filter.

    Raises:
        Skip: the file is no picture, or is damaged.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as stored:
            upright = ImageOps.exif_transpose(stored).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise Skip("unreadable picture", str(path)) from None
    side = min(upright.size)
    left, top = ((length - side) // 2 for length in upright.size)
    # cut first: resizing would look beyond the square's edges
    middle = upright.crop((left, top, left + side, top + side))
    made = middle.resize((size, size), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.moveaxis(np.asarray(made), -1, 0))
