"""What a family is given and what it gives back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fm.errors import FMError
from probes.benchmarks.base import Benchmark, Data
from probes.features.extraction import Account, extract
from probes.features.floors import floor_features
from probes.geolocation import choice
from probes.settings import OnFeatures
from probes.statistics.tries import Tries
from probes.tasks import TASKS, Task


@dataclass
class Outcome:
    """Test predictions and how they came about.

    Attributes:
        predictions: of the test samples in order, as the task wants them (`Task.shape`).
        selection: as in the result's JSON; None where nothing was chosen.
        notes: what a reader of the numbers has to know.
        predict: features [n, D] as `Job.features` gives them to predictions, by what was fitted
            on the training samples; None where a protocol does not work on them.
        scale: what the predictions of classes or labels are: `logits` (softmax or sigmoid makes
            them probabilities), `probabilities`, or None for anything else.
        val: the same predictions of the val samples, where `predict` is None.
        features: [N, D] of all samples, which `predict` was fitted on.
        source: the job that made them, where it is not the one that ran.
    """

    predictions: np.ndarray
    selection: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    predict: Callable[[np.ndarray], np.ndarray] | None = None
    scale: Literal["logits", "probabilities"] | None = None
    val: np.ndarray | None = None
    features: np.ndarray | None = None
    source: "Job | None" = None


@dataclass(frozen=True)
class Job:
    """One protocol on one benchmark for one model.

    Attributes:
        settings: the protocol's, of the family that runs.
        benchmark: what it is judged on.
        data: the benchmark, opened.
        model: None for a floor.
        seed: of everything that is random.
        cache: folder for features; None keeps none.
        label: name of the model beside progress bars.
        processes: that share the encoding.
        account: is told how pixels came to the model, and what that cost.
        made: features of floors that were made before, by benchmark and floor; is added to.
        folder: that the model was loaded from; of a random-initialised one, its pretrained twin's.
    """

    settings: Any
    benchmark: Benchmark
    data: Data
    model: Any
    seed: int
    cache: Path | None
    label: str
    processes: int = 1
    account: Account = field(default_factory=Account)
    made: dict[str, np.ndarray] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def task(self) -> Task:
        """What is asked of a sample; by few-shot protocols several times."""
        task = TASKS[self.benchmark.task]
        return Tries(task) if hasattr(self.settings, "tries") else task

    @property
    def splits(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Numbers of the train, val and test samples."""
        train, val, test = (self.data.of(name) for name in ("train", "val", "test"))
        return train, val, test

    @property
    def classed(self) -> bool:
        """Whether a target is one class number: the class asked for, or the cell of a place."""
        return self.benchmark.task in ("class", "geolocation")

    def answer(self, scores: np.ndarray, scale: str | None = None) -> np.ndarray:
        """Predictions as the task wants them of scores [n, K]: places, where classes are cells.

        Args:
            scores: of classes, labels or targets.
            scale: what they are, as in `Outcome`; None where they are only ranked.
        """
        if self.data.cells is None:
            return scores
        return choice.places(self.data.cells, scores, scale)

    def known(self, rows: np.ndarray) -> np.ndarray:
        """Those of some samples that have a class: a place of val may lie in no cell."""
        return rows if self.data.cells is None else rows[self.data.targets[rows] >= 0]

    def score(self, rows: np.ndarray, predictions: np.ndarray) -> float:
        """The primary metric of predictions for some samples; larger is better."""
        truth = self.task.truth(self.data, rows)
        return self.task.score(self.benchmark.primary, truth, predictions)

    def features(self) -> np.ndarray:
        """One vector a sample, [N, D]: the model's, or a floor's; settings are `OnFeatures`."""
        settings: OnFeatures = self.settings
        if settings.input != "model":
            name = f"{self.benchmark.full_name} {settings.input}"
            if name not in self.made:
                self.made[name] = floor_features(settings.input, self.data, self.seed)
            return self.made[name]
        return extract(
            self.model,
            self.data,
            benchmark=self.benchmark.full_name,
            cache=self.cache,
            precision=settings.precision,
            words=settings.readout,
            axes=settings.axes,
            processes=self.processes,
            account=self.account,
        )


def best_of(values: Sequence[float]) -> int:
    """Place of the largest value, the first of equal ones; NaN never wins over a number."""
    return int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))


REFIT = "train and val"
"""`selection["refit"]` where the scored model was fitted on the samples it was chosen by."""


def selection(
    name: str, grid: Sequence[Any], values: Sequence[float], best: int, refit: str = "train only"
) -> dict[str, Any]:
    """Tell what was tried on val and what was chosen, as results keep it.

    Raises:
        FMError: nothing that was tried has a score, so that the choice would be a guess.
    """
    if not np.isfinite(values[best]):
        raise FMError(
            f"{name} cannot be chosen: nothing that was tried has a score on val; does val hold "
            f"what the metric asks for?"
        )
    return {
        "split": "val",
        "name": name,
        "grid": list(grid),
        "scores": [float(v) if np.isfinite(v) else None for v in values],
        "chosen": grid[best],
        "on_edge": len(grid) > 1 and best in (0, len(grid) - 1),
        "refit": refit,
    }


def edge_note(name: str, grid: Sequence[Any], chosen: Any) -> list[str]:
    """Warn where the best value lies at an end of its grid: a better one may lie beyond."""
    if len(grid) < 2 or chosen not in (grid[0], grid[-1]):
        return []
    end = "lower" if chosen == grid[0] else "upper"
    return [f"{name}={chosen:g} is the {end} end of its grid: a better one may lie beyond"]


def standardise(features: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Scale features with the mean and deviation of the training rows; constants become 0."""
    return scaler(features[train])(features)


def scaler(train: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the scaling by the mean and deviation of features [N, D]; constants become 0."""
    x = np.asarray(train, np.float64)
    mean, spread = x.mean(0), x.std(0)
    # a deviation that is rounding of a constant column is no deviation
    flat = spread <= 1e-10 * np.maximum(np.abs(mean), 1e-30)
    divisor = np.where(flat, 1.0, spread)
    return lambda features: np.where(flat, 0.0, (np.asarray(features, np.float64) - mean) / divisor)
