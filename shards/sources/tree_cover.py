"""Tree-cover density over one year of Sentinel-2, one small place, of the pip package `nrt`.

A square kilometre of Romania: the four 10 m bands of Sentinel-2 L2A on 140 dates of 2015 to 2021
with Sen2Cor's scene classification, and the Copernicus High Resolution Layer *Tree Cover Density
2018* (0 to 100 %, 20 m, 50 x 50) of the same ground. A pixel is the median of its clear dates in
the months of growth of the layer's year; clear is what the scene classification calls vegetation,
bare ground or unclassified, as the package's own examples take it.

The layer is repeated on the 10 m grid of the pixels, and its classes are its whole percentages.
Blocks belong to one split each (`shards.splits`), chosen by the shares of four ranges of density.
"""

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError, UsageError
from fm.geo import lonlat_of
from shards.building.packages import Package, fetch
from shards.building.writer import Declared
from shards.format import LabelInfo
from shards.sample import Sample
from shards.sources.base import Content
from shards.sources.cube_cf import open_cube
from shards.splits import SPLITS, block_split

HELP = "tree-cover density under Sentinel-2, 1 km2, of the pip package nrt (11 MB; eofm[cube])"
EXAMPLE = "fm shards build tree-cover --out data/tree-cover --cache .cache"
SENSOR, MODALITY = "sentinel2-l2a", "s2l2a_10"
BANDS = ("B02", "B03", "B04", "B08")
STORED = ("B2", "B3", "B4", "B8")
CUBE = "nrt/data/sentinel2_cube_subset_romania_10m.nc"
LAYER = "nrt/data/tree_cover_density_2018_romania.tif"
PACKAGE = Package(
    name="nrt",
    version="0.2.1",
    sha256="cd0291f99ce91268a0d993f05be1c69678d62504b01d36e7124d0ff3a51b3ee9",
    members=(CUBE, LAYER),
    licence="package EUPL-1.2; Copernicus Sentinel and Land Monitoring data, free and open",
)
CLEAR = (4, 5, 7)
SEASON = ("2018-05-01", "2018-10-01")
SIDE, GSD_M, CRS = 100, 10.0, "EPSG:3035"
PERCENT = tuple(f"{k} %" for k in range(101))
UNKNOWN = 255
RANGES = (0, 40, 65, 80, 101)
"""Densities that the split keeps balanced."""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--block", type=int, default=10, help="side of a block in pixels of 10 m (default 10)"
    )


def read(arguments: Namespace) -> Content:
    """Get the package, take the median of the clear dates and split the blocks."""
    block = arguments.block
    if block < 2 or block % 2 or SIDE % block:
        raise UsageError(f"--block {block}: give an even side that {SIDE} can be divided by")
    folder = fetch(PACKAGE, Path(arguments.cache))
    found = scene(folder)
    corners = [(r, c) for r in range(0, SIDE, block) for c in range(0, SIDE, block)]
    counts = np.stack(
        [np.histogram(found.density[r : r + block, c : c + block], RANGES)[0] for r, c in corners]
    )
    split = block_split(counts)
    tasks = [(r, c, SPLITS[part]) for (r, c), part in zip(corners, split, strict=True)]
    return Content(
        name="tree-cover",
        tasks=tasks,
        make=partial(sample, folder, block),
        modalities={MODALITY: Declared(SENSOR, BANDS, 1e-4, 0.0)},
        labels={"density": LabelInfo("density", "mask", PERCENT, ignore=UNKNOWN, member="label")},
        provenance={
            "source": "tree-cover",
            "package": f"{PACKAGE.name}=={PACKAGE.version}",
            "sha256": PACKAGE.sha256,
            "season": list(SEASON),
            "clear_dates": {"fewest": int(found.clear.min()), "most": int(found.clear.max())},
            "block_px": block,
            "split": "shards.splits.block_split",
        },
        licence=PACKAGE.licence,
    )


@dataclass(frozen=True)
class Scene:
    """The place on its 10 m grid.

    Attributes:
        pixels: [4, 100, 100] uint16, digital numbers.
        density: [100, 100] uint8, percent.
        clear: [100, 100], clear dates of each pixel.
        corner: x and y of the upper left corner.
    """

    pixels: NDArray[np.uint16]
    density: NDArray[np.uint8]
    clear: NDArray[np.int64]
    corner: tuple[float, float]


@lru_cache(maxsize=1)
def scene(folder: Path) -> Scene:
    """Read the scene of an unpacked package.

    Raises:
        FMError: the files are not those of the package, or a pixel is never clear.
    """
    import rasterio

    cube = open_cube(folder / CUBE)
    season = cube.sel(time=slice(*SEASON))
    numbers = np.stack([season[name].values for name in STORED], axis=1)
    x, y = float(cube["x"].values[0]) - GSD_M / 2, float(cube["y"].values[0]) + GSD_M / 2
    with rasterio.open(folder / LAYER) as raster:
        layer, place = raster.read(1), raster.transform
    if numbers.shape[1:] != (4, SIDE, SIDE) or layer.shape != (SIDE // 2, SIDE // 2):
        raise FMError(f"{folder}: not the scene of {PACKAGE.name} {PACKAGE.version}")
    if max(abs(x - place.c), abs(y - place.f)) > 1 or layer.max() > 100:
        raise FMError(f"{folder}: the cube and the tree-cover layer do not lie on one another")
    pixels, clear = median(numbers, season["SCL"].values)
    if clear.min() == 0:
        raise FMError(f"{folder}: {int((clear == 0).sum())} pixels are clear on no date")
    return Scene(pixels, layer.repeat(2, 0).repeat(2, 1), clear, (x, y))


def median(
    numbers: np.ndarray, classes: np.ndarray
) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """Take the median of the clear dates of each pixel, rounded to even.

    Args:
        numbers: [T, C, H, W], 0 where there are no data.
        classes: [T, H, W], Sen2Cor's scene classification.

    Returns:
        [C, H, W], 0 where no date is clear, and the number of clear dates [H, W].
    """
    clear = np.isin(classes, CLEAR) & (numbers > 0).all(1)
    held = np.ma.masked_array(numbers, np.broadcast_to(~clear[:, None], numbers.shape))
    middle = np.ma.median(held, axis=0).filled(0)
    return np.rint(middle).astype(np.uint16), clear.sum(0)


def sample(folder: Path, block: int, task: tuple[int, int, str]) -> Sample:
    """Cut the block of a task: row, column and split."""
    row, column, split = task
    found = scene(folder)
    box = (slice(row, row + block), slice(column, column + block))
    left, top = found.corner[0] + GSD_M * column, found.corner[1] - GSD_M * row
    lon, lat = lonlat_of(left + GSD_M * block / 2, top - GSD_M * block / 2, CRS).ravel().tolist()
    return Sample(
        key=f"tree-cover_{row:03d}_{column:03d}",
        arrays={MODALITY: found.pixels[:, *box], "label": found.density[box]},
        split=split,
        window=(row, column, block, block),
        lonlat=(lon, lat),
        crs=CRS,
        transform=(GSD_M, 0.0, left, 0.0, -GSD_M, top),
    )
