"""A class a pixel: land cover, or change between two dates."""

from typing import Any

import numpy as np

from probes.benchmarks.base import Data
from probes.statistics.answers import ClassAnswers
from probes.statistics.metrics import class_metrics, per_class

NAMES = ("miou", "f1", "oa", "aa", "kappa")
POSITIVE = ("f1_positive", "iou_positive")


class Maps:
    """Predictions are confusion matrices [n, K, K], one a sample, ignored pixels left out.

    They are summed before any metric is taken, over all images: a mean of the images' scores
    would depend on how a scene is cut.
    """

    shape = "confusion matrices [n, K, K]"

    def outputs(self, data: Data) -> int:
        """One a class."""
        return len(data.classes)

    def truth(self, data: Data, rows: np.ndarray) -> np.ndarray:
        """Nothing: the predictions hold the truth. Maps are read with `data.maps`."""
        return np.zeros(len(rows))

    def score(self, metric: str, truth: np.ndarray, predictions: np.ndarray) -> float:
        """One of `class_metrics`."""
        return float(class_metrics(predictions.sum(0))[metric])

    def answers(self, data: Data, rows: np.ndarray, predictions: np.ndarray) -> ClassAnswers:
        """Sum the matrices of each unit."""
        _, index = np.unique(data.unit[rows], return_inverse=True)
        sums = np.zeros((int(index.max()) + 1, *predictions.shape[1:]), np.int64)
        np.add.at(sums, index, predictions)
        return ClassAnswers(sums, NAMES + POSITIVE if len(data.classes) == 2 else NAMES)

    def details(
        self, data: Data, answers: ClassAnswers, predictions: np.ndarray
    ) -> tuple[list[dict[str, Any]], list[list[int]]]:
        """Support, recall, precision, F1 and IoU a class, and the confusion matrix."""
        matrix = answers.sums.sum(0)
        rows = zip(data.classes, per_class(matrix), strict=True)
        return [{"class": name, **row} for name, row in rows], matrix.tolist()
