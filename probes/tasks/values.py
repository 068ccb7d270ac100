"""One or several numbers a sample."""

from typing import Any

import numpy as np

from probes.benchmarks.base import Data
from probes.statistics.answers import ValueAnswers
from probes.tasks.base import signed


class Values:
    """Predictions are numbers [n, T]; a target that is NaN is not known and does not count."""

    shape = "numbers [n, T]"

    def outputs(self, data: Data) -> int:
        """One a target."""
        return len(data.classes)

    def truth(self, data: Data, rows: np.ndarray) -> np.ndarray:
        """Numbers [n, T]."""
        return data.targets[rows]

    def score(self, metric: str, truth: np.ndarray, predictions: np.ndarray) -> float:
        """R^2, or an error with its sign turned."""
        answers = ValueAnswers.of(truth, predictions, np.zeros(len(truth), np.int64))
        return signed(metric, float(answers.metrics(np.ones(1))[metric]))

    def answers(self, data: Data, rows: np.ndarray, predictions: np.ndarray) -> ValueAnswers:
        """Sums a unit."""
        return ValueAnswers.of(data.targets[rows], predictions, data.unit[rows])

    def details(
        self, data: Data, answers: ValueAnswers, predictions: np.ndarray
    ) -> tuple[list[dict[str, Any]], None]:
        """R^2 and errors a target."""
        rows = []
        for place, name in enumerate(data.classes):
            alone = ValueAnswers(answers.sums[:, place : place + 1])
            found = alone.metrics(np.ones(alone.units))
            values = {k: float(v) if np.isfinite(v) else None for k, v in found.items()}
            support = int(answers.sums[:, place, 0].sum())
            rows.append({"class": name, "support": support, **values})
        return rows, None
