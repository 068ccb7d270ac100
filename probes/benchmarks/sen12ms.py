"""SEN12MS (Schmitt et al., doi 10.5194/isprs-annals-IV-2-W7-153-2019) and DFC2020: land cover.

256 px of Sentinel-1 (VV, VH in dB) and 13 bands of Sentinel-2 Level-1C, all on one grid of 10 m
(modality `s2l1c_10`). SEN12MS' map is MODIS' IGBP legend of 17 classes on 500 m ground, joined to
the ten classes of the DFC2020 scheme as its authors do; DFC2020 has the ten classes drawn at 10 m.

`sen12ms-reduced` takes B02, B03, B04, B08, B11, B12: SEN12MS' reduced set as its toolbox documents
it. (torchgeo's set of that name takes B10 and B11.)

The published lists of SEN12MS keep whole scenes apart (26 scenes in test); validation holds out
whole scenes of train. A few scenes have the same place in two seasons, which no list tells.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from fm.errors import FMError
from probes.benchmarks import signatures
from probes.benchmarks.declare import Array, Declaration, Holdout, Listing
from probes.benchmarks.files import Files, MaskFiles, numbers, read_lines

OPTICAL = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A"),
    *("B09", "B10", "B11", "B12"),
)
REDUCED = ("B02", "B03", "B04", "B08", "B11", "B12")
CLASSES = (
    *("Forest", "Shrubland", "Savanna", "Grassland", "Wetlands"),
    *("Croplands", "Urban/Built-up", "Snow/Ice", "Barren", "Water"),
)
IGBP = (*(0,) * 5, *(1,) * 2, *(2,) * 2, 3, 4, 5, 6, 5, 7, 8, 9)
"""Class of each IGBP number from 1: 1-5 forests, 6-7 shrublands, 8-9 savannas, 10 grassland, 11
wetland, 12 cropland, 13 urban, 14 cropland mosaic, 15 snow, 16 barren, 17 water."""
SEASONS = ("ROIs1158_spring", "ROIs1868_summer", "ROIs1970_fall", "ROIs2017_winter")
NAME = re.compile(r"(ROIs\d+_[a-z]+)_s2_(\d+)_p\d+\.tif")
S2 = Array("s2l1c_10", "sentinel2-l1c", OPTICAL, "uint16", (256, 256), 10.0, source="s2")
S1 = Array("s1grd_10", "sentinel1-grd", ("VV", "VH"), "float32", (256, 256), 10.0, source="s1")
FEW = Array("s2l1c_10", "sentinel2-l1c", OPTICAL, "uint16", (256, 256), 10.0, REDUCED, "s2")
S1_64 = Array("s1grd_10", "sentinel1-grd", ("VV", "VH"), "float64", (256, 256), 10.0, source="s1")


def scan(folder: Path) -> Listing:
    """List the patches of `train_list.txt` and `test_list.txt`."""
    ids: list[str] = []
    split: list[str] = []
    scenes: list[str] = []
    for part in ("train", "test"):
        path = folder / f"{part}_list.txt"
        for line in read_lines(path):
            found = NAME.fullmatch(line)
            if found is None or found[1] not in SEASONS:
                raise FMError(f"{path}: {line!r} is no patch, such as ROIs1158_spring_s2_1_p30.tif")
            ids.append(line)
            split.append(part)
            scenes.append(f"{found[1]}_{found[2]}")
    for scene in sorted(set(scenes)):
        season, _, number = scene.rpartition("_")
        for kind in ("s1", "s2", "lc"):
            if not (folder / season / f"{kind}_{number}").is_dir():
                raise FMError(f"{folder}: no {season}/{kind}_{number}; the download is incomplete")

    def path_of(i: int, kind: str) -> Path:
        season, _, number = scenes[i].rpartition("_")
        return folder / season / f"{kind}_{number}" / ids[i].replace("_s2_", f"_{kind}_")

    table = {0: -1, 255: -1} | dict(enumerate(IGBP, start=1))
    return Listing(
        ids=ids,
        split=split,
        source=Files(lambda i, array, date: path_of(i, array.source)),
        mask=MaskFiles(lambda i: path_of(i, "lc"), numbers(table)),
        groups=scenes,
        lonlat=lambda i: _place(path_of(i, "s2")),
    )


def _place(path: Path) -> tuple[float, float]:
    from shards.sources.raster_io import header

    return header(path).lonlat


def scan_dfc2020(folder: Path) -> Listing:
    """List the patches of Copernicus-Bench's `dfc-{train,val,test}-new.csv`."""
    ids: list[str] = []
    split: list[str] = []
    for part in ("train", "val", "test"):
        lines = [line.partition(",")[0] for line in read_lines(folder / f"dfc-{part}-new.csv")]
        ids += lines
        split += [part] * len(lines)
    table = {0: -1} | {stored: stored - 1 for stored in range(1, 11)}
    return Listing(
        ids=ids,
        split=split,
        source=Files(
            lambda i, array, date: folder / array.source / ids[i].replace("dfc", array.source)
        ),
        mask=MaskFiles(lambda i: folder / "dfc" / ids[i], numbers(table)),
    )


