"""Tree-cover density under a series of Sentinel-2, one small place, of the pip package `nrt`.

The ground and the layer of `shards.sources.tree_cover`, with all 140 dates of the cube in place of
one median. A pixel whose date Sen2Cor's scene classification does not call vegetation, bare ground
or unclassified is stored as 0, which is declared to be no data; so are pixels that have none. The
blocks and their splits are those of `tree_cover`.
"""

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError
from shards.building.packages import fetch
from shards.building.writer import Declared
from shards.sample import Sample
from shards.sources import tree_cover
from shards.sources.base import Content
from shards.sources.cube_cf import open_cube
from shards.sources.tree_cover import BANDS, CLEAR, CUBE, MODALITY, PACKAGE, SENSOR, SIDE, STORED

HELP = "tree-cover density under 140 dates of Sentinel-2, 1 km2, of the pip package nrt (11 MB)"
EXAMPLE = "fm shards build tree-cover-series --out data/tree-cover-series --cache .cache"


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    tree_cover.configure(parser)


def read(arguments: Namespace) -> Content:
    """Get the package, mask its dates and split the blocks."""
    one = tree_cover.read(arguments)
    folder = fetch(PACKAGE, Path(arguments.cache))
    pixels, times = series(folder)
    seen = (pixels > 0).all(1)
    about = {k: v for k, v in one.provenance.items() if k not in ("season", "clear_dates")}
    return replace(
        one,
        name="tree-cover-series",
        make=partial(_block, folder, arguments.block),
        modalities={MODALITY: Declared(SENSOR, BANDS, 1e-4, 0.0, nodata=(0,) * len(BANDS))},
        provenance={
            **about,
            "source": "tree-cover-series",
            "dates": len(times),
            "scene_classes_kept": list(CLEAR),
            "clear_dates": {"fewest": int(seen.sum(0).min()), "most": int(seen.sum(0).max())},
        },
    )


@lru_cache(maxsize=1)
def series(folder: Path) -> tuple[NDArray[np.uint16], tuple[str, ...]]:
    """Read the cube of an unpacked package.

    Returns:
        [T, 4, 100, 100] digital numbers, 0 where a pixel is not clear, and the T dates.

    Raises:
        FMError: the file is not that of the package.
    """
    cube = open_cube(folder / CUBE)
    numbers = np.stack([cube[name].values for name in STORED], axis=1)
    if numbers.shape[1:] != (len(STORED), SIDE, SIDE) or numbers.dtype != np.uint16:
        raise FMError(f"{folder}: not the scene of {PACKAGE.name} {PACKAGE.version}")
    days = cube["time"].values.astype("datetime64[D]")
    if (np.diff(days) <= np.timedelta64(0)).any():
        raise FMError(f"{folder}: the cube's dates are not in order")
    return masked(numbers, cube["SCL"].values), tuple(f"{day}T00:00:00Z" for day in days)


def masked(numbers: NDArray[np.uint16], classes: np.ndarray) -> NDArray[np.uint16]:
    """Set pixels to 0 in all bands where they are not clear or a band has no data.

    Args:
        numbers: [T, C, H, W], 0 where there are no data.
        classes: [T, H, W], Sen2Cor's scene classification.
    """
    clear = np.isin(classes, CLEAR) & (numbers > 0).all(1)
    return np.where(clear[:, None], numbers, np.uint16(0))


def _block(folder: Path, block: int, task: tuple[int, int, str]) -> Sample:
    one = tree_cover.sample(folder, block, task)
    row, column, _ = task
    pixels, times = series(folder)
    box = (slice(row, row + block), slice(column, column + block))
    return replace(
        one,
        key=f"tree-cover-series_{row:03d}_{column:03d}",
        arrays={**one.arrays, MODALITY: np.ascontiguousarray(pixels[:, :, *box])},
        times=times,
        time=times[0],
    )
