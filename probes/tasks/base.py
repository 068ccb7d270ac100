"""What a task owes: its truth, its score, its answers, and the details of a result."""

from typing import Any, Protocol

import numpy as np

from probes.benchmarks.base import Data
from probes.statistics.answers import Scored

LOWER_IS_BETTER = frozenset({"rmse", "mae", "km_median"})
"""Metrics that are errors; everything else is better when it is larger."""


class Task(Protocol):
    """How predictions are compared with the truth; `n` samples, K outputs a sample."""

    shape: str
    """The predictions in words."""

    def outputs(self, data: Data) -> int:
        """Number of outputs K of a head."""

    def truth(self, data: Data, rows: np.ndarray) -> np.ndarray:
        """Targets of some samples."""

    def score(self, metric: str, truth: np.ndarray, predictions: np.ndarray) -> float:
        """One metric of the predictions, of which larger is better (an error is negated)."""

    def answers(self, data: Data, rows: np.ndarray, predictions: np.ndarray) -> Scored:
        """Keep the test answers so that they can be resampled by unit."""

    def details(
        self, data: Data, answers: Any, predictions: np.ndarray
    ) -> tuple[list[dict[str, Any]], list[list[int]] | None]:
        """Rows a class (or target) and, where there is one, the confusion matrix."""


TASKS: dict[str, Task] = {}
"""Name of `Benchmark.task` to the task."""


def signed(metric: str, value: float) -> float:
    """Turn a metric into a score of which larger is better."""
    return -float(value) if metric in LOWER_IS_BETTER else float(value)
