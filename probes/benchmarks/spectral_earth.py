"""The map and label tasks of SpectralEarth (Braham et al., arXiv 2408.08447).

Patches of 128 px of 30 m: EnMAP L2A (int16, reflectance times 10,000, the 202 bands that carry
data), DESIS (235 bands) and EO-1 Hyperion (198). Folders, lists, codes and their order are those of
the authors' repository (`AABNassim/spectral_earth`, 5084a29): `TASK/{enmap,desis,eo1}/ID/SCENE.tif`
beside `TASK/MASK/ID/SCENE.tif`, lists in `splits/TASK/`. Codes that are not asked for do not count,
as there.

The published lists are drawn patch by patch: 98 to 100 % of the test patches are cut from scenes
(the file's own number; neighbouring patches share it) that train or val also have. They keep their
name with `-original`; the names without it deal whole scenes.

The authors score maps with micro averages: their accuracy is `oa` here, their IoU is
oa / (2 - oa). The band list beside their code says that the second run of dropped bands is 145-151
of the 224; their own band means say 160-166 (`probes.benchmarks.spectra`), which is given here.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from fm.errors import FMError
from fm.sensors import sensor
from fm.sensors.enmap import NO_DATA, bands_202
from probes.benchmarks import legends, spectra
from probes.benchmarks.coded_maps import CodedMaps
from probes.benchmarks.declare import Array, Check, Declaration, Holdout, Listing, Window
from probes.benchmarks.files import Files, read_image, read_lines
from shards.sources import corine
from shards.sources.bigearthnet import CLASSES as CLASSES_19

NAME = re.compile(r"\d{7}/(\d{5})\.tif")
SIDE = 128
BLOCKED = Holdout("all", {"test": 0.15, "val": 0.1, "train": 0.75})
"""The authors' shares."""
VERIFIED = "fixtures only (the authors' own classes open them alike; the lists are the real ones)"


class AsNumbers(Files):
    """Images whose stored type nobody states, as float32: their numbers are uncalibrated anyway."""

    def image(self, place: int, array: Array, date: int, window: Window | None) -> np.ndarray:
        """Read the bands of an array in file order."""
        return super().image(place, array, date, window).astype(np.float32)


def _names(table: str) -> tuple[str, ...]:
    return tuple(band.name for band in sensor(table).bands)


ENMAP = Array(
    "enmap_30",
    "enmap-l2a",
    tuple(band.name for band in bands_202()),
    "int16",
    (SIDE, SIDE),
    30.0,
    source="enmap",
    nodata=NO_DATA,
)
DESIS = Array(
    "desis_30", "desis-l2a", _names("desis-l2a"), "float32", (SIDE, SIDE), 30.0, source="desis"
)
EO1 = Array(
    *("hyperion_30", "eo1-hyperion", _names("eo1-hyperion"), "float32", (SIDE, SIDE), 30.0),
    source="eo1",
)
CHECKS: dict[str, tuple[Check, ...]] = {
    "enmap": spectra.ENMAP,
    "desis": spectra.DESIS,
    "eo1": spectra.HYPERION,
}


@dataclass(frozen=True)
class Product:
    """A kind of mask: its folder, the codes that are classes, their names, and the whole legend."""

    folder: str
    codes: tuple[int, ...]
    classes: tuple[str, ...]
    legend: frozenset[int] | None = None


def _of_legend(folder: str, legend: Mapping[int, str], codes: tuple[int, ...]) -> Product:
    return Product(folder, codes, tuple(legend[c] for c in codes), frozenset(legend))


def _of_codes(folder: str, word: str, codes: tuple[int, ...]) -> Product:
    """A legend whose names are not published with the masks."""
    return Product(folder, codes, tuple(f"{word} {c}" for c in codes))


