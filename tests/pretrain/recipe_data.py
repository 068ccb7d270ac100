"""Small made-up datasets of the kind that a recipe reads: its modalities, bands, sizes, labels."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

import shards
from fm.sensors import sensor_of_modality
from pretrain.config import RunConfig
from pretrain.data import declared

CLASSES = {"softcon": "fractions", "landcover": "fractions", "closp": "multilabel"}
"""The kind of the label that an objective reads, by its `kind`."""


def write_for(config: RunConfig, folder: Path, count: int = 6) -> list[str]:
    """Write what a recipe reads; return the settings that have it read."""
    layout = declared(config.data)
    words = []
    for part, shapes in layout.shapes.items():
        path = folder / (part or "data")
        shards.write_dataset(
            path,
            _samples(config, shapes, count),
            name="made-up",
            modalities={
                name: shards.Declared(
                    sensor_of_modality(name).name,
                    tuple(band.name for band in layout.bands[name]),
                    gsd_m=layout.bands[name][0].gsd_m,
                )
                for name in shapes
            },
            labels=_labels(config),
            provenance={},
            licence="CC0-1.0",
        )
        words.append(f"data.parts.{part}.path={path}" if part else f"data.path={path}")
    return words


def _labels(config: RunConfig) -> dict[str, shards.LabelInfo]:
    kind = CLASSES.get(config.objective.kind)
    if kind is None:
        return {}
    name, classes = config.objective.label, config.objective.classes
    return {name: shards.LabelInfo(name, kind, tuple(f"c{n}" for n in range(classes)))}


def _samples(
    config: RunConfig, shapes: dict[str, tuple[int, ...]], count: int
) -> Iterator[shards.Sample]:
    draw = np.random.default_rng(0)
    (told,) = _labels(config).values() or (None,)
    side = max(shape[-1] for shape in shapes.values())
    for number in range(count):
        arrays = {}
        for name, shape in shapes.items():
            values = draw.uniform(0.05, 0.4, shape) * draw.uniform(0.5, 1.5, (*shape[:-2], 1, 1))
            arrays[name] = (-20.0 * values if "s1" in name else values).astype(np.float32)
        images = next((s[0] for s in shapes.values() if len(s) == 4), None)
        times = [f"2020-{1 + 3 * i:02d}-11" for i in range(images or 0)] or None
        labels = {}
        if told is not None:
            shares = draw.dirichlet(np.ones(len(told.classes)))
            present = sorted(set(draw.integers(0, len(told.classes), 3).tolist()))
            labels = {told.name: shares.tolist() if told.kind == "fractions" else present}
        yield shards.Sample(
            f"s{number}",
            arrays,
            lonlat=(10.0 + number, 50.0),
            time=None if times else "2020-06-11",
            times=times,
            split="train",
            labels=labels,
            window=(0, number * side, side, side),
        )
