"""Bootstrap intervals whose unit is the block or the image, never the pixel.

Neighbouring pixels repeat each other, so resampling them one by one gives intervals that are far
too narrow. A resample draws whole units with replacement (Efron and Tibshirani, An Introduction
to the Bootstrap, chapters 8 and 13: percentile interval); differences between two models use the
same draws for both.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from probes.metrics import class_metrics, confusion, multilabel_metrics

RESAMPLES = 1000
LEVEL = 0.95


class Scored(Protocol):
    """Test answers of one model, ready to be reweighted by units."""

    units: int

    def metrics(self, counts: np.ndarray) -> dict[str, NDArray[np.float64]]:
        """Metrics [...] when unit u enters counts[..., u] times."""


@dataclass
class ClassAnswers:
    """Single-label answers as one confusion matrix a unit: `sums` is [U, K, K]."""

    sums: NDArray[np.int64]
    units: int = field(init=False)

    def __post_init__(self) -> None:
        self.units = len(self.sums)

    @classmethod
    def of(
        cls, truth: np.ndarray, predicted: np.ndarray, unit: np.ndarray, classes: int
    ) -> "ClassAnswers":
        """Build from [N] class numbers and the [N] unit of each sample (any integers)."""
        _, index = np.unique(unit, return_inverse=True)
        count = int(index.max()) + 1
        return cls(
            np.stack(
                [confusion(truth[index == u], predicted[index == u], classes) for u in range(count)]
            )
        )

    def metrics(self, counts: np.ndarray) -> dict[str, NDArray[np.float64]]:
        """Sum the units' matrices with multiplicities [..., U] and score the sums."""
        classes = self.sums.shape[1]
        total = np.asarray(counts, np.float64) @ self.sums.reshape(self.units, -1)
        return class_metrics(total.reshape(*total.shape[:-1], classes, classes))


@dataclass
class LabelAnswers:
    """Multi-label answers: truth [N, K] bool, scores [N, K], unit [N] from 0."""

    truth: np.ndarray
    scores: np.ndarray
    unit: np.ndarray
    units: int = field(init=False)

    def __post_init__(self) -> None:
        _, self.unit = np.unique(self.unit, return_inverse=True)
        self.units = int(self.unit.max()) + 1

    def metrics(self, counts: np.ndarray) -> dict[str, NDArray[np.float64]]:
        """Weigh each sample by the multiplicity [..., U] of its unit."""
        found = multilabel_metrics(self.truth, self.scores, np.asarray(counts)[..., self.unit])
        return {"map": found["map"], "map_micro": found["map_micro"]}


def draws(units: int, seed: int, resamples: int = RESAMPLES) -> NDArray[np.int64]:
    """Draw multiplicities [resamples, units]; the same for every model with these arguments."""
    generator = np.random.Generator(np.random.PCG64([seed, units, resamples]))
    return generator.multinomial(units, np.full(units, 1 / units), size=resamples)


def percentile(values: np.ndarray, level: float = LEVEL) -> tuple[float | None, float | None]:
    """The central interval of resampled values; resamples without a value (NaN) are left out."""
    kept = values[np.isfinite(values)]
    if not len(kept):
        return None, None
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def intervals(answers: Scored, seed: int) -> dict[str, dict[str, float | None]]:
    """Each metric with its bootstrap interval.

    Returns:
        metric name -> `value`, `low`, `high`; None where a value does not exist.
    """
    point = answers.metrics(np.ones(answers.units, np.int64))
    spread = answers.metrics(draws(answers.units, seed))
    result = {}
    for name, value in point.items():
        low, high = percentile(spread[name])
        result[name] = {"value": _number(value), "low": low, "high": high}
    return result


def paired(first: Scored, second: Scored, metric: str, seed: int) -> dict[str, float | None]:
    """The difference `first - second` of one metric with its paired bootstrap interval.

    Both must hold the same test units in the same order.
    """
    if first.units != second.units:
        raise ValueError("paired answers must share their test units")
    one = np.ones(first.units, np.int64)
    counts = draws(first.units, seed)
    low, high = percentile(first.metrics(counts)[metric] - second.metrics(counts)[metric])
    value = first.metrics(one)[metric] - second.metrics(one)[metric]
    return {"difference": _number(value), "low": low, "high": high}


def _number(value: np.ndarray) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None
