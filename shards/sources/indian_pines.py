"""Indian Pines (AVIRIS, June 1992) of the pip package `tensorly`, cut into labelled blocks.

Baumgardner, Biehl and Landgrebe, "220 Band AVIRIS Hyperspectral Image Data Set: June 12, 1992
Indian Pine Test Site 3" (Purdue University, doi 10.4231/R7RX991C): 145 x 145 pixels of about 20
m, 200 of 220 bands (water absorption removed), 16 classes. The files have neither coordinates
nor wavelengths; the wavelengths are the nominal ones of `fm.sensors.aviris`. The numbers are
uncalibrated (`dn`).

Blocks of 12 pixels, the ragged ones of the last row and column included, so that the scene can
be put together again. Each block belongs to one split (`shards.splits`).
"""

from argparse import ArgumentParser, Namespace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from fm import sensors
from fm.errors import FMError, UsageError
from shards.building.packages import Package, fetch
from shards.building.writer import Declared
from shards.format import LabelInfo
from shards.sample import Sample
from shards.seeing.overview import PIXELS_BY_CLASS
from shards.sources.base import Content
from shards.splits import SPLITS, block_split

HELP = "Indian Pines, hyperspectral and labelled, of the pip package tensorly (7 MB)"
EXAMPLE = "fm shards build indian-pines --out data/indian-pines --cache .cache"
SENSOR, MODALITY = "aviris-indian-pines", "aviris_20"
PACKAGE = Package(
    name="tensorly",
    version="0.10.0",
    sha256="90becb3d28023638ec60d19fbf8d87735b4ce1537fe3eb881897d69e107b882d",
    members=("tensorly/datasets/data/Indian_pines_*.npy",),
    licence="package BSD-3-Clause; data Purdue University, freely available",
)
CLASSES = (
    "unlabelled",
    "Alfalfa",
    "Corn-notill",
    "Corn-mintill",
    "Corn",
    "Grass-pasture",
    "Grass-trees",
    "Grass-pasture-mowed",
    "Hay-windrowed",
    "Oats",
    "Soybean-notill",
    "Soybean-mintill",
    "Soybean-clean",
    "Wheat",
    "Woods",
    "Buildings-Grass-Trees-Drives",
    "Stone-Steel-Towers",
)
"""The usual order of the ground truth's numbers."""
COUNTS = (46, 1428, 830, 237, 483, 730, 28, 478, 20, 972, 2455, 593, 205, 1265, 386, 93)
"""Labelled pixels of classes 1 to 16, checked when the file is opened."""
FOLDS = 4
RARE = 46
"""Classes with no more pixels than this are one connected field each and do not steer the split."""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--block", type=int, default=12, help="side of a block in pixels (default 12)"
    )
    parser.add_argument(
        "--fold",
        type=int,
        default=0,
        help="0, the benchmark's split (default); 1 to 3: its val blocks, a third of its train "
        "blocks as test, all else as train",
    )


def read(arguments: Namespace) -> Content:
    """Get the scene, check it and split its blocks."""
    folder = fetch(PACKAGE, Path(arguments.cache)) / "tensorly/datasets/data"
    cube, truth = folder / "Indian_pines_corrected.npy", folder / "Indian_pines_gt.npy"
    if (found := _load(cube).shape) != (145, 145, 200):
        raise FMError(f"{cube}: shape {found}, expected (145, 145, 200)")
    counts = np.bincount(_load(truth).ravel(), minlength=len(CLASSES))
    if tuple(counts[1:].tolist()) != COUNTS:
        raise FMError(f"{truth}: the labels count {counts[1:].tolist()}, expected {list(COUNTS)}")
    return cut(
        cube,
        truth,
        block=arguments.block,
        fold=arguments.fold,
        provenance={
            "source": "indian-pines",
            "package": f"{PACKAGE.name}=={PACKAGE.version}",
            "sha256": PACKAGE.sha256,
        },
    )


@lru_cache(maxsize=2)
def _load(path: Path) -> np.ndarray:
    array: np.ndarray = np.load(path, allow_pickle=False)
    if array.dtype.kind not in "iu":
        raise FMError(f"{path}: {array.dtype} numbers, expected integers")
    return array


def cut(
    cube: Path, truth: Path, *, block: int, provenance: dict[str, object], fold: int = 0
) -> Content:
    """Cut a labelled scene into blocks; the provenance tells the pixels of each class by split.

    Args:
        cube: `.npy` of `[H, W, 200]` integers.
        truth: `.npy` of `[H, W]` class numbers, 0 unlabelled.
        block: side in pixels.
        provenance: goes into the description.
        fold: see `rotated`.
    """
    if not 0 <= fold < FOLDS:
        raise UsageError(f"--fold {fold}: give 0 to {FOLDS - 1}")
    labels = _load(truth)
    height, width = labels.shape
    if not 4 <= block <= min(height, width):
        raise UsageError(f"--block {block}: give 4 to {min(height, width)} pixels")
    corners = [(r, c) for r in range(0, height, block) for c in range(0, width, block)]
    counts = np.stack(
        [
            np.bincount(labels[r : r + block, c : c + block].ravel(), minlength=len(CLASSES))
            for r, c in corners
        ]
    )
    spread = [k for k in range(1, len(CLASSES)) if counts[:, k].sum() > RARE]
    split = block_split(counts[:, spread])
    if fold:
        split = rotated(split, counts[:, spread], fold)
    pixels = {name: counts[split == k].sum(axis=0).tolist() for k, name in enumerate(SPLITS)}
    bands = tuple(band.name for band in sensors.sensor(SENSOR).bands)
    return Content(
        name=f"indian-pines-fold{fold}" if fold else "indian-pines",
        tasks=[(*corner, SPLITS[part]) for corner, part in zip(corners, split, strict=True)],
        make=partial(_block, cube, truth, block),
        modalities={MODALITY: Declared(SENSOR, bands)},
        labels={"land_cover": LabelInfo("land_cover", "mask", CLASSES, ignore=0, member="label")},
        provenance={
            **provenance,
            "block_px": block,
            "split": "shards.splits.block_split" + (f", fold {fold}" if fold else ""),
            PIXELS_BY_CLASS: {"land_cover": pixels},
        },
        licence=PACKAGE.licence,
    )


def rotated(split: np.ndarray, counts: np.ndarray, fold: int) -> np.ndarray:
    """Test on other blocks: every block that is not for validation is tested in one fold.

    Args:
        split: `[blocks]` of fold 0.
        counts: `[blocks, classes]` labelled pixels.
        fold: 1 to 3, which third of fold 0's training blocks is the test.

    Returns:
        `[blocks]` with the validation blocks of fold 0.
    """
    train, val, test = range(3)
    own = np.flatnonzero(split == train)
    seen = counts[own].sum(axis=0) > 0
    third = block_split(counts[own][:, seen], (1 / 3, 1 / 3, 1 / 3))
    made = np.where(split == val, val, train)
    made[own[third == fold - 1]] = test
    return made


def _block(cube: Path, truth: Path, block: int, task: tuple[int, int, str]) -> Sample:
    row, column, split = task
    box = (slice(row, row + block), slice(column, column + block))
    label = _load(truth)[box].astype(np.uint8)
    return Sample(
        key=f"indian-pines_{row:03d}_{column:03d}",
        arrays={MODALITY: np.moveaxis(_load(cube)[box], -1, 0).astype(np.uint16), "label": label},
        split=split,
        window=(row, column, *label.shape),
    )
