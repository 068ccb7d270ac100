"""Copernicus-Bench (Wang et al., arXiv 2503.11849): three of its sets that are not elsewhere here.

BEN-S1 and BEN-S2 are 5 % of BigEarthNet v2 with all bands in one file, the 20 and 60 m bands
brought to 10 m (modality `s2l2a_10`). LCZ-S2 is a subset of So2Sat in its own lists. Cloud-S2 is
CloudSEN12 in 512 px: Level-1C, 13 bands on 10 m.

Its Sentinel-3 sets are in `copernicus_s3` and `copernicus_s3_maps`, Flood-S1 is in
`copernicus_flood`, EuroSAT-S1 and S2 are in `eurosat`, DFC2020-S1 and S2 in `sen12ms`. The
Sentinel-5P sets are left out (`left_out`).
"""

import csv
from functools import partial
from pathlib import Path

import numpy as np

from fm.errors import FMError
from probes.benchmarks import signatures, so2sat
from probes.benchmarks.declare import Array, Declaration, Listing
from probes.benchmarks.files import Files, MaskFiles, numbers, read_lines
from shards.sources.bigearthnet import CLASSES as LAND_COVER
from shards.sources.raster_io import header

L1C = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A"),
    *("B09", "B10", "B11", "B12"),
)
L2A = tuple(band for band in L1C if band != "B10")
SPLITS = ("train", "val", "test")
CLOUDS = ("clear", "thick cloud", "thin cloud", "cloud shadow")


def scan_labels(folder: Path, column: int, home: str) -> Listing:
    """List `multilabel-{train,val,test}.csv`: paths of S1 and S2, then a 0 or 1 a label."""
    ids: list[str] = []
    split: list[str] = []
    labels: list[list[bool]] = []
    for part in SPLITS:
        path = folder / f"multilabel-{part}.csv"
        read_lines(path)  # says what is wrong with a list that is not there
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))[1:]
        for row in rows:
            if len(row) != 2 + len(LAND_COVER) or set(row[2:]) - {"0", "1"}:
                raise FMError(f"{path}: {row[0]!r}: expected two paths and 19 of 0 and 1")
            ids.append(row[column])
            split.append(part)
            labels.append([value == "1" for value in row[2:]])

    def path_of(i: int) -> Path:
        return folder / home / ids[i]

    return Listing(
        ids=ids,
        split=split,
        source=Files(lambda i, array, date: path_of(i)),
        targets=np.array(labels, bool),
        lonlat=lambda i: header(path_of(i)).lonlat,
    )


def scan_clouds(folder: Path) -> Listing:
    """List `{train,val,test}.csv`: a name a line."""
    ids: list[str] = []
    split: list[str] = []
    for part in SPLITS:
        lines = read_lines(folder / f"{part}.csv")
        ids += lines
        split += [part] * len(lines)
    return Listing(
        ids=ids,
        split=split,
        source=Files(lambda i, array, date: folder / "s2_toa" / f"{ids[i]}.tif"),
        mask=MaskFiles(
            lambda i: folder / "cloud" / f"{ids[i]}.tif", numbers({n: n for n in range(4)})
        ),
        groups=[name.partition("__")[0] for name in ids],
        lonlat=lambda i: header(folder / "s2_toa" / f"{ids[i]}.tif").lonlat,
    )


def _labels(name: str, help: str, array: Array, column: int, witness: str) -> Declaration:
    home = "BigEarthNet-S2-5%" if column else "BigEarthNet-S1-5%"
    return Declaration(
        name=name,
        version=1,
        help=help,
        task="multilabel",
        primary="map_micro",
        classes=LAND_COVER,
        arrays=(array,),
        scan=partial(scan_labels, column=column, home=home),
        published={"train": 11894, "val": 6117, "test": 5991},
        split="Copernicus-Bench's lists, 5 % of BigEarthNet v2's",
        layout=f"{home}/ and multilabel-{{train,val,test}}.csv in bigearthnet_s1s2",
        paper="Wang et al., arXiv 2503.11849; Clasen et al., arXiv 2407.03653",
        witness=witness,
        leaks="a subset of reben-s2 and reben-s1: do not count both",
        checks=signatures.S2_L2A if column else (signatures.decibels,),
    )


_ZONES: dict[str, str] = {part: f"lcz_{part}.h5" for part in SPLITS}


def scan_zones(folder: Path) -> Listing:
    """List `lcz_{train,val,test}.h5`, written as So2Sat's own files are."""
    return so2sat.scan(folder, _ZONES, cities=False)


DECLARATIONS = (
    _labels(
        "copernicus-ben-s2",
        "19 labels, 5 % of BigEarthNet v2, 12 bands on 10 m, 120 px",
        Array("s2l2a_10", "sentinel2-l2a", L2A, "uint16", (120, 120), 10.0),
        1,
        "CopernicusBenchBigEarthNetS2",
    ),
    _labels(
        "copernicus-ben-s1",
        "19 labels, 5 % of BigEarthNet v2, Sentinel-1, 120 px",
        Array("s1grd_10", "sentinel1-grd", ("VV", "VH"), "float32", (120, 120), 10.0),
        0,
        "CopernicusBenchBigEarthNetS1",
    ),
    Declaration(
        name="copernicus-lcz-s2",
        version=1,
        help="17 local climate zones, subset of So2Sat, 10 bands, 32 px",
        task="class",
        primary="oa",
        classes=so2sat.CLASSES,
        arrays=(
            Array(
                "s2l1c_10",
                "sentinel2-l1c",
                so2sat.OPTICAL,
                "float32",
                (32, 32),
                10.0,
                source="sen2",
            ),
        ),
        scan=scan_zones,
        published={"train": 15000, "val": 5000, "test": 5000},
        split="Copernicus-Bench's",
        layout="lcz_{train,val,test}.h5",
        paper="Wang et al., arXiv 2503.11849; Zhu et al., doi 10.1109/MGRS.2020.2964708",
        witness="CopernicusBenchLCZS2",
        leaks="a subset of So2Sat: do not count both",
        checks=(signatures.reflectance, signatures.b8a_beside_b08),
    ),
    Declaration(
        name="copernicus-cloud-s2",
        version=1,
        help="clouds and their shadows, 13 bands of Sentinel-2 L1C, windows of 256 px",
        task="segmentation",
        primary="miou",
        classes=CLOUDS,
        arrays=(Array("s2l1c_10", "sentinel2-l1c", L1C, "uint16", (512, 512), 10.0),),
        scan=scan_clouds,
        published={"train": 1699, "val": 567, "test": 551},
        split="Copernicus-Bench's",
        layout="s2_toa/, cloud/ and {train,val,test}.csv in cloud_s2",
        paper="Wang et al., arXiv 2503.11849; Aybar et al., doi 10.1016/j.dib.2024.110852",
        witness="CopernicusBenchCloudS2",
        leaks="dates of one place may be in train and test",
        crop=256,
        unit="scene",
        checks=(signatures.reflectance, signatures.b8a_beside_b08),
    ),
)
