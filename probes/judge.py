"""One protocol on one set of features: select on val, score test once."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from probes import knn, logistic
from probes.benchmarks.base import Benchmark, Data
from probes.features import extract
from probes.finetune import finetune
from probes.floors import floor_features
from probes.labels import subset
from probes.metrics import class_metrics, confusion, multilabel_metrics
from probes.protocols import Finetune, Knn, Linear, Protocol
from probes.statistics import ClassAnswers, LabelAnswers, Scored


@dataclass
class Outcome:
    """Test answers and how they came about; `selection` as in the result's JSON."""

    answers: Scored
    scores: np.ndarray
    selection: dict[str, Any] | None
    notes: list[str]
    seconds: float


Score = Callable[[np.ndarray, np.ndarray], float]


def primary_score(benchmark: Benchmark) -> Score:
    """Return the function (scores [n, K], targets) -> primary metric, higher is better."""

    def score(scores: np.ndarray, targets: np.ndarray) -> float:
        if benchmark.task == "multilabel":
            found = multilabel_metrics(targets, scores, np.ones(len(targets)))
        else:
            classes = scores.shape[1]
            found = class_metrics(confusion(targets, scores.argmax(1), classes))
        return float(found[benchmark.primary])

    return score


def judge(
    protocol: Protocol,
    benchmark: Benchmark,
    data: Data,
    model: Any,
    *,
    seed: int,
    cache: Path | None,
    label: str,
) -> Outcome:
    """Run one protocol.

    Args:
        protocol: the recipe.
        benchmark: what it is judged on.
        data: the benchmark, opened.
        model: None for the floors.
        seed: of everything that is random.
        cache: folder for features.
        label: name of the model beside progress bars.
    """
    begun = time.perf_counter()
    score = primary_score(benchmark)
    settings = protocol.settings
    selection: dict[str, Any] | None
    notes: list[str] = []
    if isinstance(settings, Finetune):
        found = finetune(model, data, settings, score, seed=seed, label=f"fine-tuning {label}")
        scores = found.test_scores
        trials = [f"lr={rate:g} epoch={epoch}" for rate, epoch in found.trials]
        best = found.trials[found.chosen]
        edges = (found.trials[0][0], found.trials[-1][0])
        last = best[1] == settings.epochs
        edge = last or (len(set(edges)) > 1 and best[0] in edges)
        chosen = _selection("lr, epoch", trials, found.val_scores, found.chosen)
        selection = {**chosen, "on_edge": edge}
    else:
        features = _features(settings, benchmark, data, model, cache)
        if isinstance(settings, Linear):
            scores, selection, notes = _linear(settings, benchmark, data, features, score, seed)
        else:
            scores, selection, notes = _knn(settings, data, features, score)
    answers = _answers(benchmark, data, scores)
    return Outcome(answers, scores, selection, notes, time.perf_counter() - begun)


def _features(
    settings: Linear | Knn, benchmark: Benchmark, data: Data, model: Any, cache: Path | None
) -> np.ndarray:
    if isinstance(settings, Linear) and settings.input != "model":
        return floor_features(settings.input, data)
    return extract(
        model,
        data,
        benchmark=benchmark.full_name,
        cache=cache,
        precision=settings.precision,
        words=settings.readout,
    )


def _linear(
    settings: Linear,
    benchmark: Benchmark,
    data: Data,
    features: np.ndarray,
    score: Score,
    seed: int = 0,
) -> tuple[np.ndarray, dict[str, Any] | None, list[str]]:
    train, val, test = (data.of(name) for name in ("train", "val", "test"))
    train = subset(data, train, settings.per_class, seed)
    x = standardise(features, train)
    classes = len(data.classes)
    notes = []
    if benchmark.fixed_c is not None:
        chosen, selection = benchmark.fixed_c, None
    else:
        grid = settings.c.values()
        fitted = logistic.fit(
            x[train],
            data.targets[train],
            grid,
            classes=classes,
            tol=settings.search_tol,
            dtype=torch.float32,
        )
        values = [score(s, data.targets[val]) for s in fitted.scores(x[val])]
        best = best_of(values)
        chosen = grid[best]
        selection = _selection("C", grid, values, best)
        missed = int((~fitted.converged).sum())
        if missed:
            notes.append(f"{missed} of {len(grid)} values of C did not converge in the search")
    final = logistic.fit(x[train], data.targets[train], [chosen], classes=classes, tol=settings.tol)
    if not bool(final.converged[0]):
        notes.append(f"the final fit at C={chosen:g} did not converge")
    return final.scores(x[test])[0], selection, notes


def _knn(
    settings: Knn, data: Data, features: np.ndarray, score: Score
) -> tuple[np.ndarray, dict[str, Any], list[str]]:
    train, val, test = (data.of(name) for name in ("train", "val", "test"))
    ks = [k for k in settings.k if k <= len(train)] or [len(train)]

    def votes(rows: np.ndarray, k: Sequence[int]) -> np.ndarray:
        return knn.scores(
            features[train],
            data.targets[train],
            features[rows],
            k,
            classes=len(data.classes),
            temperature=settings.temperature,
            center=settings.center,
        )

    values = [score(s, data.targets[val]) for s in votes(val, ks)]
    best = best_of(values)
    notes = []
    if len(ks) < len(settings.k):
        notes.append(f"k above the {len(train)} training samples left out")
    return votes(test, [ks[best]])[0], _selection("k", ks, values, best), notes


def standardise(features: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Scale features with the mean and deviation of the training rows; constants become 0."""
    x = np.asarray(features, np.float64)
    mean, spread = x[train].mean(0), x[train].std(0)
    # a deviation that is rounding of a constant column is no deviation
    flat = spread <= 1e-10 * np.maximum(np.abs(mean), 1e-30)
    return np.where(flat, 0.0, (x - mean) / np.where(flat, 1.0, spread))


def best_of(values: Sequence[float]) -> int:
    """Place of the largest value, the first of equal ones; NaN never wins."""
    return int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))


def _selection(
    name: str, grid: Sequence[Any], values: Sequence[float], best: int
) -> dict[str, Any]:
    return {
        "split": "val",
        "name": name,
        "grid": list(grid),
        "scores": [float(v) if np.isfinite(v) else None for v in values],
        "chosen": grid[best],
        "on_edge": len(grid) > 1 and best in (0, len(grid) - 1),
        "refit": "train only",
    }


def _answers(benchmark: Benchmark, data: Data, scores: np.ndarray) -> Scored:
    test = data.of("test")
    if benchmark.task == "multilabel":
        return LabelAnswers(data.targets[test], scores, data.unit[test])
    return ClassAnswers.of(data.targets[test], scores.argmax(1), data.unit[test], len(data.classes))
