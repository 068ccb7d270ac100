"""Small made-up datasets for benches of runs: Sentinel-2 on native grids, a hyperspectral scene."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

import shards
from fm.sensors import sensor

GRIDS = {"s2l1c_10": (4, 1), "s2l1c_20": (6, 2), "s2l1c_60": (3, 6)}
"""Modality to its bands and how many 10 m pixels a pixel is wide."""


def _samples(count: int, side: int, seed: int) -> Iterator[shards.Sample]:
    rng = np.random.default_rng(seed)
    for i in range(count):
        slope, level = rng.normal(0, 0.3, 2), rng.uniform(0.5, 1.5)
        arrays = {}
        for name, (bands, factor) in GRIDS.items():
            y, x = (np.mgrid[: side // factor, : side // factor] + 0.5) * factor / side - 0.5
            mean = np.linspace(800, 2600, bands)[:, None, None] * (
                level + slope[0] * y + slope[1] * x
            )
            noisy = mean + rng.normal(0, 60, mean.shape)
            arrays[name] = np.clip(noisy, 1, 9999).astype(np.uint16)
        yield shards.Sample(key=f"chip_{i:05d}", arrays=arrays, lonlat=(10.0 + 0.01 * i, 50.0))


def write_chips(out: Path, count: int, side: int, seed: int = 0) -> Path:
    """Write `count` samples of `side` pixels of 10 m (a multiple of 6) and return the folder."""
    l1c = sensor("sentinel2-l1c")
    declared = {
        name: shards.Declared(l1c.name, tuple(band.name for band in bands))
        for name, bands in l1c.modalities.items()
    }
    shards.write_dataset(
        out,
        _samples(count, side, seed),
        name="chips",
        modalities=declared,
        labels={},
        provenance={"source": "bench/chips.py", "seed": seed},
        licence="CC0-1.0",
        samples_per_shard=64,
    )
    return out


def write_scene(out: Path, side: int, block: int, seed: int = 0) -> Path:
    """Write a scene of `side` pixels in blocks, as the benchmark `indian-pines` reads it.

    Fields of 4 x 4 pixels are of one of four crops with spectra of their own; splits go round by
    block.
    """
    rng = np.random.default_rng(seed)
    aviris = sensor("aviris-indian-pines")
    crops = np.array([0, 2, 3, 4, 11])
    fields = crops[rng.integers(0, len(crops), (side // 4, side // 4))]
    label = fields.repeat(4, 0).repeat(4, 1).astype(np.uint8)
    spectra = rng.uniform(1000, 4000, (17, len(aviris.bands)))
    pixels = np.moveaxis(spectra[label] + rng.normal(0, 400, (side, side, 1)), -1, 0)
    stored = np.clip(pixels, 1, 65535).astype(np.uint16)

    def samples() -> Iterator[shards.Sample]:
        places = [(r, c) for r in range(0, side, block) for c in range(0, side, block)]
        for number, (row, column) in enumerate(places):
            box = (slice(row, row + block), slice(column, column + block))
            yield shards.Sample(
                key=f"r{row:03d}c{column:03d}",
                arrays={
                    "aviris_20": np.ascontiguousarray(stored[:, *box]),
                    "label": np.ascontiguousarray(label[box]),
                },
                split=("train", "val", "test")[(number + row // block) % 3],
                window=(row, column, block, block),
            )

    names = tuple(band.name for band in aviris.bands)
    classes = ("unlabelled", *(f"crop-{k}" for k in range(1, 17)))
    shards.write_dataset(
        out,
        samples(),
        name="scene",
        modalities={"aviris_20": shards.Declared(aviris.name, names, 1.0, 0.0)},
        labels={"crop": shards.LabelInfo("crop", "mask", classes, 0, "label")},
        provenance={"source": "bench/chips.py", "seed": seed},
        licence="CC0-1.0",
    )
    return out