def _declare(
    name: str, help: str, arrays: tuple[Array, ...], published: Mapping[str, int]
) -> Declaration:
    small = name.startswith("dfc2020")
    optical = [array for array in arrays if array.source == "s2"]
    checks = (
        () if not optical else (signatures.reflectance,) if optical[0].take else signatures.S2_L1C
    )
    radar = (signatures.decibels,) if len(optical) < len(arrays) else ()
    return Declaration(
        name=name,
        version=1,
        help=help,
        task="segmentation",
        primary="miou",
        classes=CLASSES,
        arrays=arrays,
        scan=scan_dfc2020 if small else partial(scan),
        published=published,
        split="Copernicus-Bench's" if small else "the published scenes; val from train by scene",
        layout=(
            "s1/, s2/, dfc/ and dfc-{train,val,test}-new.csv in dfc2020_s1s2"
            if small
            else "ROIsNNNN_SEASON/{s1,s2,lc}_SCENE/ and {train,test}_list.txt"
        ),
        paper=(
            "DFC2020; Copernicus-Bench, arXiv 2503.11849"
            if small
            else "Schmitt et al., doi 10.5194/isprs-annals-IV-2-W7-153-2019"
        ),
        witness=(f"CopernicusBenchDFC2020{'S2' if optical else 'S1'}" if small else "SEN12MS"),
        leaks=(
            "patches of one scene are in train and test; files tell no places"
            if small
            else "the truth is MODIS at 500 m: 10 m outlines cannot be right"
        ),
        holdout=None if small else Holdout("train", {"val": 0.1, "train": 0.9}),
        unit="image" if small else "scene",
        checks=(*checks, *radar),
    )


LISTS = {"train": 162556, "test": 18106}
SMALL = {"train": 3156, "val": 986, "test": 986}
DECLARATIONS = (
    _declare("sen12ms-s2", "10 land covers (MODIS), 13 bands of Sentinel-2, 256 px", (S2,), LISTS),
    _declare("sen12ms-reduced", "10 land covers (MODIS), 6 bands, 256 px", (FEW,), LISTS),
    _declare("sen12ms-s1", "10 land covers (MODIS), Sentinel-1, 256 px", (S1,), LISTS),
    _declare("sen12ms-s1s2", "10 land covers (MODIS), both sensors, 256 px", (S1, S2), LISTS),
    _declare("dfc2020-s2", "10 land covers, 13 bands of Sentinel-2, 256 px", (S2,), SMALL),
    _declare("dfc2020-s1", "10 land covers, Sentinel-1, 256 px", (S1_64,), SMALL),
)