# fmt: off
ENMAP_CDL = _of_legend(
    "cdl", legends.CDL, (1, 2, 3, 4, 5, 6, 45, 54, 69, 72, 75, 76, 204, 210)
)
DESIS_CDL = _of_legend(
    "cdl", legends.CDL, (1, 2, 3, 5, 42, 43, 49, 54, 56, 68, 69, 75, 76, 204)
)
EO1_CDL = _of_legend("cdl", legends.CDL, (1, 2, 3, 4, 5, 6, 41, 42, 43, 54, 69, 75, 76, 204))
NLCD = _of_legend(
    "nlcd", legends.NLCD, (11, 21, 22, 23, 24, 31, 41, 42, 43, 52, 71, 81, 82, 90, 95)
)
EUROCROPS = _of_codes("eurocrops", "HCAT", (
    3301090205, 3301010600, 3301090303, 3301010800, 3301090301, 3303060000, 3303030600, 3303050000,
    3303030100, 3301060500, 3301060300, 3303010000, 3301020000, 3301160000, 3301029900,
))
BDFORET = _of_codes("bdforet", "BD Foret", (1, 2, 3, 4, 5, 7, 9, 10, 11, 12, 14, 16))
BNETD = _of_codes("bnetd", "BNETD", (1, 2, 3, 6, 9, 10, 13, 15, 16, 21))
TREEMAP = _of_codes("treemap", "forest type", (
    184, 185, 221, 924, 105, 503, 520, 706, 801, 201, 264, 266, 281, 301, 901, 406, 923, 142, 161,
    602, 607, 608, 267, 371,
))
# fmt: on


def _lists(folder: Path, task: str) -> tuple[list[str], list[str], list[str]]:
    """Names, published split and scene of every patch."""
    ids: list[str] = []
    split: list[str] = []
    scenes: list[str] = []
    for part in ("train", "val", "test"):
        path = folder / "splits" / task / f"{part}.txt"
        for line in read_lines(path):
            found = NAME.fullmatch(line)
            if found is None:
                raise FMError(f"{path}: {line!r} is no patch, such as 0000823/04138.tif")
            ids.append(line)
            split.append(part)
            scenes.append(found[1])
    return ids, split, scenes


def _paths(folder: Path, task: str, ids: list[str], kind: str) -> Callable[[int], Path]:
    """Find the files of one kind; all have to be there."""
    home = folder / task / kind
    missing = [name for name in ids if not (home / name).is_file()]
    if missing:
        more = f" and {len(missing) - 1} more of the lists" if len(missing) > 1 else ""
        raise FMError(f"{home}: no {missing[0]}{more}; the download is incomplete")
    return lambda i: home / ids[i]


def _place(path: Path) -> tuple[float, float]:
    from shards.sources.raster_io import header

    return header(path).lonlat


def scan(folder: Path, task: str, array: Array, product: Product) -> Listing:
    """List the patches of a task with a map each."""
    ids, split, scenes = _lists(folder, task)
    image = _paths(folder, task, ids, array.source)
    mask = CodedMaps(_paths(folder, task, ids, product.folder), product.codes, product.legend)
    mask.look(len(ids), folder / task / product.folder)
    reader = Files if array.source == "enmap" else AsNumbers
    return Listing(
        ids=ids,
        split=split,
        source=reader(lambda i, array, date: image(i)),
        mask=mask,
        groups=scenes,
        lonlat=lambda i: _place(image(i)),
    )


def scan_labels(folder: Path, task: str) -> Listing:
    """List the patches of EnMAP-CORINE; a label is a class that any pixel of the mask has."""
    ids, split, scenes = _lists(folder, task)
    image = _paths(folder, task, ids, "enmap")
    mask = _paths(folder, task, ids, "corine")
    table = {code: number for code, number in corine.code_table(True).items() if number is not None}
    targets = np.zeros((len(ids), len(CLASSES_19)), bool)
    for i in range(len(ids)):
        for code in np.unique(read_image(mask(i))).tolist():
            if int(code) in table:
                targets[i, table[int(code)]] = True
    empty = int((~targets.any(1)).sum())
    if empty == len(ids):
        raise FMError(f"{folder / task / 'corine'}: no mask holds a code of CORINE's level 3")
    return Listing(
        ids=ids,
        split=split,
        source=Files(lambda i, array, date: image(i)),
        targets=targets,
        groups=scenes,
        lonlat=lambda i: _place(image(i)),
        notes=(f"{empty} patches have none of the 19 labels",) if empty else (),
    )


