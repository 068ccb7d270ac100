"""A small made-up Sentinel-2 dataset for benches of runs: smooth fields and noise, native grids."""

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
