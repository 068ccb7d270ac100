"""Indian Pines (AVIRIS, 1992; Baumgardner et al., doi 10.4231/R7RX991C): crops of one scene.

The labelled pixels of one scene are neighbours, and a random split puts near-copies of the test
pixels into training. Here whole blocks go to train, val or test, and windows do not look across
the split (`probes.windows`).
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import shards
from fm.errors import FMError
from probes.benchmarks.base import Benchmark, Data, Inputs
from probes.windows import NOWHERE, Scene, cut

MODALITY = "aviris_20"
WINDOW = 9
DROPPED = (1, 7, 9)
"""Alfalfa, Grass-pasture-mowed and Oats have 46, 28 and 20 pixels: one field each, so a
blocked split leaves no example of them in some split."""
SPLITS = ("train", "val", "test")
SOURCE = "fm shards build indian-pines --out FOLDER"


def read_scene(folder: Path) -> tuple[Scene, "shards.Dataset", NDArray[np.str_]]:
    """Put the scene together from its blocks.

    Returns:
        the scene, the dataset, and the key of each block.

    Raises:
        FMError: not an Indian Pines dataset of blocks with windows and splits.
    """
    ds = shards.open(folder)
    masks = [label for label in ds.info.labels.values() if label.kind == "mask"]
    if MODALITY not in ds.info.modalities or len(masks) != 1:
        raise FMError(
            f"{folder}: not the Indian Pines dataset (no {MODALITY} with one label mask); "
            f"make it with `{SOURCE}`"
        )
    columns = ds.index.select(["key", "row", "col", "height", "width", "split"]).to_pydict()
    boxes = list(zip(*(columns[k] for k in ("row", "col", "height", "width")), strict=True))
    if any(value is None for box in boxes for value in box):
        raise FMError(f"{folder}: samples without a window cannot be put together; `{SOURCE}`")
    height = max(row + h for row, _, h, _ in boxes)
    width = max(col + w for _, col, _, w in boxes)
    bands = len(ds.info.modalities[MODALITY].bands)
    pixels = np.zeros((bands, height, width), np.dtype(ds.info.modalities[MODALITY].dtype))
    label = np.zeros((height, width), np.int64)
    split = np.full((height, width), NOWHERE, np.int8)
    block = np.full((height, width), -1, np.int32)
    member = str(masks[0].member)
    for i, (row, col, h, w) in enumerate(boxes):
        name = columns["split"][i]
        if name is not None and name not in SPLITS:
            raise FMError(f"{folder}: {columns['key'][i]}: split {name!r} is none of {SPLITS}")
        arrays = ds.read(i, [MODALITY, member])
        box = (slice(row, row + h), slice(col, col + w))
        if (block[box] >= 0).any():
            raise FMError(f"{folder}: block {columns['key'][i]} overlaps another; `{SOURCE}`")
        pixels[:, *box] = arrays[MODALITY]
        label[box] = arrays[member]
        split[box] = SPLITS.index(name) if name is not None else NOWHERE
        block[box] = i
    return Scene(pixels, label, split, block), ds, np.array(columns["key"])


def _data(
    folder: Path,
    scene: Scene,
    ds: "shards.Dataset",
    keys: NDArray[np.str_],
    chosen: NDArray[np.bool_],
    dropped: tuple[int, ...],
    window: int,
    unit: NDArray[np.int64],
    notes: tuple[str, ...],
) -> Data:
    names = next(label for label in ds.info.labels.values() if label.kind == "mask").classes
    kept = [k for k in range(1, len(names)) if k not in dropped]
    number = np.full(len(names), -1)
    number[kept] = np.arange(len(kept))
    rows, cols = np.nonzero(chosen & np.isin(scene.label, kept) & (scene.split != NOWHERE))

    def read(index: NDArray[np.int64]) -> Inputs:
        pixels, valid = cut(scene, rows[index], cols[index], window)
        return Inputs({MODALITY: pixels}, {MODALITY: valid})

    info = ds.info.modalities[MODALITY]
    return Data(
        read=read,
        targets=number[scene.label[rows, cols]],
        split=np.array(SPLITS)[scene.split[rows, cols]],
        unit=unit[rows, cols],
        shards=keys[scene.block[rows, cols]],
        classes=tuple(names[k] for k in kept),
        bands={MODALITY: tuple(info.bands)},
        scaling={MODALITY: info.scaling},
        dataset=ds.info.name,
        manifest_hash=ds.manifest_hash,
        folder=folder,
        notes=notes,
    )


def load_blocks(folder: Path) -> Data:
    """Open the blocked patch benchmark."""
    scene, ds, keys = read_scene(folder)
    sizes = ds.index.select(["height", "width"]).to_pydict()
    largest = min(max(sizes["height"]), max(sizes["width"]))
    if largest <= WINDOW:
        raise FMError(
            f"{folder}: blocks of {largest} px are not larger than the {WINDOW}-px window; "
            f"make larger ones with `{SOURCE}`"
        )
    absent = set(SPLITS) - set(ds.index.column("split").to_pylist())
    if absent:
        raise FMError(f"{folder}: no block is in {', '.join(sorted(absent))}; `{SOURCE}`")
    names = next(label for label in ds.info.labels.values() if label.kind == "mask").classes
    dropped = ", ".join(f"{k} {names[k]} ({int((scene.label == k).sum())} px)" for k in DROPPED)
    notes = (
        f"classes dropped because a blocked split cannot hold them: {dropped}",
        "window pixels outside the sample's own split are invalid and zero",
    )
    everywhere = np.ones(scene.label.shape, bool)
    unit = scene.block.astype(np.int64)
    return _data(folder, scene, ds, keys, everywhere, DROPPED, WINDOW, unit, notes)


def load_checkerboard(folder: Path) -> Data:
    """Open the 16-px checkerboard of pixels: train where (row // 16 + col // 16) is even."""
    scene, ds, keys = read_scene(folder)
    row, col = np.indices(scene.label.shape) // 16
    test = (row + col) % 2 == 1
    codes = np.where(test, SPLITS.index("test"), SPLITS.index("train")).astype(np.int8)
    scene = Scene(scene.pixels, scene.label, codes, scene.block)
    everywhere = np.ones(scene.label.shape, bool)
    unit = row * (col.max() + 1) + col
    notes = (
        "no validation split: C is fixed at 1; average accuracy is over the classes in the test "
        "squares (Oats has none there)",
    )
    return _data(folder, scene, ds, keys, everywhere, (), 1, unit, notes)


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
