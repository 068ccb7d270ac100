"""Physical values of a benchmark's pixels, and their statistics over the training split."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError
from probes.benchmarks.base import Data

MOST = 2048
"""Training samples that statistics are taken of, drawn by the seed."""


def physical(array: np.ndarray, scaling: tuple[float, float]) -> np.ndarray:
    """Stored numbers to physical units in float64; floating arrays are physical already."""
    if array.dtype.kind == "f":
        return array.astype(np.float64)
    return array.astype(np.float64) * scaling[0] + scaling[1]


@dataclass(frozen=True)
class Moments:
    """Statistics [C] of each band over valid training pixels, physical units.

    Attributes:
        mean: of the band.
        spread: its deviation, 1 where it is constant.
        high: its largest value.
    """

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    high: NDArray[np.float64]


def training_rows(data: Data, seed: int) -> NDArray[np.int64]:
    """At most `MOST` training samples, drawn by the seed, ascending."""
    order = np.random.Generator(np.random.PCG64([seed, 2])).permutation(data.of("train"))
    return np.sort(order[:MOST])


def moments(data: Data, rows: NDArray[np.int64], batch_size: int = 256) -> dict[str, Moments]:
    """Statistics of some samples, a modality each.

    Raises:
        FMError: a modality has no valid pixel in them.
    """
    sums: dict[str, np.ndarray] = {}
    highs: dict[str, np.ndarray] = {}
    for start in range(0, len(rows), batch_size):
        inputs = data.read(rows[start : start + batch_size])
        for modality, array in inputs.pixels.items():
            x = np.moveaxis(physical(array, data.scaling[modality]), 1, -1)
            known = x.reshape(-1, x.shape[-1])
            if inputs.valid is not None:
                known = x[inputs.valid[modality]]
            part = np.stack([np.full(known.shape[1], len(known)), known.sum(0), (known**2).sum(0)])
            high = known.max(0, initial=-np.inf)
            sums[modality] = sums[modality] + part if modality in sums else part
            highs[modality] = np.maximum(highs.get(modality, high), high)
    found = {}
    for modality, (count, total, squares) in sums.items():
        if (count == 0).any():
            raise FMError(f"{data.dataset}: {modality} has no valid pixel in the training split")
        mean = total / count
        spread = np.sqrt(np.maximum(squares / count - mean**2, 0))
        flat = spread <= 1e-7 * np.maximum(np.abs(mean), 1e-30)  # rounding of a constant band
        found[modality] = Moments(mean, np.where(flat, 1.0, spread), highs[modality])
    return found
