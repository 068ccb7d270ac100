"""Test answers of one model, kept so that they can be reweighted by units (blocks or images).

A metric of a resample is computed from the same answers with other multiplicities of the units;
what can be summed beforehand (confusion matrices, squared errors) is.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from probes.statistics.metrics import class_metrics, multilabel_metrics

LARGEST = 2**24
"""Numbers in one array of weights; more resamples are taken in parts."""


class Scored(Protocol):
    """Test answers of one model, ready to be reweighted by units."""

    units: int

    def metrics(self, counts: np.ndarray) -> dict[str, NDArray[np.float64]]:
        """Metrics [...] when unit u enters counts[..., u] times."""


@dataclass
class ClassAnswers:
    """Answers of one class a sample, or a pixel.

    Attributes:
        sums: [U, K, K], one confusion matrix a unit.
        names: the metrics to give, of `probes.statistics.metrics.class_metrics`.
    """

    sums: NDArray[np.int64]
    names: tuple[str, ...] = ("oa", "aa", "kappa", "f1")
    units: int = field(init=False)

    def __post_init__(self) -> None:
        self.units = len(self.sums)

    @classmethod
    def of(
        cls, truth: np.ndarray, predicted: np.ndarray, unit: np.ndarray, classes: int
    ) -> "ClassAnswers":
        """Build from [N] class numbers and the [N] unit of each sample (any integers)."""
        _, index = np.unique(unit, return_inverse=True)
        sums = np.zeros((int(index.max()) + 1, classes, classes), np.int64)
        np.add.at(sums, (index, truth, predicted), 1)
        return cls(sums)

    def metrics(self, counts: np.ndarray) -> dict[str, NDArray[np.float64]]:
        """Sum the units' matrices with multiplicities [..., U] and score the sums."""
        classes = self.sums.shape[1]
        total = np.asarray(counts, np.float64) @ self.sums.reshape(self.units, -1)
        found = class_metrics(total.reshape(*total.shape[:-1], classes, classes))
        return {name: found[name] for name in self.names}


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
        counts = np.asarray(counts)
        rows = counts.reshape(-1, self.units)
        # micro averaging ranks N * K pairs in every resample: a bounded number at once
        step = max(1, LARGEST // self.truth.size)
        parts = [
            multilabel_metrics(self.truth, self.scores, rows[i : i + step][:, self.unit])
            for i in range(0, len(rows), step)
        ]
        return {
            name: np.concatenate([part[name] for part in parts]).reshape(counts.shape[:-1])
            for name in ("map", "map_micro")
        }


@dataclass
class ValueAnswers:
    """Answers of a regression with T targets, as sums a unit.

    Attributes:
        sums: [U, T, 5]: number, sum of y, of y^2, of squared errors and of absolute errors over
            the samples whose target is known.
    """

    sums: NDArray[np.float64]
    units: int = field(init=False)

    def __post_init__(self) -> None:
        self.units = len(self.sums)

    @classmethod
    def of(cls, truth: np.ndarray, predicted: np.ndarray, unit: np.ndarray) -> "ValueAnswers":
        """Build from [N, T] values, NaN in the truth where a target is not known."""
        _, index = np.unique(unit, return_inverse=True)
        known = np.isfinite(truth)
        # sums of y^2 are taken around a value of the middle, so that they keep their digits
        y = np.where(known, truth - np.nanmean(truth, axis=0), 0.0)
        error = np.where(known, predicted - truth, 0.0)
        parts = np.stack([known, y, y**2, error**2, np.abs(error)], axis=-1)
        sums = np.zeros((int(index.max()) + 1, *parts.shape[1:]))
        np.add.at(sums, index, parts)
        return cls(sums)

    def metrics(self, counts: np.ndarray) -> dict[str, NDArray[np.float64]]:
        """R^2, root mean squared and mean absolute error, each the mean over the targets.

        R^2 is 1 - sum of squared errors / sum of squares around the mean of the same samples
        (scikit-learn's `r2_score`); NaN where a target does not vary.
        """
        total = np.asarray(counts, np.float64) @ self.sums.reshape(self.units, -1)
        total = total.reshape(*total.shape[:-1], *self.sums.shape[1:])
        n, y, squares, squared, absolute = np.moveaxis(total, -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = squares - y**2 / n
            r2 = np.where(spread > 1e-12 * squares, 1 - squared / spread, np.nan)
            rmse, mae = np.sqrt(squared / n), absolute / n
        return {"r2": r2.mean(-1), "rmse": rmse.mean(-1), "mae": mae.mean(-1)}


@dataclass
class QueryAnswers:
    """Answers of a retrieval: metrics of each query, averaged.

    Attributes:
        values: metric to [Q], NaN for a query that has nothing to find.
        unit: [Q] any integers.
    """

    values: dict[str, NDArray[np.float64]]
    unit: np.ndarray
    units: int = field(init=False)

    def __post_init__(self) -> None:
        _, self.unit = np.unique(self.unit, return_inverse=True)
        self.units = int(self.unit.max()) + 1

    def metrics(self, counts: np.ndarray) -> dict[str, NDArray[np.float64]]:
        """Weigh each query by the multiplicity [..., U] of its unit."""
        weight = np.asarray(counts, np.float64)[..., self.unit]
        found = {}
        for name, values in self.values.items():
            known = np.isfinite(values)
            with np.errstate(invalid="ignore"):
                total = weight[..., known] @ values[known]
                found[name] = total / weight[..., known].sum(-1)
        return found
