"""Few labels: fixed lists of samples, several tries, metrics averaged over them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from probes.benchmarks.base import Data
from probes.families.job import Job, Outcome, best_of, edge_note, scaler, selection
from probes.families.labels import describe, draw
from probes.settings import Fewshot
from probes.solvers import knn, logistic, prototypes

TASKS = ("class", "multilabel")
Predict = Callable[[np.ndarray], list[np.ndarray]]
"""Rows to be scored, to the scores of each value of the grid."""


def run(job: Job) -> Outcome:
    """Fit on each list; one value for all tries is chosen on val; score test."""
    settings: Fewshot = job.settings
    data, features = job.data, np.asarray(job.features())
    whole, val, test = job.splits
    lists = [
        draw(
            data,
            whole,
            per_class=settings.per_class,
            fraction=settings.fraction,
            seed=job.seed,
            attempt=attempt,
        )
        for attempt in range(settings.tries)
    ]
    grid = _grid(settings, lists)
    chosen, about = grid[0], None
    if len(grid) > 1:
        fitted = [fit(settings, grid, features, data, rows, search=True)[0] for rows in lists]
        each = [[job.score(val, s) for s in predict(val)] for predict in fitted]
        values = np.mean(each, axis=0).tolist()
        best = best_of(values)
        chosen, about = grid[best], selection(settings.head, grid, values, best)
    final = [fit(settings, [chosen], features, data, rows) for rows in lists]
    predictions = np.stack([predict(test)[0] for predict, _ in final])
    unit = job.benchmark.unit
    notes = [describe(data, len(whole), lists)]
    if len(lists) > 1:
        notes.append(f"metrics are means of {len(lists)} tries; intervals draw tries and {unit}s")
    if about is not None:
        notes.append(
            f"{settings.head}: one value for all tries, by the mean score on the whole val"
        )
        notes += edge_note("k" if settings.head == "knn" else "C", grid, chosen)
    missed = sum(not converged for _, converged in final)
    if missed:
        notes.append(f"{missed} of the final fits did not converge")
    return Outcome(predictions, about, notes, features=features)


def _grid(settings: Fewshot, lists: Sequence[np.ndarray]) -> list[Any]:
    if settings.head == "knn":
        smallest = min(len(rows) for rows in lists)
        return [k for k in settings.k if k <= smallest] or [smallest]
    if settings.c is not None:
        return settings.c.values()
    return [None]


def fit(
    settings: Fewshot,
    grid: Sequence[Any],
    features: np.ndarray,
    data: Data,
    rows: np.ndarray,
    *,
    search: bool = False,
) -> tuple[Predict, bool]:
    """Fit the head on one list, for every value of the grid; a `search` need not be exact.

    Returns:
        the prediction, and whether all solves converged.
    """
    classes, targets = len(data.classes), data.targets[rows]
    if settings.head == "prototype":
        found = prototypes.fit(features[rows], targets, classes)
        return lambda some: [found.scores(features[some])], True
    if settings.head == "knn":
        return lambda some: list(
            knn.scores(
                features[rows],
                targets,
                features[some],
                grid,
                classes=classes,
                temperature=settings.temperature,
            )
        ), True
    scale = scaler(features[rows])
    tol, dtype = (1e-4, torch.float32) if search else (1e-7, torch.float64)
    solved = logistic.fit(
        scale(features[rows]), targets, grid, classes=classes, tol=tol, dtype=dtype
    )
    return lambda some: list(solved.scores(scale(features[some]))), bool(solved.converged.all())
