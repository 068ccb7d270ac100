"""Tree-cover density of one square kilometre of Romania from a series of Sentinel-2: a regression.

The truth and the blocks are those of `probes.benchmarks.tree_cover`. A sample is a cell of 20 m of
every second row and column of cells, its input the windows of 10 m pixels around it on every date
on which all four pixels of the cell are clear. Cloudy pixels of a window (Sen2Cor's scene
classification, applied when the dataset is built) are invalid, as are pixels of another split.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import shards
from fm.errors import FMError
from probes.benchmarks.base import Benchmark, Data, Inputs
from probes.benchmarks.dates import Dates
from probes.benchmarks.scene import SPLITS, read_split_scene
from probes.benchmarks.tree_cover import MODALITY, UNKNOWN, WINDOW
from probes.benchmarks.windows import NOWHERE, cut

STEP = 4
"""Pixels from one sample to the next: every second cell."""
FEWEST = 3
"""A cell that is clear on fewer dates is no sample."""
SOURCE = "fm shards build tree-cover-series --out FOLDER"


def load(folder: Path) -> Data:
    """Open the benchmark."""
    scene, ds, keys = read_split_scene(folder, MODALITY, SOURCE)
    times = _times(ds, folder)
    info = ds.info.modalities[MODALITY]
    bands, (height, width) = len(info.bands), scene.label.shape
    stack = scene.pixels.reshape(len(times), bands, height, width)
    clear = np.asarray((stack > 0).all(1))
    whole = clear[:, ::2, ::2] & clear[:, 1::2, ::2] & clear[:, ::2, 1::2] & clear[:, 1::2, 1::2]
    one = np.zeros(scene.label.shape, bool)
    one[::STEP, ::STEP] = True  # the upper left of the four pixels of a cell
    one &= (scene.label != UNKNOWN) & (scene.split != NOWHERE)
    one[::2, ::2] &= whole.sum(0) >= FEWEST
    rows, cols = np.nonzero(one)
    owner, date = np.nonzero(whole[:, rows // 2, cols // 2].T)

    windows, own = cut(scene, rows, cols, WINDOW)
    windows = windows.reshape(len(rows), len(times), bands, WINDOW, WINDOW)

    def read(index: NDArray[np.int64]) -> Inputs:
        at = owner[index]
        pixels = windows[at, date[index]]
        valid = own[at] & (pixels > 0).all(1)
        return Inputs(
            {MODALITY: np.where(valid[:, None], pixels, np.zeros((), pixels.dtype))},
            {MODALITY: valid},
        )

    dates = Dates(len(rows), owner.astype(np.int64), times[date], read)
    split = np.array(SPLITS)[scene.split[rows, cols]]
    unit = scene.block[rows, cols].astype(np.int64)
    tests = len(np.unique(unit[split == "test"]))
    return Data(
        read=dates.series,
        targets=scene.label[rows, cols].astype(np.float64)[:, None],
        split=split,
        unit=unit,
        shards=keys[scene.block[rows, cols]],
        classes=("tree-cover density, %",),
        bands={MODALITY: tuple(info.bands)},
        scaling={MODALITY: info.scaling},
        dataset=ds.info.name,
        manifest_hash=ds.manifest_hash,
        folder=folder,
        notes=(
            f"one square kilometre: {tests} test blocks beside training blocks are the effective "
            f"samples; the {int((split == 'test').sum())} test cells in them repeat each other",
            "the truth is a product of satellite images of 2018, not of the ground; dates of all "
            "years are given",
            "a date is given where the cell is clear by Sen2Cor; other pixels of its window that "
            "are not clear, or not in the sample's own split, are invalid and zero",
        ),
        dates=dates,
    )


def _times(ds: "shards.Dataset", folder: Path) -> NDArray[np.float64]:
    """Times [T] of the images, the same in all blocks."""
    column = ds.index.column("times").to_pylist() if "times" in ds.index.column_names else [None]
    first = column[0]
    if first is None or any(times != first for times in column):
        raise FMError(f"{folder}: blocks without dates, or with different ones; `{SOURCE}`")
    return np.array([moment.timestamp() for moment in first])


BENCHMARKS = (
    Benchmark(
        name="tree-cover-series",
        version=1,
        help="tree-cover density in percent from up to 140 dates of Sentinel-2, blocked split",
        source=SOURCE,
        task="regression",
        primary="r2",
        unit="block",
        split="whole blocks in train, val and test; a window's pixels in another split are invalid",
        verified="real files (nrt 0.2.1)",
        load=load,
        series=True,
    ),
)
