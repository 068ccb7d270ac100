"""Indian Pines (AVIRIS, 1992; Baumgardner et al., doi 10.4231/R7RX991C): crops of one scene.

See `probes.benchmarks.scene` for the split and the windows.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from probes.benchmarks.base import Benchmark, Data
from probes.benchmarks.scene import SPLITS, read_scene, read_split_scene, scene_data

MODALITY = "aviris_20"
WINDOW = 9
DROPPED = (1, 7, 9)
"""Alfalfa, Grass-pasture-mowed and Oats have 46, 28 and 20 pixels: one field each, so a
blocked split leaves no example of them in some split."""
SOURCE = "fm shards build indian-pines --out FOLDER"


def load_blocks(folder: Path) -> Data:
    """Open the blocked patch benchmark."""
    scene, ds, keys = read_split_scene(folder, MODALITY, SOURCE, WINDOW)
    names = next(label for label in ds.info.labels.values() if label.kind == "mask").classes
    dropped = ", ".join(f"{k} {names[k]} ({int((scene.label == k).sum())} px)" for k in DROPPED)
    notes = (
        f"classes dropped because a blocked split cannot hold them: {dropped}",
        "window pixels outside the sample's own split are invalid and zero",
    )
    everywhere = np.ones(scene.label.shape, bool)
    unit = scene.block.astype(np.int64)
    return scene_data(folder, MODALITY, scene, ds, keys, everywhere, DROPPED, WINDOW, unit, notes)


def load_checkerboard(folder: Path) -> Data:
    """Open the 16-px checkerboard of pixels: train where (row // 16 + col // 16) is even."""
    scene, ds, keys = read_scene(folder, MODALITY, SOURCE)
    row, col = np.indices(scene.label.shape) // 16
    test = (row + col) % 2 == 1
    codes = np.where(test, SPLITS.index("test"), SPLITS.index("train")).astype(np.int8)
    scene = replace(scene, split=codes)
    everywhere = np.ones(scene.label.shape, bool)
    unit = row * (col.max() + 1) + col
    notes = (
        "no validation split: C is fixed at 1; average accuracy is over the classes in the test "
        "squares (Oats has none there)",
    )
    return scene_data(folder, MODALITY, scene, ds, keys, everywhere, (), 1, unit, notes)


BENCHMARKS = (
    Benchmark(
        name="indian-pines",
        version=1,
        help="13 crops, 9x9 windows of 200 AVIRIS bands, blocked split",
        source=SOURCE,
        task="class",
        primary="oa",
        unit="block",
        split="whole blocks in train, val and test; a window's pixels in another split are invalid",
        verified="real files (tensorly 0.10.0)",
        load=load_blocks,
    ),
    Benchmark(
        name="indian-pines-checkerboard",
        version=1,
        help="16 crops, single pixels, 16-px checkerboard: a floor to check the pipeline with",
        source=SOURCE,
        task="class",
        primary="oa",
        unit="block",
        split="16-px checkerboard in train and test, no val",
        verified="real files (tensorly 0.10.0)",
        load=load_checkerboard,
        protocols=("raw-pixel",),
        why_only="a 9x9 window crosses its squares for most pixels",
        fixed_c=1.0,
    ),
)
