"""Hyperview (Nalepa et al., doi 10.1109/ICIP46576.2022.9897443) as SpectralEarth uses it.

Four soil parameters (P, K, Mg, pH) of 1,732 airborne patches of Polish fields, 150 bands, 2 m. The
challenge's own test has no public truth. SpectralEarth (arXiv 2408.08447, repository 5084a29) deals
the challenge's training patches to `train.csv` (1,385) and `val.csv` (347), patch by patch; its
table of sizes counts the heading lines too. Targets in the lists are standardised over all 1,732,
so the published error, relative to predicting zero, is close to 1 - R^2.

Patches have sizes of their own. As there, each is brought to 128 px (bicubic, corners aligned) and
the field's mask is not used. Nobody states the numbers' unit or type: they are given as float32.
"""

import csv
import os
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError
from fm.sensors import sensor
from probes.benchmarks import spectra
from probes.benchmarks.declare import Array, Declaration, Holdout, Listing, Window

TARGETS = ("P", "K", "Mg", "pH")
COLUMNS = ("sample_index", "company", "field", *TARGETS)
SIDE = 128
CUBE = Array(
    "hyperview_2",
    "hyperview",
    tuple(band.name for band in sensor("hyperview").bands),
    "float32",
    (SIDE, SIDE),
    2.0,
)


class Cubes:
    """Reads `data` of NPZ files, [150, H, W], and brings it to 128 pixels."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def image(self, place: int, array: Array, date: int, window: Window | None) -> np.ndarray:
        """Read one patch.

        Raises:
            FMError: no such file, no NPZ file, or `data` is not there or not of 150 bands.
        """
        path = self.paths[place]
        try:
            with np.load(path, allow_pickle=False) as file:
                cube = file["data"]
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:160]
            raise FMError(f"{path}: no patch with `data` that can be read ({reason})") from None
        if cube.ndim != 3 or len(cube) != len(array.file_bands):
            shape = " x ".join(map(str, cube.shape))
            raise FMError(f"{path}: `data` is {shape}, expected {len(array.file_bands)} bands")
        return _resized(cube.astype(np.float32))


def _resized(cube: NDArray[np.float32]) -> np.ndarray:
    import torch
    from torch.nn import functional

    made = functional.interpolate(
        torch.from_numpy(np.ascontiguousarray(cube))[None],
        size=(SIDE, SIDE),
        mode="bicubic",
        align_corners=True,
    )
    return made[0].numpy()


def _rows(path: Path) -> list[dict[str, str]]:
    """Rows of a list; every column that is read has to be there."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows, names = list(reader), reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FMError(f"{path}: this list cannot be read ({error})") from None
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise FMError(f"{path}: no column {missing[0]!r}; take the list of SpectralEarth")
    return rows


def _number(path: Path, row: dict[str, str], key: str) -> float:
    try:
        return float(row[key]) if row[key].strip() else float("nan")
    except ValueError:
        raise FMError(
            f"{path}: sample {row['sample_index']}: {key} is {row[key]!r}, no number"
        ) from None


def scan(folder: Path, test: str) -> Listing:
    """List the patches of both lists.

    Args:
        folder: holds `hyperview/images` and `splits/hyperview`.
        test: what samples of `val.csv` are.
    """
    home = folder / "hyperview" / "images"
    ids: list[str] = []
    split: list[str] = []
    groups: list[str] = []
    targets: list[list[float]] = []
    for name, part in (("train", "train"), ("val", test)):
        path = folder / "splits" / "hyperview" / f"{name}.csv"
        for row in _rows(path):
            ids.append(f"{int(_number(path, row, 'sample_index'))}.npz")
            split.append(part)
            groups.append(f"{row['company']}/{row['field']}")
            targets.append([_number(path, row, key) for key in TARGETS])
    if not home.is_dir():
        raise FMError(f"{home}: no such folder; it holds the patches N.npz")
    there = set(os.listdir(home))
    missing = [name for name in ids if name not in there]
    if missing:
        more = f" and {len(missing) - 1} more of the lists" if len(missing) > 1 else ""
        raise FMError(f"{home}: no {missing[0]}{more}; the download is incomplete")
    return Listing(
        ids=ids,
        split=split,
        source=Cubes([home / name for name in ids]),
        targets=np.array(targets, np.float64),
        groups=groups,
    )


def _declare(suffix: str, split: str, leaks: str, holdout: Holdout, part: str) -> Declaration:
    return Declaration(
        name=f"hyperview{suffix}",
        version=1,
        help="four soil parameters of fields, 150 airborne bands, 128 px",
        task="regression",
        primary="r2",
        classes=TARGETS,
        arrays=(CUBE,),
        scan=partial(scan, test=part),
        published={"train": 1385, part: 347} if part != "train" else {"all": 1732},
        split=split,
        layout="hyperview/images/N.npz and splits/hyperview/{train,val}.csv",
        paper="Nalepa et al., doi 10.1109/ICIP46576.2022.9897443; Braham et al., arXiv 2408.08447",
        witness="",
        leaks=leaks,
        holdout=holdout,
        unit="block",
        checks=spectra.HYPERVIEW,
        verified="fixtures only (the authors' own class opens them alike; the lists are the real "
        "ones)",
    )


DECLARATIONS = (
    _declare(
        "",
        "whole fields in train, val and test",
        "",
        Holdout("all", {"test": 0.2, "val": 0.1, "train": 0.7}),
        "train",
    ),
    _declare(
        "-original",
        "test is the published val list, val is whole fields of train",
        "every patch of the published val list is of a field that train has patches of",
        Holdout("train", {"val": 0.125, "train": 0.875}),
        "test",
    ),
)
