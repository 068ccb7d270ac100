"""An airborne picture with trees drawn by hand, of the pip package `deepforest`.

A crop of the NEON colour mosaic of Yellowstone (2019, 2299 x 2472 pixels of 0.1 m) with a box
around each of 574 trees, living and dead: training data of DeepForest (Weinstein et al. 2019,
Remote Sensing 11, 1309). Means of 4 x 4 pixels, 574 x 618 of 0.4 m, are stored, rounded. The file
has no coordinates of its own.

A box says where a crown is, not its outline: a pixel whose centre lies in the ellipse inside a box
is `tree`, one outside all boxes is `ground`, the corners of boxes are unlabelled. Blocks of 32
pixels belong to one split each (`shards.splits`), chosen by labels alone.
"""

import warnings
from argparse import ArgumentParser, Namespace
from functools import lru_cache, partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from fm.errors import FMError, UsageError
from shards.building.packages import Package, fetch
from shards.building.writer import Declared
from shards.format import LabelInfo
from shards.sample import Sample
from shards.seeing.overview import PIXELS_BY_CLASS
from shards.sources.base import Content
from shards.splits import SPLITS, block_split

HELP = "airborne picture with trees, one scene, of the pip package deepforest (21 MB)"
EXAMPLE = "fm shards build neon-trees --out data/neon-trees --cache .cache"
SENSOR, MODALITY, BANDS = "neon-rgb", "neonrgb_0", ("R", "G", "B")
STEM = "2019_YELL_2_528000_4978000_image_crop2"
PACKAGE = Package(
    name="deepforest",
    version="2.1.0",
    sha256="8c2798d8e9be7f0004b194fe207b76c1d9fff6e711b3db67b9508dcd5d00ae54",
    members=(f"deepforest/data/{STEM}.png", f"deepforest/data/{STEM}.xml"),
    licence="package MIT; imagery NEON, boxes DeepForest",
)
CLASSES = ("unlabelled", "ground", "tree")
SHAPE, TREES = (3, 2472, 2299), 574
"""Of the picture and its boxes, checked when the files are opened."""
REDUCE = 4
"""Pixels of the picture a stored pixel is wide: 0.4 m."""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--block", type=int, default=32, help="side of a block in pixels (default 32)"
    )


def read(arguments: Namespace) -> Content:
    """Get the picture, check it and split its blocks."""
    folder = fetch(PACKAGE, Path(arguments.cache)) / "deepforest/data"
    return cut(
        folder,
        block=arguments.block,
        provenance={
            "source": "neon-trees",
            "package": f"{PACKAGE.name}=={PACKAGE.version}",
            "sha256": PACKAGE.sha256,
        },
    )


@lru_cache(maxsize=1)
def _scene(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels `[3, H, W]` uint8 and labels `[H, W]` uint8."""
    import rasterio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(folder / f"{STEM}.png") as raster:
            picture = raster.read()
    if picture.shape != SHAPE or picture.dtype != np.uint8:
        raise FMError(f"{STEM}.png: {picture.shape} {picture.dtype}, expected {SHAPE} uint8")
    boxes = boxes_of((folder / f"{STEM}.xml").read_text())
    if len(boxes) != TREES:
        raise FMError(f"{STEM}.xml: {len(boxes)} boxes, expected {TREES}")
    height, width = SHAPE[1] // REDUCE, SHAPE[2] // REDUCE
    whole = picture[:, : height * REDUCE, : width * REDUCE]
    means = whole.reshape(3, height, REDUCE, width, REDUCE).mean(axis=(2, 4))
    return np.rint(means).astype(np.uint8), crowns(boxes, height, width, REDUCE)


def boxes_of(text: str) -> np.ndarray:
    """Return the boxes of a Pascal VOC annotation, `[N, 4]` xmin, ymin, xmax, ymax.

    Raises:
        FMError: a box without four numbers, or without an area.
    """
    found = []
    for item in ElementTree.fromstring(text).iter("bndbox"):
        try:
            box = [float(item.findtext(k, "")) for k in ("xmin", "ymin", "xmax", "ymax")]
        except ValueError as error:
            raise FMError(f"annotation: a box is not four numbers: {error}") from None
        if not (box[0] < box[2] and box[1] < box[3]):
            raise FMError(f"annotation: box {box} has no area")
        found.append(box)
    return np.array(found).reshape(-1, 4)


def crowns(boxes: np.ndarray, height: int, width: int, reduce: int) -> np.ndarray:
    """Return the class of each pixel `[height, width]`, by its centre.

    Args:
        boxes: `[N, 4]` xmin, ymin, xmax, ymax in pixels of the picture.
        height: of the result.
        width: of the result.
        reduce: pixels of the picture a pixel of the result is wide.
    """
    y = (np.arange(height)[:, None] + 0.5) * reduce
    x = (np.arange(width)[None, :] + 0.5) * reduce
    boxed, crown = np.zeros((height, width), bool), np.zeros((height, width), bool)
    for left, top, right, bottom in boxes:
        across = (2 * x - left - right) / (right - left)
        down = (2 * y - top - bottom) / (bottom - top)
        boxed |= (np.abs(across) <= 1) & (np.abs(down) <= 1)
        crown |= across**2 + down**2 <= 1
    return np.where(crown, 2, np.where(boxed, 0, 1)).astype(np.uint8)


def cut(folder: Path, *, block: int, provenance: dict[str, object]) -> Content:
    """Cut the picture into blocks; the provenance tells the pixels of each class by split.

    Args:
        folder: holds the picture and its annotation.
        block: side in pixels.
        provenance: goes into the description.
    """
    labels = _scene(folder)[1]
    height, width = labels.shape
    if not 16 <= block <= min(height, width) // 4:
        raise UsageError(f"--block {block}: give 16 to {min(height, width) // 4} pixels")
    corners = [(r, c) for r in range(0, height, block) for c in range(0, width, block)]
    counts = np.stack(
        [
            np.bincount(labels[r : r + block, c : c + block].ravel(), minlength=len(CLASSES))
            for r, c in corners
        ]
    )
    split = block_split(counts[:, 1:])
    by_split = {name: counts[split == k].sum(axis=0).tolist() for k, name in enumerate(SPLITS)}
    return Content(
        name="neon-trees",
        tasks=[(*corner, SPLITS[part]) for corner, part in zip(corners, split, strict=True)],
        make=partial(_block, folder, block),
        modalities={MODALITY: Declared(SENSOR, BANDS)},
        labels={"cover": LabelInfo("cover", "mask", CLASSES, ignore=0, member="label")},
        provenance={
            **provenance,
            "block_px": block,
            "split": "shards.splits.block_split",
            PIXELS_BY_CLASS: {"cover": by_split},
        },
        licence=PACKAGE.licence,
    )


def _block(folder: Path, block: int, task: tuple[int, int, str]) -> Sample:
    row, column, split = task
    pixels, labels = _scene(folder)
    box = (slice(row, row + block), slice(column, column + block))
    return Sample(
        key=f"neon-trees_{row:03d}_{column:03d}",
        arrays={MODALITY: pixels[:, *box], "label": labels[box]},
        split=split,
        window=(row, column, *labels[box].shape),
    )
