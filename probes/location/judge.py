"""Features of places judged on every task of their set: one decomposition, all alphas, all tasks.

The rules are those of all protocols: heads are fitted on train, alpha (or C, k) is chosen on val
by the primary metric, test is scored once.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError, UsageError
from probes.benchmarks.base import Benchmark, Data, Inputs
from probes.families.job import Job, best_of, edge_note, selection
from probes.judging.judge import judge
from probes.location.bias import geo_bias
from probes.location.points import VERSION, Places
from probes.location.splits import Split, units
from probes.location.tasks import Task
from probes.protocols import Protocol
from probes.settings import Ridge
from probes.solvers.spectrum import Spectrum
from probes.statistics.answers import Scored, ValueAnswers
from probes.statistics.bootstrap import draws, percentile
from probes.tasks import TASKS

FAMILIES = ("ridge", "linear", "knn", "mlp")
"""Protocols that need nothing but one vector a sample."""


@dataclass
class Hits:
    """Right answers of a task with one class a place: `sums` [U, 2], right ones and all."""

    sums: NDArray[np.float64]
    units: int = field(init=False)

    def __post_init__(self) -> None:
        self.units = len(self.sums)

    @classmethod
    def of(cls, right: np.ndarray, unit: np.ndarray) -> "Hits":
        """Sum [N] right or wrong by the [N] unit of each place."""
        _, index = np.unique(unit, return_inverse=True)
        parts = [np.bincount(index, weights=right), np.bincount(index)]
        return cls(np.stack(parts, 1).astype(np.float64))

    def metrics(self, counts: np.ndarray) -> dict[str, NDArray[np.float64]]:
        """Overall accuracy when unit u enters counts[..., u] times."""
        total = np.asarray(counts, np.float64) @ self.sums
        with np.errstate(invalid="ignore"):
            return {"oa": total[..., 0] / total[..., 1]}


@dataclass
class Cell:
    """One encoder on one task, split and seed.

    Attributes:
        task: what was asked.
        split: its name.
        seed: of the split.
        protocol: `NAME@VERSION`.
        metrics: to value, low, high.
        selection: what was tried on val.
        bias: see `geo_bias`.
        ceiling: share of the test places whose class occurs in train; None of numbers.
        answers: of the test places, by unit.
        predicted: `[n]` numbers or class numbers of the test places.
        parts: the split.
        notes: what a reader has to know.
        seconds: of the cell, its share of what it had in common with others.
    """

    task: Task
    split: str
    seed: int
    protocol: str
    metrics: dict[str, dict[str, float | None]]
    selection: dict[str, Any] | None
    bias: dict[str, float]
    ceiling: float | None
    answers: Scored
    predicted: np.ndarray
    parts: Split
    notes: list[str]
    seconds: float

    @property
    def value(self) -> float:
        """The primary metric."""
        return float(self.metrics[self.task.primary]["value"] or 0.0)


def ridge(
    features: np.ndarray,
    places: Places,
    tasks: Sequence[Task],
    parts: Split,
    protocol: Protocol,
    *,
    split: str = "",
    seed: int = 0,
) -> list[Cell]:
    """Judge by ridge regression; all tasks share one decomposition of the training features.

    Args:
        features: [N, D] of all places.
        places: where they are, and the truth.
        tasks: on this set.
        parts: the split.
        protocol: of the family `ridge`; classes are fitted as +1 and -1.
        split: the split's name.
        seed: of the split and the bootstrap.

    Returns:
        a cell a task, the same as `probes.families.ridge` gives.
    """
    begun = time.perf_counter()
    settings = protocol.settings
    if not isinstance(settings, Ridge) or settings.refit != "train":
        raise UsageError(f"{protocol.full_name} is no ridge protocol fitted on train alone")
    grid = settings.alpha.values()[::-1]  # so that the first of equal ones is the largest
    spectrum = Spectrum.of(features[parts.train], standard=settings.scale == "standard")
    columns = [targets(places, task) for task in tasks]
    ends = np.cumsum([0, *(c.shape[1] for c in columns)])
    heads = spectrum.fit(np.concatenate(columns, axis=1)[parts.train])
    val = spectrum.project(features[parts.val])
    scores: list[list[float]] = [[] for _ in tasks]
    for alpha in grid:
        made = heads.predict(val, alpha)
        for i, task in enumerate(tasks):
            truth = _truth(places, task, parts.val)
            scores[i].append(
                TASKS[task.kind].score(task.primary, truth, made[:, ends[i] : ends[i + 1]])
            )
    test = spectrum.project(features[parts.test])
    chosen = [best_of(values) for values in scores]
    spent = (time.perf_counter() - begun) / len(tasks)
    cells = []
    for i, task in enumerate(tasks):
        alpha = grid[chosen[i]]
        own = heads.part(slice(ends[i], ends[i + 1]))
        about = selection("alpha", grid, scores[i], chosen[i])
        cell = _cell(task, places, parts, own.predict(test, alpha), seed)
        cell.split, cell.protocol, cell.selection = split, protocol.full_name, about
        cell.notes += edge_note("alpha", grid[::-1], alpha)
        cell.seconds += spent
        cells.append(cell)
    return cells


def by_family(
    features: np.ndarray,
    places: Places,
    task: Task,
    parts: Split,
    protocol: Protocol,
    *,
    split: str = "",
    seed: int = 0,
    label: str = "",
) -> Cell:
    """Judge one task by any protocol on one vector a sample; arguments as `ridge`.

    Raises:
        UsageError: a protocol that needs images, or is for other tasks.
    """
    begun = time.perf_counter()
    settings = protocol.settings
    images = getattr(settings, "input", "model") != "model" or getattr(settings, "readout", None)
    if settings.family not in FAMILIES or images not in (None, False, ("pooled",), ["pooled"]):
        raise UsageError(
            f"{protocol.full_name} needs images; location encoders are judged by protocols on one "
            f"vector a sample: ridge, linear, knn, mlp"
        )
    job = _OnPlaces(
        settings=settings,
        benchmark=benchmark(task, split),
        data=as_data(places, task, parts),
        model=None,
        seed=seed,
        cache=None,
        label=label,
        given=features,
    )
    outcome = judge(protocol, job)
    cell = _cell(task, places, parts, outcome.predictions, seed)
    cell.split, cell.protocol, cell.selection = split, protocol.full_name, outcome.selection
    cell.notes += outcome.notes
    cell.seconds = time.perf_counter() - begun
    return cell


@dataclass(frozen=True)
class _OnPlaces(Job):
    """A job whose features are made already."""

    given: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def features(self) -> np.ndarray:
        return self.given


def targets(places: Places, task: Task) -> NDArray[np.float64]:
    """Targets as numbers [N, T]: one number, or +1 and -1 a class."""
    values = places.values[task.name]
    if task.kind == "regression":
        return np.asarray(values, np.float64)[:, None]
    return np.where(np.eye(len(places.classes[task.name]), dtype=bool)[values], 1.0, -1.0)


def benchmark(task: Task, split: str) -> Benchmark:
    """Describe a task under a split as benchmarks are described."""

    def load(folder: Path) -> Data:
        raise UsageError(f"location-{task.name}-{split} is of places; fm probe location:ENCODER")

    return Benchmark(
        name=f"location-{task.name}-{split}",
        version=VERSION,
        help=f"{task.help}; {split}",
        source=task.source,
        task=task.kind,
        primary=task.primary,
        unit="block",
        split=split,
        verified="real files",
        load=load,
    )


def as_data(places: Places, task: Task, parts: Split) -> Data:
    """The same as benchmarks of images give it; there are no pixels to read."""

    def read(index: NDArray[np.int64]) -> Inputs:
        raise FMError(f"{task.name} is asked of places; there are no pixels")

    values = places.values[task.name]
    split = np.full(len(values), "none", dtype="<U5")
    for name in ("train", "val", "test"):
        split[getattr(parts, name)] = name
    numbers = task.kind == "regression"
    return Data(
        read=read,
        targets=np.asarray(values, np.float64)[:, None] if numbers else values,
        split=split,
        unit=units(places.lonlat),
        shards=np.array([f"{places.name}-{i:05d}" for i in range(len(values))]),
        classes=(task.name,) if numbers else places.classes[task.name],
        bands={},
        scaling={},
        dataset=f"location-{places.name}",
        manifest_hash=places.sha256,
        folder=Path(),
        lonlat=lambda index: places.lonlat[index],
    )


def compare(first: Cell, second: Cell) -> dict[str, Any] | None:
    """The difference of two cells on the same test places, paired by unit."""
    metric = first.task.primary
    one = np.ones(first.answers.units)
    counts = _draws(first.answers.units, first.seed)
    low, high = percentile(
        first.answers.metrics(counts)[metric] - second.answers.metrics(counts)[metric]
    )
    value = float(first.answers.metrics(one)[metric] - second.answers.metrics(one)[metric])
    if not np.isfinite(value):
        return None
    return {"metric": metric, "difference": value, "low": low, "high": high}


def _truth(places: Places, task: Task, rows: np.ndarray) -> np.ndarray:
    values = places.values[task.name][rows]
    return values[:, None] if task.kind == "regression" else values


def _cell(task: Task, places: Places, parts: Split, predictions: np.ndarray, seed: int) -> Cell:
    """Score test predictions [n, T]."""
    begun = time.perf_counter()
    lonlat, unit, continent = _whereabouts(places.sha256, places.lonlat.tobytes())
    test, unit = parts.test, unit[parts.test]
    truth = places.values[task.name][test]
    answers: dict[str, Scored] = {}
    ceiling, notes = None, []
    if task.kind == "class":
        predicted = predictions.argmax(1)
        loss = (predicted != truth).astype(np.float64)
        answers[""] = Hits.of(predicted == truth, unit)
        ceiling = float(np.isin(truth, places.values[task.name][parts.train]).mean())
        if ceiling < 1:
            notes.append(f"{ceiling:.0%} of the test places have a class that train has")
    else:
        predicted = predictions[:, 0]
        known = places.values[task.name][parts.train]
        answers[""] = ValueAnswers.of(truth[:, None], predicted[:, None], unit)
        cut = np.clip(predicted, known.min(), known.max())[:, None]
        answers["_clipped"] = ValueAnswers.of(truth[:, None], cut, unit)
        loss = (predicted - truth) ** 2 / truth.var()
    metrics = {}
    counts = _draws(answers[""].units, seed)
    for suffix, found in answers.items():
        point = found.metrics(np.ones(found.units))
        spread = found.metrics(counts)
        for name in point if not suffix else ("r2",):
            low, high = percentile(spread[name])
            metrics[name + suffix] = {"value": float(point[name]), "low": low, "high": high}
    bias = geo_bias(loss, lonlat[test], continent[test])
    spent = time.perf_counter() - begun
    return Cell(
        *(task, "", seed, "", metrics, None, bias, ceiling, answers[""]),
        *(predicted, parts, notes, spent),
    )


@lru_cache(maxsize=8)
def _whereabouts(key: str, places: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places, their units and their continents, which every cell asks for."""
    from shards.splits.continents import continents

    del key
    lonlat = np.frombuffer(places, np.float64).reshape(-1, 2)
    return lonlat, units(lonlat), continents(lonlat)


@lru_cache(maxsize=256)
def _draws(count: int, seed: int) -> NDArray[np.int64]:
    return draws(count, seed)
