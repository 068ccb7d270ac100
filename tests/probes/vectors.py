"""Benchmarks in memory whose features are given."""

from dataclasses import replace

import numpy as np

from probes.benchmarks import get_benchmark
from probes.benchmarks.base import Data, Inputs


def data(targets, split, classes=None, **more) -> Data:
    """A benchmark without pixels: sample i is image i."""
    count = len(targets)
    if classes is None:
        classes = targets.shape[1] if targets.ndim == 2 else int(targets.max()) + 1
    return Data(
        read=lambda index: Inputs({"m": np.asarray(index, np.float32).reshape(-1, 1, 1, 1)}),
        targets=targets,
        split=np.asarray(split, dtype=str),
        unit=np.arange(count),
        shards=np.array([f"k{i}" for i in range(count)]),
        classes=tuple(f"c{k}" for k in range(classes)),
        bands={"m": ("b",)},
        scaling={"m": (1.0, 0.0)},
        dataset="given",
        manifest_hash="0" * 64,
        folder=None,
        **more,
    )


def benchmark(task, primary, **more):
    """A benchmark of a task, for jobs."""
    return replace(get_benchmark("bigearthnet-s2"), task=task, primary=primary, **more)


def eight(task):
    """Eight samples three times over, as train, val and test, with separable features [24, 6]."""
    rng = np.random.default_rng(3)
    x = np.tile(rng.normal(size=(8, 6)), (3, 1))
    targets = {
        "class": np.tile(np.arange(8) % 3, 3),
        "multilabel": np.tile(
            np.array([[k == i % 4 or k == i // 3 for k in range(4)] for i in range(8)]), (3, 1)
        ),
        "regression": np.tile(rng.normal(5.0, 3.0, (8, 2)), (3, 1)),
    }[task]
    return x, data(targets, np.repeat(["train", "val", "test"], 8))


PRIMARY = {"class": "oa", "multilabel": "map", "regression": "r2"}
