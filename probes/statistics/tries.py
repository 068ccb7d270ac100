"""A task answered several times, each time from other training samples."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.benchmarks.base import Data
from probes.statistics.answers import Scored
from probes.tasks.base import Task


@dataclass
class TryAnswers:
    """Answers of T tries on the same test samples; a metric is the mean over the tries.

    A resample draws units as given and T tries with replacement. The draw of tries depends on T
    and on the number of resamples alone, so two rows with as many tries stay paired.
    """

    tries: list[Any]
    units: int = field(init=False)

    def __post_init__(self) -> None:
        self.units = self.tries[0].units

    def metrics(self, counts: np.ndarray) -> dict[str, NDArray[np.float64]]:
        """Metrics [...] when unit u enters counts[..., u] times: means over the drawn tries.

        A try whose metric does not exist for a resample is left out of its mean.
        """
        counts = np.asarray(counts)
        shape, total = counts.shape[:-1], len(self.tries)
        weight = np.ones((total, *shape))
        if shape:
            generator = np.random.Generator(np.random.PCG64([total, *shape]))
            drawn = generator.multinomial(total, np.full(total, 1 / total), size=shape)
            weight = np.moveaxis(drawn, -1, 0).astype(np.float64)
        found = [one.metrics(counts) for one in self.tries]
        result = {}
        for name in found[0]:
            values = np.stack([one[name] for one in found])
            known = np.where(np.isfinite(values), weight, 0.0)
            with np.errstate(invalid="ignore"):
                result[name] = (known * np.nan_to_num(values)).sum(0) / known.sum(0)
        return result


class Tries:
    """The same task for predictions [T, n, ...], one entry a try."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.shape = f"of each try, {task.shape}"

    def outputs(self, data: Data) -> int:
        """As the task."""
        return self.task.outputs(data)

    def truth(self, data: Data, rows: np.ndarray) -> np.ndarray:
        """As the task."""
        return self.task.truth(data, rows)

    def score(self, metric: str, truth: np.ndarray, predictions: np.ndarray) -> float:
        """Score one try."""
        return self.task.score(metric, truth, predictions)

    def answers(self, data: Data, rows: np.ndarray, predictions: np.ndarray) -> Scored:
        """Keep the answers of every try."""
        return TryAnswers([self.task.answers(data, rows, one) for one in predictions])

    def details(
        self, data: Data, answers: TryAnswers, predictions: np.ndarray
    ) -> tuple[list[dict[str, Any]], list[list[int]] | None]:
        """Means over the tries of the numbers of each class, and the sum of the matrices."""
        pairs = zip(answers.tries, predictions, strict=True)
        found = [self.task.details(data, kept, one) for kept, one in pairs]
        rows = []
        for same in zip(*(part[0] for part in found), strict=True):
            rows.append({key: _mean([row[key] for row in same]) for key in same[0]})
        matrices = [part[1] for part in found if part[1] is not None]
        return rows, np.sum(matrices, axis=0).tolist() if matrices else None


def _mean(values: list[Any]) -> Any:
    """The mean of numbers, of the known ones; the value itself where all tries agree."""
    if all(value == values[0] for value in values):
        return values[0]
    known = [value for value in values if value is not None]
    return float(np.mean(known))
