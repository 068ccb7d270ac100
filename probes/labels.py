"""Fewer labels: which training samples a protocol may use."""

import numpy as np

from probes.benchmarks.base import Data


def subset(data: Data, rows: np.ndarray, per_class: int | None, seed: int) -> np.ndarray:
    """Draw at most `per_class` of the given samples of each class, without replacement.

    Multi-label sets are cut to `per_class` times the classes. The draw depends on the benchmark
    and the seed alone, so every model gets the same one.
    """
    if per_class is None:
        return rows
    order = np.random.Generator(np.random.PCG64([seed, 1])).permutation(rows)
    if data.targets.ndim == 2:
        return np.sort(order[: per_class * len(data.classes)])
    targets = data.targets[order]
    kept = [order[targets == k][:per_class] for k in range(len(data.classes))]
    return np.sort(np.concatenate(kept))