def _declare(
    name: str,
    help: str,
    array: Array,
    scan: Callable[[Path], Listing],
    classes: tuple[str, ...],
    sizes: tuple[int, int, int],
    shared: int,
    layout: str,
    task: Literal["segmentation", "multilabel"] = "segmentation",
) -> tuple[Declaration, Declaration]:
    """The task with whole scenes dealt out, and with the published lists.

    `sizes` are those of the published train, val and test lists; `shared` counts the test patches
    whose scene is in the published train or val list.
    """

    def one(suffix: str, split: str, leaks: str, holdout: Holdout | None) -> Declaration:
        return Declaration(
            name=name + suffix,
            version=1,
            help=help,
            task=task,
            primary="oa" if task == "segmentation" else "map_micro",
            classes=classes,
            arrays=(array,),
            scan=scan,
            published=dict(zip(("train", "val", "test"), sizes, strict=True)),
            split=split,
            layout=layout,
            paper="Braham et al., arXiv 2408.08447",
            witness="",
            leaks=leaks,
            holdout=holdout,
            unit="scene",
            checks=CHECKS[array.source],
            verified=VERIFIED,
        )

    return (
        one(
            "",
            "whole scenes in train, val and test",
            "neighbouring scenes may touch across the split",
            BLOCKED,
        ),
        one(
            "-original",
            "the published lists",
            f"{shared} of {sizes[2]} test patches are cut from scenes of train or val, so scores "
            f"are high",
            None,
        ),
    )


def _maps(
    name: str,
    help: str,
    array: Array,
    product: Product,
    sizes: tuple[int, int, int],
    shared: int,
) -> tuple[Declaration, Declaration]:
    task = name.replace("-", "_")
    return _declare(
        name,
        help,
        array,
        partial(scan, task=task, array=array, product=product),
        product.classes,
        sizes,
        shared,
        f"{task}/{{{array.source},{product.folder}}}/ID/SCENE.tif and "
        f"splits/{task}/{{train,val,test}}.txt",
    )


DECLARATIONS = (
    *_maps("enmap-cdl", "14 crops of the USA", ENMAP, ENMAP_CDL, (1200, 160, 240), 235),
    *_maps("enmap-nlcd", "15 land covers of the USA", ENMAP, NLCD, (10125, 1350, 2025), 1979),
    *_declare(
        "enmap-corine",
        "19 labels of Europe",
        ENMAP,
        partial(scan_labels, task="enmap_corine"),
        CLASSES_19,
        (8250, 1100, 1650),
        1646,
        "enmap_corine/{enmap,corine}/ID/SCENE.tif and splits/enmap_corine/{train,val,test}.txt",
        "multilabel",
    ),
    *_maps("enmap-eurocrops", "15 crops of Europe", ENMAP, EUROCROPS, (1260, 180, 360), 359),
    *_maps("enmap-bdforet", "12 kinds of forest of France", ENMAP, BDFORET, (1912, 255, 383), 379),
    *_maps("enmap-bnetd", "10 land covers of Ivory Coast", ENMAP, BNETD, (1575, 210, 315), 314),
    *_maps("enmap-treemap", "24 forest types of the USA", ENMAP, TREEMAP, (7500, 1000, 1500), 1489),
    *_maps("desis-cdl", "14 crops of the USA, DESIS", DESIS, DESIS_CDL, (750, 100, 150), 150),
    *_maps("eo1-cdl", "14 crops of the USA, Hyperion", EO1, EO1_CDL, (357, 82, 111), 111),
)
