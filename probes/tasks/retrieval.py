"""Finding like samples of a gallery."""

from typing import Any

import numpy as np

from probes.benchmarks.base import Data
from probes.statistics.answers import QueryAnswers

CUTOFFS = (10, 100, 1000)
NAMES = (*(f"ndcg@{k}" for k in CUTOFFS), *(f"map@{k}" for k in CUTOFFS))
"""Columns of the predictions; a metric is their mean over the queries."""


class Retrieval:
    """Predictions are the measures of each query, [n, 6]: see `NAMES`, `probes.statistics.ranking`.

    They are means over queries, so what is kept of a ranking is its measures. A query with nothing
    to find in the gallery has none, and does not count.
    """

    shape = "measures [n, 6]"

    def outputs(self, data: Data) -> int:
        """One a measure."""
        return len(NAMES)

    def truth(self, data: Data, rows: np.ndarray) -> np.ndarray:
        """Classes or labels of the queries."""
        return data.targets[rows]

    def score(self, metric: str, truth: np.ndarray, predictions: np.ndarray) -> float:
        """The mean of a measure."""
        values = predictions[:, NAMES.index(metric)]
        known = np.isfinite(values)
        return float(values[known].mean()) if known.any() else float("nan")

    def answers(self, data: Data, rows: np.ndarray, predictions: np.ndarray) -> QueryAnswers:
        """Measures of every query."""
        return QueryAnswers(dict(zip(NAMES, predictions.T, strict=True)), data.unit[rows])

    def details(
        self, data: Data, answers: QueryAnswers, predictions: np.ndarray
    ) -> tuple[list[dict[str, Any]], None]:
        """The mean of the first nDCG and AP over the queries that hold each class or label."""
        truth = data.targets[data.of("test")]
        member = truth.astype(bool)
        if truth.ndim == 1:
            member = truth[:, None] == np.arange(len(data.classes))
        shown = (NAMES[0], NAMES[len(CUTOFFS)])
        rows = []
        for place, name in enumerate(data.classes):
            own = predictions[member[:, place]]
            values = {m: self.score(m, truth, own) for m in shown}
            known = {m: v if np.isfinite(v) else None for m, v in values.items()}
            rows.append({"class": name, "support": len(own), **known})
        return rows, None
