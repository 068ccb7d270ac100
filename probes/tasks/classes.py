"""One class a sample."""

from typing import Any

import numpy as np

from probes.benchmarks.base import Data
from probes.statistics.answers import ClassAnswers
from probes.statistics.metrics import class_metrics, confusion, per_class


class Classes:
    """Predictions are scores [n, K]; the largest is the answer."""

    shape = "scores [n, K]"

    def outputs(self, data: Data) -> int:
        """One a class."""
        return len(data.classes)

    def truth(self, data: Data, rows: np.ndarray) -> np.ndarray:
        """Class numbers [n]."""
        return data.targets[rows]

    def score(self, metric: str, truth: np.ndarray, predictions: np.ndarray) -> float:
        """One of `class_metrics`."""
        matrix = confusion(truth, predictions.argmax(1), predictions.shape[1])
        return float(class_metrics(matrix)[metric])

    def answers(self, data: Data, rows: np.ndarray, predictions: np.ndarray) -> ClassAnswers:
        """One confusion matrix a unit."""
        guess = predictions.argmax(1)
        return ClassAnswers.of(data.targets[rows], guess, data.unit[rows], len(data.classes))

    def details(
        self, data: Data, answers: ClassAnswers, predictions: np.ndarray
    ) -> tuple[list[dict[str, Any]], list[list[int]]]:
        """Support, recall, precision and F1 a class, and the confusion matrix."""
        matrix = answers.sums.sum(0)
        rows = zip(data.classes, per_class(matrix), strict=True)
        return [{"class": name, **row} for name, row in rows], matrix.tolist()
