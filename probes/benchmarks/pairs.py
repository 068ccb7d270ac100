"""Change between two dates: LEVIR-CD, LEVIR-CD+, OSCD, ChaBuD and CaBuAr.

LEVIR-CD (Chen and Shi, doi 10.3390/rs12101662) and LEVIR-CD+ (arXiv 2107.09244): buildings in
Google Earth pictures of 1024 px of 0.5 m, cut into 256. OSCD (Daudt et al., doi
10.1109/IGARSS.2018.8518015): 24 city pairs of Sentinel-2 Level-1C, 13 bands resampled and
registered to the 10 m grid by the authors (`imgs_1_rect`, `imgs_2_rect`), cut into 64. ChaBuD and
CaBuAr (Cambrin et al., doi 10.1109/MGRS.2023.3292467): burned forest in California, 12 bands of
Sentinel-2 Level-2A before and after, 512 px.

The positive class is 1, `change`; metrics are of one confusion matrix over all pixels.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError
from probes.benchmarks import signatures
from probes.benchmarks.declare import Array, Declaration, Holdout, Listing, Window
from probes.benchmarks.files import (
    Files,
    Hdf5,
    MaskFiles,
    all_there,
    names_in,
    open_hdf5,
    picture_size,
)

L1C = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A"),
    *("B09", "B10", "B11", "B12"),
)
L2A = tuple(band for band in L1C if band != "B10")
ONERA = "Onera Satellite Change Detection dataset - {}"


def changed(stored: np.ndarray, path: str) -> NDArray[np.int64]:
    """Anything above 0 is change; the files hold 255."""
    del path
    return (stored[0] > 0).astype(np.int64)


def scan_levir(folder: Path, plus: bool) -> Listing:
    """List the pairs: `A`, `B`, `label`, of LEVIR-CD+ in a folder a split."""
    homes: list[tuple[Path, str]] = []
    split: list[str] = []
    for part in ("train", "test") if plus else ("train", "val", "test"):
        root = folder / part if plus else folder
        names = [n for n in names_in(root / "A", ".png") if plus or n.startswith(part)]
        for other in ("B", "label"):
            all_there(root / other, names, set(names_in(root / other, ".png")))
        homes += [(root, name) for name in names]
        split += [part] * len(names)
    return Listing(
        ids=[
            f"{part}/{name}" if plus else name for (_, name), part in zip(homes, split, strict=True)
        ],
        split=split,
        source=Files(lambda i, array, date: homes[i][0] / "AB"[date] / homes[i][1]),
        mask=MaskFiles(lambda i: homes[i][0] / "label" / homes[i][1], changed),
    )


def scan_oscd(folder: Path) -> Listing:
    """List the cities that have labels, in the folders of train and of test."""
    images = folder / ONERA.format("Images")
    homes: list[Path] = []
    split: list[str] = []
    for part in ("train", "test"):
        root = folder / ONERA.format(f"{part.capitalize()} Labels")
        if not root.is_dir():
            raise FMError(f"{root}: no such folder; unpack the three published archives there")
        cities = sorted(path for path in root.iterdir() if (path / "cm/cm.png").is_file())
        homes += cities
        split += [part] * len(cities)

    files: dict[tuple[int, int], list[Path]] = {}
    for i, home in enumerate(homes):
        for date in (0, 1):
            rect = images / home.name / f"imgs_{date + 1}_rect"
            found = {name[:-4].rpartition("_")[2]: name for name in names_in(rect, ".tif")}
            all_there(rect, L1C, found)
            files[i, date] = [rect / found[band] for band in L1C]
    masks = [home / "cm/cm.png" for home in homes]
    return Listing(
        ids=[home.name for home in homes],
        split=split,
        source=Files(lambda i, array, date: files[i, date]),
        mask=MaskFiles(lambda i: masks[i], changed),
        groups=[home.name for home in homes],
        sizes=[picture_size(mask) for mask in masks],
    )


class _Fires:
    """Groups `pre_fire`, `post_fire`, `mask` of one or two HDF5 files, channels last."""

    def __init__(self, where: list[tuple[Hdf5, str]]) -> None:
        self._where = where

    def image(self, place: int, array: Array, date: int, window: Window | None) -> np.ndarray:
        file, key = self._where[place]
        return _first(np.asarray(file[f"{key}/{('pre_fire', 'post_fire')[date]}"]), window)

    def mask(self, place: int, window: Window | None) -> NDArray[np.int64]:
        """Read which pixels burned."""
        file, key = self._where[place]
        found = _first(np.asarray(file[f"{key}/mask"]), window)[0].astype(np.int64)
        if found.max(initial=0) > 1:
            raise FMError(f"{file.path}: {key}: its mask holds {int(found.max())}, expected 0 or 1")
        return found


def _first(data: np.ndarray, window: Window | None) -> np.ndarray:
    """Channels last to channels first, and the window."""
    data = np.moveaxis(data, -1, 0)
    if window is not None:
        row, col, height, width = window
        data = data[:, row : row + height, col : col + width]
    return np.ascontiguousarray(data)


def scan_fires(folder: Path, files: Mapping[str, tuple[str, str]]) -> Listing:
    """List the fires that have an image before; `files` to the split of fold 0 and of the rest."""
    where: list[tuple[Hdf5, str]] = []
    split: list[str] = []
    for name, (first, rest) in files.items():
        file = Hdf5(folder / name)
        with open_hdf5(folder / name) as handle:
            for key in sorted(handle):
                if "pre_fire" not in handle[key]:
                    continue
                if "fold" not in handle[key].attrs:
                    raise FMError(f"{folder / name}: {key} has no fold; take the published file")
                where.append((file, key))
                # folds are numbers, of the challenge's test a word
                split.append(first if str(handle[key].attrs["fold"]) == "0" else rest)
    source = _Fires(where)
    return Listing(
        ids=[f"{file.path.name}/{key}" for file, key in where],
        split=split,
        source=source,
        mask=source.mask,
        groups=[key.rpartition("_")[0] for _, key in where],
    )


def _levir(name: str, plus: bool, counts: dict[str, int], holdout: Holdout | None) -> Declaration:
    lists = "train, val and test" if not plus else "train and test; val from train"
    return Declaration(
        name=name,
        version=1,
        help="changed buildings, colour pictures of 0.5 m, windows of 256 px",
        task="change",
        primary="f1_positive",
        classes=("no change", "change"),
        arrays=(Array("rgb_0", "rgb", ("R", "G", "B"), "uint8", (1024, 1024), 0.5),),
        scan=partial(scan_levir, plus=plus),
        published=counts,
        split=f"the published {lists}",
        layout="{train,test}/{A,B,label}/N.png in LEVIR-CD+" if plus else "{A,B,label}/SPLIT_N.png",
        paper="Chen and Shi, doi 10.3390/rs12101662" + ("; arXiv 2107.09244" if plus else ""),
        witness="LEVIRCDPlus" if plus else "LEVIRCD",
        holdout=holdout,
        crop=256,
        checks=(signatures.eight_bits,),
    )


def _fires(
    name: str,
    help: str,
    files: Mapping[str, tuple[str, str]],
    counts: dict[str, int],
    holdout: Holdout | None,
) -> Declaration:
    challenge = len(files) == 1
    return Declaration(
        name=name,
        version=1,
        help=help,
        task="change",
        primary="iou_positive",
        classes=("no change", "burned"),
        arrays=(Array("s2l2a_20", "sentinel2-l2a", L2A, "uint16", (512, 512), 20.0),),
        scan=partial(scan_fires, files=files),
        published=counts,
        split=(
            "test is fold 0 (the challenge's validation), val is whole fires of folds 1 to 4"
            if challenge
            else "folds 1 to 4 in train, fold 0 in val, the challenge's hidden test in test"
        ),
        layout=" and ".join(files),
        paper="Cambrin et al., doi 10.1109/MGRS.2023.3292467",
        witness="ChaBuD" if challenge else "CaBuAr",
        leaks=(
            "all fires are in the forests of California; torchgeo states 10 m for ChaBuD and 20 m "
            "for CaBuAr, which are one file: 20 m is given"
        ),
        holdout=holdout,
        crop=256,
        unit="scene",
        checks=(signatures.reflectance, signatures.b8a_beside_b08),
    )


DECLARATIONS = (
    _levir("levir-cd", False, {"train": 445, "val": 64, "test": 128}, None),
    _levir(
        "levir-cd-plus",
        True,
        {"train": 637, "test": 348},
        Holdout("train", {"val": 0.2, "train": 0.8}, by="sample"),
    ),
    Declaration(
        name="oscd",
        version=1,
        help="urban change, 13 bands of Sentinel-2 L1C, windows of 64 px",
        task="change",
        primary="f1_positive",
        classes=("no change", "change"),
        arrays=(Array("s2l1c_10", "sentinel2-l1c", L1C, "uint16", None, 10.0),),
        scan=scan_oscd,
        published={"train": 14, "test": 10},
        split="the published cities; val is whole cities of train",
        layout=", ".join(
            f"{ONERA.format(part)}/" for part in ("Images", "Train Labels", "Test Labels")
        ),
        paper="Daudt et al., doi 10.1109/IGARSS.2018.8518015",
        witness="OSCD",
        leaks="val is three cities: choices on it are noisy",
        holdout=Holdout("train", {"val": 0.2, "train": 0.8}),
        crop=64,
        unit="scene",
        checks=signatures.S2_L1C,
    ),
    _fires(
        "chabud",
        "burned forest, 12 bands of Sentinel-2 L2A, windows of 256 px",
        {"train_eval.hdf5": ("test", "train")},
        {"train": 278, "test": 78},
        Holdout("train", {"val": 0.2, "train": 0.8}),
    ),
    _fires(
        "cabuar",
        "burned forest, 12 bands of Sentinel-2 L2A, windows of 256 px, with the hidden test",
        {"512x512.hdf5": ("val", "train"), "chabud_test.h5": ("test", "test")},
        {"train": 278, "val": 78, "test": 68},
        None,
    ),
)
