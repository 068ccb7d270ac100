"""Tree or ground in an airborne colour picture: windows of one scene.

See `probes.benchmarks.scene` for the split and the windows.
"""

from pathlib import Path

import numpy as np

from probes.benchmarks.base import Benchmark, Data
from probes.benchmarks.scene import read_split_scene, scene_data

MODALITY = "neonrgb_0"
WINDOW = 15
GROUND, TREE = 1, 2
STRIDES = {GROUND: 5, TREE: 2}
"""Every n-th pixel of every n-th row of a class is a sample: about as many of both."""
SOURCE = "fm shards build neon-trees --out FOLDER"


def load(folder: Path) -> Data:
    """Open the benchmark."""
    scene, ds, keys = read_split_scene(folder, MODALITY, SOURCE, WINDOW)
    chosen = np.zeros(scene.label.shape, bool)
    for number, stride in STRIDES.items():
        grid = (slice(stride // 2, None, stride),) * 2
        chosen[grid] |= scene.label[grid] == number
    notes = (
        "crowns are ellipses in hand-drawn boxes, not outlines",
        "window pixels outside the sample's own split are invalid and zero",
    )
    unit = scene.block.astype(np.int64)
    return scene_data(folder, MODALITY, scene, ds, keys, chosen, (), WINDOW, unit, notes)


BENCHMARKS = (
    Benchmark(
        name="neon-trees",
        version=1,
        help="tree or ground, 15x15 windows of an airborne colour picture, blocked split",
        source=SOURCE,
        task="class",
        primary="oa",
        unit="block",
        split="whole blocks in train, val and test; a window's pixels in another split are invalid",
        verified="real files (deepforest 2.1.0)",
        load=load,
    ),
)
