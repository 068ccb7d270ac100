"""Several labels a sample."""

from typing import Any

import numpy as np

from probes.benchmarks.base import Data
from probes.statistics.answers import LabelAnswers
from probes.statistics.metrics import multilabel_metrics


class Labels:
    """Predictions are scores [n, K], comparable between classes."""

    shape = "scores [n, K]"

    def outputs(self, data: Data) -> int:
        """One a label."""
        return len(data.classes)

    def truth(self, data: Data, rows: np.ndarray) -> np.ndarray:
        """Labels [n, K] bool."""
        return data.targets[rows]

    def score(self, metric: str, truth: np.ndarray, predictions: np.ndarray) -> float:
        """Average precision, macro or micro."""
        return float(multilabel_metrics(truth, predictions, np.ones(len(truth)))[metric])

    def answers(self, data: Data, rows: np.ndarray, predictions: np.ndarray) -> LabelAnswers:
        """Truth and scores of every sample."""
        return LabelAnswers(data.targets[rows], predictions, data.unit[rows])

    def details(
        self, data: Data, answers: LabelAnswers, predictions: np.ndarray
    ) -> tuple[list[dict[str, Any]], None]:
        """Support and average precision a label."""
        truth = answers.truth
        ap = multilabel_metrics(truth, predictions, np.ones(len(truth)))["ap"]
        rows = zip(data.classes, truth.sum(0).tolist(), ap, strict=True)
        return [
            {"class": name, "support": s, "ap": float(a) if np.isfinite(a) else None}
            for name, s, a in rows
        ], None
