"""S2-100K, SatCLIP's training set: `index.csv` (fn, lon, lat) and `images/patch_N.tif`, or tars.

Klemmer et al., "SatCLIP" (arXiv 2311.17179). The copies on Hugging Face hold the same files in
`data/shard-*.tar`, a thousand each, and all of them in `satclip.tar`; tars are read in place. Each
file has the 12 bands of Level-2A in the order of the sensor table (B01 ... B08, B8A, B09, B11,
B12), all on one grid of 256 pixels of 10 m; 0 is no data. Neither index nor files tell when a patch
was taken.

The scenes are of January 2021 to May 2023, so those of before 25 January 2022 carry no offset and
later ones carry -1000, and nothing in the release says which: of four real files three have minima
of 45 to 155 and one has no number below 1076 in any band. So the build wants to be told, in one of
two ways: `--as-stored` keeps the numbers as if none had an offset (SatCLIP divides by 10000 and
does the same), or `--baselines FILE` names each patch's processing baseline, and then 1000 is added
to the numbers of the older patches (not to 0), which loses nothing and gives all of them the same
meaning.

Geotransforms and index are as published, half a pixel (5 m) too far north-west: the 20 and 60 m
bands are nearest-neighbour copies, and in all four real files their steps fall on the Sentinel-2
tile's 20 and 60 m lattice only when the corner is moved by (+5 m, -5 m).

Files below 10 kB hold next to no data; SatCLIP's code leaves them out, and so does this.
"""

import csv
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fm import sensors
from fm.errors import FMError
from fm.geo import great_circle_m
from shards.building.writer import Declared
from shards.foreign.tar_scan import Entry, scan
from shards.format import LabelInfo
from shards.sample import Sample
from shards.sources import raster_io
from shards.sources.base import Content, Skip
from shards.sources.sensor_file import listed

HELP = "S2-100K: index.csv and 12-band Sentinel-2 L2A patches with coordinates, also in tars"
EXAMPLE = "fm shards build s2-100k --root s2-100k --as-stored --out data/s2-100k"
LICENCE = "Copernicus Sentinel data, free and open (Regulation EU 377/2014); index MIT"
ORDER = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
"""Of the files, checked on four of them: reflectances of B08 and B8A agree, B11 follows B09."""
SIDE, GSD_M, OFFSET = 256, 10.0, 1000
MODALITY = "s2l2a"
APART_M = 30
SMALLEST = 10_000
"""Bytes of a file; one with data in all pixels has hundreds of thousands."""
TARS = ("data/shard-*.tar", "satclip.tar")


@dataclass(frozen=True)
class Place:
    """Where a file is: alone, or within a tar.

    Attributes:
        file: on disk.
        name: of the patch's file.
        size: in bytes.
        offset: within a tar; None where the file is alone.
    """

    file: str
    name: str
    size: int
    offset: int | None = None

    @property
    def raster(self) -> str:
        """What GDAL opens."""
        if self.offset is None:
            return self.file
        return f"/vsisubfile/{self.offset}_{self.size},{self.file}"

    def __str__(self) -> str:
        return self.file if self.offset is None else f"{self.file}: {self.name}"


@dataclass(frozen=True)
class Task:
    """One patch; `add` is what its numbers lack to mean the same as the others'."""

    place: Place
    lonlat: tuple[float, float]
    baseline: str | None
    add: int


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--root", type=Path, required=True, help="folder with index.csv, and images/ or tars"
    )
    offset = parser.add_mutually_exclusive_group(required=True)
    offset.add_argument(
        "--as-stored",
        action="store_true",
        help="read all numbers without an offset, though patches from 2022 on carry one",
    )
    offset.add_argument(
        "--baselines",
        type=Path,
        help="CSV with columns fn, baseline (such as 03.01) for every patch",
    )
    parser.add_argument(
        "--skip-missing",
        action="store_true",
        help="leave out rows without a file (otherwise the build stops with a list)",
    )


def read(arguments: Namespace) -> Content:
    """Read the index and check that the files are there."""
    root = arguments.root
    rows = _table(root / "index.csv", ("fn", "lon", "lat"))
    baselines = None
    if not arguments.as_stored:
        table = _table(arguments.baselines, ("fn", "baseline"))
        baselines = {row["fn"]: row["baseline"] for row in table}
    there, inside = _there(root)
    tasks, problems, missing = [], [], []
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        where = f"index.csv row {number}"
        name = row["fn"]
        if name in seen or not name.endswith(".tif") or "/" in name:
            problems.append(f"{where}: {name!r} comes twice or is no name of a .tif")
            continue
        seen.add(name)
        if name not in there:
            missing.append(f"{inside}{name} is missing")
            continue
        try:
            tasks.append(_task(there[name], row, baselines))
        except FMError as error:
            problems.append(f"{where}: {error}")
    if problems or (missing and not arguments.skip_missing):
        hint = ". Leave rows without a file out with --skip-missing" if missing else ""
        raise FMError(f"{root}: {listed(problems + missing)}{hint}")
    if not tasks:
        raise FMError(f"{root}: not one file of index.csv is there")
    sensor = sensors.sensor("sentinel2-l2a" if baselines is None else "sentinel2-l2a-n0400")
    return Content(
        name="s2-100k",
        tasks=tasks,
        make=_sample,
        files=_files,
        modalities={
            MODALITY: Declared(
                sensor.name,
                tuple(band.name for band in sensor.bands),
                gsd_m=GSD_M,
                nodata=raster_io.sentinel2_nodata(sensor.bands),
            )
        },
        labels={} if baselines is None else {"baseline": LabelInfo("baseline", "text")},
        provenance={
            "source": "s2-100k",
            "offset": "as stored: patches from 2022 on are about 0.1 too bright"
            if baselines is None
            else f"baselines of {arguments.baselines.name}; {OFFSET} added before 04.00",
            "resampled": "20 and 60 m bands were brought to 10 m by the authors",
            "left_out": len(missing),
            "time": "not published",
        },
        licence=LICENCE,
    )


