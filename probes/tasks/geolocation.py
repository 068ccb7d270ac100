"""Where a sample was taken."""

from typing import Any

import numpy as np

from probes.benchmarks.base import Data
from probes.statistics.places import MEDIAN, PlaceAnswers
from probes.tasks.base import signed


class Geolocation:
    """Predictions are places [n, A, 2] in degrees, one for each way to answer; the first counts."""

    shape = "places [n, A, 2]"

    def outputs(self, data: Data) -> int:
        """One a cell."""
        return len(data.classes)

    def truth(self, data: Data, rows: np.ndarray) -> np.ndarray:
        """Places [n, 2], not their cells: an answer in the right cell may still be far off."""
        assert data.lonlat is not None
        return data.lonlat(rows)

    def score(self, metric: str, truth: np.ndarray, predictions: np.ndarray) -> float:
        """A share within a distance, or the median error with its sign turned."""
        answers = PlaceAnswers.of(truth, predictions[:, :1], np.zeros(len(truth), np.int64))
        return signed(metric, float(answers.metrics(np.ones(1))[metric]))

    def answers(self, data: Data, rows: np.ndarray, predictions: np.ndarray) -> PlaceAnswers:
        """Errors of every sample."""
        return PlaceAnswers.of(self.truth(data, rows), predictions, data.unit[rows])

    def details(
        self, data: Data, answers: PlaceAnswers, predictions: np.ndarray
    ) -> tuple[list[dict[str, Any]], None]:
        """Median error of the samples that lie in each cell; the last row is of those in none."""
        cell = data.targets[data.of("test")]
        rows = []
        for number, name in (*enumerate(data.classes), (-1, "no cell")):
            km = answers.km[cell == number, 0]
            value = float(np.median(km)) if len(km) else np.inf
            known = value if np.isfinite(value) else None
            rows.append({"class": name, "support": len(km), MEDIAN: known})
        return rows, None
