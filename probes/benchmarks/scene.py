"""Benchmarks made of windows around the labelled pixels of one scene, stored as blocks.

The labelled pixels of one scene are neighbours, and a random split puts near-copies of the test
pixels into training. Here whole blocks go to train, val or test, and windows do not look across
the split (`probes.benchmarks.windows`).
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import shards
from fm.errors import FMError
from probes.benchmarks.base import Data, Inputs
from probes.benchmarks.windows import NOWHERE, Scene, cut

SPLITS = ("train", "val", "test")


def read_scene(
    folder: Path, modality: str, source: str
) -> tuple[Scene, "shards.Dataset", NDArray[np.str_]]:
    """Put the scene together from its blocks.

    Args:
        folder: the dataset.
        modality: the one array of each block.
        source: the command that makes the dataset, for errors.

    Returns:
        the scene, the dataset, and the key of each block. Of series of T images the bands of all
        of them stand behind each other, and a pixel is known where it has data on any date.

    Raises:
        FMError: not a dataset of blocks with windows, splits and one label mask.
    """
    ds = shards.open(folder)
    masks = [label for label in ds.info.labels.values() if label.kind == "mask"]
    if modality not in ds.info.modalities or len(masks) != 1:
        raise FMError(
            f"{folder}: not the dataset of this benchmark (no {modality} with one label mask); "
            f"make it with `{source}`"
        )
    columns = ds.index.select(["key", "row", "col", "height", "width", "split"]).to_pydict()
    boxes = list(zip(*(columns[k] for k in ("row", "col", "height", "width")), strict=True))
    if any(value is None for box in boxes for value in box):
        raise FMError(f"{folder}: samples without a window cannot be put together; `{source}`")
    height = max(row + h for row, _, h, _ in boxes)
    width = max(col + w for _, col, _, w in boxes)
    bands = len(ds.info.modalities[modality].bands)
    first = ds.read(0, [modality])[modality]
    images = len(first) if first.ndim == 4 else 1
    pixels = np.zeros((images * bands, height, width), np.dtype(ds.info.modalities[modality].dtype))
    label = np.zeros((height, width), np.int64)
    split = np.full((height, width), NOWHERE, np.int8)
    block = np.full((height, width), -1, np.int32)
    known = np.zeros((height, width), bool)
    codes = ds.info.modalities[modality].nodata or (None,) * bands
    member = str(masks[0].member)
    for i, (row, col, h, w) in enumerate(boxes):
        name = columns["split"][i]
        if name is not None and name not in SPLITS:
            raise FMError(f"{folder}: {columns['key'][i]}: split {name!r} is none of {SPLITS}")
        arrays = ds.read(i, [modality, member])
        box = (slice(row, row + h), slice(col, col + w))
        if (block[box] >= 0).any():
            raise FMError(f"{folder}: block {columns['key'][i]} overlaps another; `{source}`")
        if arrays[modality].size != images * bands * h * w:
            raise FMError(f"{folder}: blocks have other numbers of dates; `{source}`")
        stack = arrays[modality].reshape(images, bands, h, w)
        pixels[:, *box] = stack.reshape(-1, h, w)
        known[box] = np.all(
            [
                np.isfinite(stack[:, n]) if code is None else stack[:, n] != code
                for n, code in enumerate(codes)
            ],
            axis=0,
        ).any(0)
        label[box] = arrays[member]
        split[box] = SPLITS.index(name) if name is not None else NOWHERE
        block[box] = i
    return Scene(pixels, label, split, block, known), ds, np.array(columns["key"])


def read_split_scene(
    folder: Path, modality: str, source: str, window: int | None = None
) -> tuple[Scene, "shards.Dataset", NDArray[np.str_]]:
    """Put together a scene whose blocks are in train, val and test.

    Args:
        folder: as of `read_scene`, as are the next two.
        modality: likewise.
        source: likewise.
        window: side in pixels that some block must be larger than; None asks for nothing.

    Returns:
        what `read_scene` does.

    Raises:
        FMError: as `read_scene`; no block in one of the splits, or none larger than the window.
    """
    scene, ds, keys = read_scene(folder, modality, source)
    if window is not None:
        sizes = ds.index.select(["height", "width"]).to_pydict()
        largest = min(max(sizes["height"]), max(sizes["width"]))
        if largest <= window:
            raise FMError(
                f"{folder}: blocks of {largest} px are not larger than the {window}-px window; "
                f"make larger ones with `{source}`"
            )
    if absent := set(SPLITS) - set(ds.index.column("split").to_pylist()):
        raise FMError(f"{folder}: no block is in {', '.join(sorted(absent))}; `{source}`")
    return scene, ds, keys


def scene_data(
    folder: Path,
    modality: str,
    scene: Scene,
    ds: "shards.Dataset",
    keys: NDArray[np.str_],
    chosen: NDArray[np.bool_],
    dropped: tuple[int, ...],
    window: int,
    unit: NDArray[np.int64],
    notes: tuple[str, ...],
) -> Data:
    """Make the samples: windows around the chosen labelled pixels.

    Args:
        folder: the dataset.
        modality: the one array.
        scene: see `read_scene`.
        ds: the dataset.
        keys: of the blocks.
        chosen: [H, W] pixels that may be samples.
        dropped: classes that are left out.
        window: side in pixels.
        unit: [H, W] what the bootstrap draws.
        notes: for the reader of the numbers.
    """
    names = next(label for label in ds.info.labels.values() if label.kind == "mask").classes
    kept = [k for k in range(1, len(names)) if k not in dropped]
    number = np.full(len(names), -1)
    number[kept] = np.arange(len(kept))
    rows, cols = np.nonzero(chosen & np.isin(scene.label, kept) & (scene.split != NOWHERE))

    def read(index: NDArray[np.int64]) -> Inputs:
        pixels, valid = cut(scene, rows[index], cols[index], window)
        return Inputs({modality: pixels}, {modality: valid})

    info = ds.info.modalities[modality]
    return Data(
        read=read,
        targets=number[scene.label[rows, cols]],
        split=np.array(SPLITS)[scene.split[rows, cols]],
        unit=unit[rows, cols],
        shards=keys[scene.block[rows, cols]],
        classes=tuple(names[k] for k in kept),
        bands={modality: tuple(info.bands)},
        scaling={modality: info.scaling},
        dataset=ds.info.name,
        manifest_hash=ds.manifest_hash,
        folder=folder,
        notes=notes,
    )
