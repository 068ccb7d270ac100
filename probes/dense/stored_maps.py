"""Token maps of a frozen backbone, made once: in memory, or in the cache folder the user names.

A cache entry is a folder named by a hash over the weights, the data and the settings, with one
`.npy` a level that is mapped, not read, and the checksums of all of them.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fm.console import progress
from fm.errors import FMError
from fm.files import atomic_folder, read_json, sha256_file, write_json
from probes.benchmarks.base import Data, Inputs
from probes.dense.grids import resample
from probes.dense.heads import Shape
from probes.dense.token_maps import TokenMaps, token_maps
from probes.features.extraction import model_hash
from probes.features.pixels import physical

VERSION = 1
"""Raised when the same inputs would give other maps."""
MOST_BYTES = 4 << 30
"""Maps above this size are not kept in memory."""


@dataclass(frozen=True)
class StoredMaps:
    """Maps of all samples of a benchmark, of one date.

    Attributes:
        arrays: of each level, `[N, C, h, w]` float32, NaN where a token had no valid pixel.
        shapes: of the levels.
    """

    arrays: list[np.ndarray]
    shapes: list[Shape]

    def of(self, index: np.ndarray) -> list[Tensor]:
        """The levels of some samples."""
        return [torch.from_numpy(np.ascontiguousarray(x[index])) for x in self.arrays]


def dates(inputs: Inputs, after: bool) -> Inputs:
    """The inputs of the first or the second date.

    Raises:
        FMError: there is no second date.
    """
    if not after:
        return Inputs(inputs.pixels, inputs.valid)
    if inputs.after is None:
        raise FMError("this benchmark's samples have one date; change needs two")
    return inputs.after


def pixel_maps(inputs: Inputs, data: Data, size: tuple[int, int]) -> TokenMaps:
    """The bands themselves as maps, in physical units, on the grid of the truth."""
    parts = []
    for modality, stored in inputs.pixels.items():
        x = torch.from_numpy(physical(stored, data.scaling[modality])).float()
        known = torch.isfinite(x).all(dim=1, keepdim=True)
        if inputs.valid is not None:
            known &= torch.from_numpy(inputs.valid[modality])[:, None]
        x = torch.where(known, x, 0.0)
        if x.shape[-2:] != size:
            step = (x.shape[-2] / size[0], x.shape[-1] / size[1])
            share = resample(known.float(), size, step)
            x, known = resample(x, size, step) / share.clamp(min=1e-6), share > 0
        parts.append(torch.where(known, x, torch.nan))
    return TokenMaps([torch.cat(parts, dim=1)], [(1 / size[0], 1 / size[1])])


def extract_maps(
    model: Any,
    data: Data,
    *,
    benchmark: str,
    pyramid: bool,
    after: bool = False,
    cache: Path | None = None,
    batch_size: int = 64,
    make: Callable[[np.ndarray], TokenMaps] | None = None,
    what: str = "",
) -> StoredMaps:
    """Return the token maps of every sample; the model is put into `eval()` and not trained.

    Args:
        model: has `encode` and `bands`; None where `make` needs none.
        data: the benchmark, opened; all its pictures have one size.
        benchmark: its full name.
        pyramid: see `token_maps`.
        after: of the second date.
        cache: folder for maps; None keeps them in memory.
        batch_size: samples at once.
        make: gives the maps of the samples with the given numbers, where they are not the model's
            of one image.
        what: names what `make` gives; part of the name of a cache entry.

    Raises:
        FMError: maps that are not finite, pictures of several sizes, or too large for memory.
    """
    settings = {
        "version": VERSION,
        "weights": None if model is None else model_hash(model),
        "benchmark": benchmark,
        "manifest": data.manifest_hash,
        "pyramid": pyramid,
        "after": after,
        # how pixels come to a backbone of others
        "feed": getattr(getattr(model, "feed", None), "record", None),
    }
    if make is not None:
        settings["what"] = what
    name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    path = cache / f"maps-{name[:32]}" if cache is not None else None
    if path is not None and (kept := _read(path, settings, len(data.targets))) is not None:
        return kept
    if model is not None:
        model.eval()

    def one(index: np.ndarray) -> TokenMaps:
        inputs = dates(data.read(index), after)
        return token_maps(model, inputs, data.bands, data.scaling, pyramid=pyramid, finite=True)

    def batches() -> Iterator[tuple[np.ndarray, TokenMaps]]:
        total = len(data.targets)
        with torch.inference_mode(), progress("encoding", total) as bar:
            for start in range(0, total, batch_size):
                index = np.arange(start, min(start + batch_size, total))
                yield index, (one if make is None else make)(index)
                bar.advance(len(index))

    def in_memory(place: int, shape: tuple[int, ...]) -> np.ndarray:
        del place
        return np.empty(shape, np.float32)

    if path is None:
        return _fill(batches(), len(data.targets), benchmark, in_memory, MOST_BYTES)
    with atomic_folder(path, overwrite=True) as folder:

        def on_disk(place: int, shape: tuple[int, ...]) -> np.ndarray:
            file = folder / f"level{place}.npy"
            return np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)

        made = _fill(batches(), len(data.targets), benchmark, on_disk, None)
        for array in made.arrays:
            getattr(array, "flush", lambda: None)()
        sums = {f.name: sha256_file(f) for f in sorted(folder.glob("*.npy"))}
        cells = [shape.cell for shape in made.shapes]
        write_json(folder / "maps.json", {"settings": settings, "sha256": sums, "cells": cells})
    kept = _read(path, settings, len(data.targets))
    if kept is None:
        raise FMError(f"{path}: the maps written here cannot be read back; is the disk full?")
    return kept


def _fill(
    batches: Iterator[tuple[np.ndarray, TokenMaps]],
    count: int,
    what: str,
    make: Callable[[int, tuple[int, ...]], np.ndarray],
    most: int | None,
) -> StoredMaps:
    arrays: list[np.ndarray] = []
    shapes: list[Shape] = []
    for index, maps in batches:
        if not arrays:
            shapes = maps.shapes
            sizes = [(count, *x.shape[1:]) for x in maps.levels]
            need = 4 * sum(int(np.prod(size)) for size in sizes)
            if most is not None and need > most:
                raise FMError(
                    f"{what}: token maps of {need / 2**30:.1f} GiB do not fit into memory; give a "
                    f"cache folder (--cache)"
                )
            arrays = [make(place, size) for place, size in enumerate(sizes)]
        if maps.shapes != shapes:
            raise FMError(f"{what}: pictures of several sizes; cut them to one size")
        for array, level in zip(arrays, maps.levels, strict=True):
            array[index] = level.numpy()
    return StoredMaps(arrays, shapes)


def _read(path: Path, settings: dict[str, Any], count: int) -> StoredMaps | None:
    """Open a cache entry; None when it is absent, damaged or of something else."""
    try:
        about = read_json(path / "maps.json", "maps")
        files = [path / name for name in about["sha256"]]
        if about["settings"] != settings or any(
            sha256_file(file) != about["sha256"][file.name] for file in files
        ):
            return None
        arrays = [np.load(file, mmap_mode="r", allow_pickle=False) for file in files]
        cells = [(float(height), float(width)) for height, width in about["cells"]]
    except (OSError, ValueError, KeyError, TypeError, FMError):
        return None
    if any(len(array) != count for array in arrays):
        return None
    shapes = []
    for array, cell in zip(arrays, cells, strict=True):
        _, channels, rows, columns = array.shape
        shapes.append(Shape(channels, rows, columns, cell))
    return StoredMaps(arrays, shapes)