def _there(root: Path) -> tuple[dict[str, Place], str]:
    """Find the files of patches by name, and say where they were looked for."""
    folder = root / "images"
    if folder.is_dir():
        with os.scandir(folder) as entries:
            files = {e.name: Place(e.path, e.name, e.stat().st_size) for e in entries}
        return files, "images/"
    for pattern in TARS:
        found: dict[str, Place] = {}
        for tar in sorted(root.glob(pattern)):
            for entry in _members(tar):
                name = entry.name.rpartition("/")[2]
                if name in found and name.endswith(".tif"):
                    raise FMError(f"{tar}: {name} is in {found[name].file} too; remove one of them")
                found[name] = Place(str(tar), name, entry.size, entry.offset)
        if found:
            return found, f"{pattern}: "
    raise FMError(f"{root}: has neither images/ nor {' nor '.join(TARS)}")


def _members(tar: Path) -> list[Entry]:
    with tar.open("rb") as stream:

        def read(offset: int, size: int) -> bytes:
            stream.seek(offset)
            return stream.read(size)

        return list(scan(read, tar.stat().st_size, str(tar)))


def _table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            lacking = [name for name in columns if name not in (reader.fieldnames or ())]
            rows = [] if lacking else list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FMError(f"{path}: this table cannot be read ({error})") from None
    if lacking:
        raise FMError(f"{path}: no column {', '.join(lacking)}")
    if short := [n for n, row in enumerate(rows, start=1) if None in row.values() or None in row]:
        raise FMError(f"{path}: row {short[0]} has another number of cells than the first line")
    return rows


def _task(place: Place, row: Mapping[str, str], baselines: Mapping[str, str] | None) -> Task:
    try:
        lon, lat = float(row["lon"]), float(row["lat"])
    except ValueError:
        raise FMError(f"({row['lon']!r}, {row['lat']!r}) are no numbers") from None
    if not (abs(lon) <= 180 and abs(lat) <= 90):
        raise FMError(f"lon {lon:g}, lat {lat:g} are no place")
    if baselines is None:
        return Task(place, (lon, lat), None, 0)
    baseline = baselines.get(place.name, "")
    if len(baseline) != 5 or not baseline.replace(".", "0", 1).isdigit():
        raise FMError(f"{place.name} has no baseline such as 03.01 in the table of baselines")
    return Task(place, (lon, lat), baseline, 0 if baseline >= "04.00" else OFFSET)


def _files(task: Task) -> list[str]:
    return [task.place.file]


def _sample(task: Task) -> Sample:
    place = task.place
    if place.size < SMALLEST:
        raise Skip(f"a file of less than {SMALLEST} bytes", place.name)
    data, header = raster_io.read_all(place.raster)
    if data.shape != (len(ORDER), SIDE, SIDE) or data.dtype != np.uint16:
        raise FMError(
            f"{place}: {data.dtype} {data.shape}, expected uint16 {(len(ORDER), SIDE, SIDE)}"
        )
    if any(value not in (None, 0) for value in header.nodata):
        raise FMError(f"{place}: states no-data {header.nodata[0]:g}, expected 0")
    apart = float(great_circle_m(np.array(header.lonlat), np.array(task.lonlat)))
    if apart > APART_M:
        raise FMError(f"{place}: its centre lies {apart:.0f} m from its place in index.csv")
    empty = data == raster_io.NO_DATA
    if empty.all():
        raise Skip("no pixel with data", place.name)
    if task.add:
        if int(data.max()) + task.add > np.iinfo(np.uint16).max:
            raise FMError(f"{place}: {data.max()} and the offset do not fit into uint16")
        data = np.where(empty, data, data + np.uint16(task.add))
    sensor = sensors.sensor("sentinel2-l2a")
    order = [ORDER.index(band.name) for band in sensor.bands]
    return Sample(
        key=Path(place.name).stem,
        arrays={MODALITY: np.ascontiguousarray(data[order])},
        lonlat=task.lonlat,
        labels={} if task.baseline is None else {"baseline": task.baseline},
        crs=header.crs,
        transform=header.transform,
        valid_fraction=None,
    )
