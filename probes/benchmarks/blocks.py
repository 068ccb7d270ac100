"""Benchmarks made of the whole blocks of one scene, with a class for each pixel.

A block lies in one split with all its pixels, and an image is one block and nothing around it, so
no pixel of a test place can be seen in training.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import shards
from fm.errors import FMError
from probes.benchmarks.base import Data, Inputs
from probes.benchmarks.scene import SPLITS, read_scene


@dataclass(frozen=True)
class Blocks:
    """The blocks of a scene as images; `N` blocks of `S` pixels a side.

    Attributes:
        pixels: [N, C, S, S] of the stored type, 0 where invalid.
        valid: [N, S, S] bool, inside the block and with data in all bands.
        label: [N, S, S] classes from 0, -1 where unlabelled or invalid.
        split: [N] of `train`, `val`, `test`.
        keys: [N] of the stored blocks.
        classes: names of the K classes.
        modality: the one array.
        dataset: where they are from.
        folder: its folder.
    """

    pixels: np.ndarray
    valid: NDArray[np.bool_]
    label: NDArray[np.int64]
    split: NDArray[np.str_]
    keys: NDArray[np.str_]
    classes: tuple[str, ...]
    modality: str
    dataset: "shards.Dataset"
    folder: Path


def read_blocks(folder: Path, modality: str, source: str) -> Blocks:
    """Read the blocks that are in a split; smaller ones at the border are filled up as invalid.

    Args:
        folder: the dataset.
        modality: the one array of each block.
        source: the command that makes the dataset, for errors.

    Raises:
        FMError: not a dataset of blocks with splits and one label mask, or an empty split.
    """
    scene, ds, keys = read_scene(folder, modality, source)
    columns = ds.index.select(["row", "col", "height", "width", "split"]).to_pydict()
    side = max(max(columns["height"]), max(columns["width"]))
    names = next(label for label in ds.info.labels.values() if label.kind == "mask").classes
    chosen = [i for i, split in enumerate(columns["split"]) if split in SPLITS]
    bands = len(scene.pixels)
    pixels = np.zeros((len(chosen), bands, side, side), scene.pixels.dtype)
    valid = np.zeros((len(chosen), side, side), bool)
    label = np.full((len(chosen), side, side), -1, np.int64)
    for n, i in enumerate(chosen):
        row, col, height, width = (columns[k][i] for k in ("row", "col", "height", "width"))
        box = (slice(row, row + height), slice(col, col + width))
        known = np.ones((height, width), bool) if scene.known is None else scene.known[box]
        valid[n, :height, :width] = known
        pixels[n, :, :height, :width] = np.where(known, scene.pixels[:, *box], 0)
        # class 0 is unlabelled
        label[n, :height, :width] = np.where(known, scene.label[box] - 1, -1)
    split = np.array([columns["split"][i] for i in chosen], dtype=str)
    absent = [name for name in SPLITS if name not in split]
    if absent:
        raise FMError(f"{folder}: no block is in {', '.join(absent)}; `{source}`")
    return Blocks(pixels, valid, label, split, keys[chosen], tuple(names[1:]), modality, ds, folder)


def segmentation(blocks: Blocks, notes: tuple[str, ...]) -> Data:
    """Every block is a sample, and its labels are the truth."""

    def read(index: NDArray[np.int64]) -> Inputs:
        m = blocks.modality
        return Inputs({m: blocks.pixels[index]}, {m: blocks.valid[index]})

    info = blocks.dataset.info.modalities[blocks.modality]
    count = len(blocks.split)
    return Data(
        read=read,
        targets=np.zeros(count, np.int64),
        split=blocks.split,
        unit=np.arange(count),
        shards=blocks.keys,
        classes=blocks.classes,
        bands={blocks.modality: tuple(info.bands)},
        scaling={blocks.modality: info.scaling},
        dataset=blocks.dataset.info.name,
        manifest_hash=blocks.dataset.manifest_hash,
        folder=blocks.folder,
        notes=notes,
        maps=lambda index: blocks.label[index],
    )
