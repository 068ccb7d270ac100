"""Tree-cover density of one square kilometre of Romania, from Sentinel-2: a regression.

The truth is the Copernicus layer of 20 m, itself a product of Sentinel-2 and not of the ground; a
sample is one of its cells, the window of 10 m pixels around it is its input. See
`probes.benchmarks.scene` for the split and the windows.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probes.benchmarks.base import Benchmark, Data, Inputs
from probes.benchmarks.scene import SPLITS, read_split_scene
from probes.benchmarks.windows import NOWHERE, cut

MODALITY = "s2l2a_10"
WINDOW = 9
UNKNOWN = 255
SOURCE = "fm shards build tree-cover --out FOLDER"


def load(folder: Path) -> Data:
    """Open the benchmark."""
    scene, ds, keys = read_split_scene(folder, MODALITY, SOURCE)
    one = np.zeros(scene.label.shape, bool)
    one[::2, ::2] = True  # the upper left of the four pixels of a cell
    rows, cols = np.nonzero(one & (scene.label != UNKNOWN) & (scene.split != NOWHERE))

    def read(index: NDArray[np.int64]) -> Inputs:
        pixels, valid = cut(scene, rows[index], cols[index], WINDOW)
        return Inputs({MODALITY: pixels}, {MODALITY: valid})

    info = ds.info.modalities[MODALITY]
    split = np.array(SPLITS)[scene.split[rows, cols]]
    unit = scene.block[rows, cols].astype(np.int64)
    tests = len(np.unique(unit[split == "test"]))
    return Data(
        read=read,
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
            f"one square kilometre: {tests} test blocks beside training blocks, few effective "
            "samples; neighbouring cells repeat each other",
            "the truth is a product of satellite images, not of the ground",
            "window pixels outside the sample's own split are invalid and zero",
        ),
    )


BENCHMARKS = (
    Benchmark(
        name="tree-cover",
        version=1,
        help="tree-cover density in percent, 9x9 windows of 4 Sentinel-2 bands, blocked split",
        source=SOURCE,
        task="regression",
        primary="r2",
        unit="block",
        split="whole blocks in train, val and test; a window's pixels in another split are invalid",
        verified="real files (nrt 0.2.1)",
        load=load,
    ),
)
