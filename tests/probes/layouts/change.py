"""Pairs of dates in miniature: LEVIR-CD, LEVIR-CD+, OSCD, ChaBuD, CaBuAr."""

from pathlib import Path

import h5py
import numpy as np

from tests.probes.layouts.scene import codes, colour, optical, write_lines, write_picture, write_tif

L1C = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A"),
    *("B09", "B10", "B11", "B12"),
)
L2A = tuple(band for band in L1C if band != "B10")
LEVIR_COUNTS = {"train": 2, "val": 1, "test": 1}
PLUS_COUNTS = {"train": 3, "test": 1}
OSCD_COUNTS = {"train": 5, "test": 2}
ONERA = "Onera Satellite Change Detection dataset - {}"


def _pair(root: Path, name: str, seed: int) -> None:
    for n, home in enumerate("AB"):
        data = colour(3, 1024, 1024, 10 * seed + n)
        write_picture(root / home / name, data)
    truth = 255 * (codes(9, 1024, 1024, seed) == 0).astype(np.uint8)
    write_picture(root / "label" / name, truth)


def write_levir(root: Path) -> Path:
    """One folder; the split is in the names."""
    n = 0
    for part, count in LEVIR_COUNTS.items():
        for k in range(count):
            _pair(root, f"{part}_{k + 1}.png", n)
            n += 1
    return root


def write_levir_plus(root: Path) -> Path:
    """A folder a split."""
    n = 0
    for part, count in PLUS_COUNTS.items():
        for _ in range(count):
            _pair(root / "LEVIR-CD+" / part, f"{part}_{n}.png", n)
            n += 1
    return root


def write_oscd(root: Path) -> Path:
    """Cities of sizes that are no multiple of the window, one TIFF a band."""
    n = 0
    for part, count in OSCD_COUNTS.items():
        for k in range(count):
            city, height, width = f"{part}city{k}", 70 + k, 130 + k
            home = root / ONERA.format("Images") / city
            for date in (1, 2):
                data = optical(L1C, height, width, 10 * n + date)
                for band, plane in zip(L1C, data, strict=True):
                    write_tif(home / f"imgs_{date}_rect/{band}.tif", plane[None], crs=None)
            write_lines(home / "dates.txt", ["date_1: 20161130", "date_2: 20170829"])
            truth = (codes(9, height, width, n) == 0).astype(np.uint8)
            write_picture(
                root / ONERA.format(f"{part.capitalize()} Labels") / city / "cm/cm.png", 255 * truth
            )
            n += 1
    return root


FIRES = {1: 2, 2: 1, 3: 1, 4: 1, 0: 2}
"""Fires a fold in the fixture."""


def write_fires(root: Path, name: str, hidden: str | None = None) -> Path:
    """One file of folds 0 to 4 with some fires that have no image before; perhaps a hidden test."""
    root.mkdir(parents=True, exist_ok=True)
    folds = [fold for fold, count in FIRES.items() for _ in range(count)]
    _fires(root / name, [*folds, 3], seed=0)
    if hidden is not None:
        _fires(root / hidden, ["chabud"] * 2, seed=50)
    return root


def _fires(path: Path, folds: list, seed: int) -> None:
    with h5py.File(path, "w") as file:
        for n, fold in enumerate(folds):
            group = file.create_group(f"fire-{seed}-{n // 2}_{n % 2}")
            group.attrs["fold"] = fold
            group["mask"] = (codes(9, 512, 512, n) == 0)[..., None].astype(np.uint16)
            post = optical(L2A, 512, 512, 100 + seed + n)
            group["post_fire"] = np.moveaxis(post, 0, -1)
            if fold != 3 or n < len(folds) - 1:
                group["pre_fire"] = np.moveaxis(optical(L2A, 512, 512, seed + n), 0, -1)
