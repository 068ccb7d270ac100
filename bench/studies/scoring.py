"""What studies share: pretrained runs, windows to features, one probe, paired intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pretrain
import shards
from fm.console import note
from fm.errors import FMError, UsageError
from fm.files import read_json
from probes.families.job import best_of, standardise
from probes.solvers import logistic
from probes.statistics.bootstrap import Scored, draws, percentile
from shards.sources import get_source

GRID = tuple(float(c) for c in np.geomspace(1e-5, 1e5, 21))
"""Values of C; wide enough that no choice lies on its edge."""


def only_test(split: str) -> None:
    """Refuse another split of a study in which nothing is chosen.

    Raises:
        UsageError: another than `test`.
    """
    if split != "test":
        raise UsageError(f"--split {split}: nothing here is chosen, so test alone is scored")


def dataset(source: str, folder: Path, cache: Path, words: Sequence[str] = ()) -> Path:
    """Build a source's dataset unless it is there; return its folder."""
    if (folder / "dataset.json").is_file():
        return folder
    import argparse

    found = get_source(source)
    parser = argparse.ArgumentParser()
    found.configure(parser)
    arguments = parser.parse_args(list(words))
    arguments.cache = str(cache)
    content = found.read(arguments)
    note(f"building {source}")
    shards.write_dataset(
        folder,
        content.samples(),
        name=content.name,
        modalities=content.modalities,
        labels=content.labels,
        provenance=content.provenance,
        licence=content.licence,
        total=len(content.tasks),
    )
    return folder


def pretrained(recipe: str, overrides: Sequence[str], out: Path) -> tuple[Path, dict[str, Any]]:
    """Run a recipe, or find it run; return its checkpoint and what `state.json` says of it.

    Raises:
        FMError: the run did not end.
    """
    result = pretrain.run(recipe, [*overrides, f"out={out}"])
    if result.export is None:
        raise FMError(f"{out}: the run was stopped")
    return Path(result.export), read_json(out / "state.json")["result"]


@dataclass(frozen=True)
class Probe:
    """A logistic regression fitted on train, its C chosen on val.

    Attributes:
        fit: of the chosen C.
        mean: of the training features.
        spread: of the training features.
        c: the chosen value.
        val: accuracy on val.
        on_edge: the choice lies on the grid's edge.
    """

    fit: logistic.Fit
    mean: np.ndarray
    spread: np.ndarray
    c: float
    val: float
    on_edge: bool

    @classmethod
    def of(
        cls,
        features: np.ndarray,
        targets: np.ndarray,
        train: np.ndarray,
        val: np.ndarray,
        *,
        classes: int,
        grid: Sequence[float] = GRID,
    ) -> "Probe":
        """Fit a probe.

        Args:
            features: `[N, D]`.
            targets: `[N]` class numbers.
            train: rows to fit on.
            val: rows to choose C on, by overall accuracy, the smallest C of equal ones.
            classes: K.
            grid: values of C.
        """
        x = standardise(features, train)
        found = logistic.fit(
            x[train], targets[train], grid, classes=classes, tol=1e-4, dtype=torch.float32
        )
        values = [float((s.argmax(1) == targets[val]).mean()) for s in found.scores(x[val])]
        best = best_of(values)
        final = logistic.fit(x[train], targets[train], [grid[best]], classes=classes)
        rows = np.asarray(features, np.float64)[train]
        mean, spread = rows.mean(0), rows.std(0)
        spread = np.where(spread <= 1e-10 * np.maximum(np.abs(mean), 1e-30), np.inf, spread)
        return cls(final, mean, spread, grid[best], values[best], best in (0, len(grid) - 1))

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return the class of each row."""
        x = (np.asarray(features, np.float64) - self.mean) / self.spread
        return np.asarray(self.fit.scores(x)[0].argmax(1))


Statistic = Callable[[Mapping[str, np.ndarray]], np.ndarray]


def with_interval(
    statistic: Statistic, answers: Mapping[str, Sequence[Scored]], *, metric: str = "oa"
) -> dict[str, Any]:
    """Return a statistic of several methods' scores with its paired bootstrap interval.

    A method's score is the mean over its runs (pretraining seeds, label lists). A resample draws
    test units and, beside them, runs, both with replacement: the same units for all methods and
    the same runs for methods that have as many, so the interval holds what another seed would
    change.

    Args:
        statistic: from method to scores `[...]` to a number `[...]`.
        answers: method to one set of answers a run.
        metric: a name that their `metrics` give.

    Returns:
        `value`, `low`, `high`; `runs`, by method the score of each run; and `lost`, resamples
        without a value.
    """
    units = next(iter(answers.values()))[0].units
    counts = draws(units, 0)
    one = np.ones(units, np.int64)
    point, spread, runs = {}, {}, {}
    for name, given in answers.items():
        own = np.array([float(a.metrics(one)[metric]) for a in given])
        resampled = np.stack([a.metrics(counts)[metric] for a in given])
        drawn = draws(len(given), 1, len(counts)) / len(given)
        point[name], runs[name] = own.mean(), own.tolist()
        spread[name] = (resampled * drawn.T).sum(axis=0)
    found = np.asarray(statistic(spread))
    low, high = percentile(found)
    lost = int((~np.isfinite(found)).sum())
    value = float(statistic({k: np.asarray(v) for k, v in point.items()}))
    return {"value": value, "low": low, "high": high, "runs": runs, "lost": lost}
