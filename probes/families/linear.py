"""Logistic regression on frozen features, every C of the grid in one solve."""

import numpy as np
import torch

from probes import logistic
from probes.families.job import Job, Outcome, best_of, scaler, selection
from probes.labels import subset
from probes.settings import Linear

TASKS = ("class", "multilabel")


def run(job: Job) -> Outcome:
    """Choose C on val, fit again on train to the end, score test."""
    settings: Linear = job.settings
    data, features = job.data, job.features()
    train, val, test = job.splits
    train = subset(data, train, settings.per_class, job.seed)
    scale = scaler(features[train])
    x = scale(features)
    classes = len(data.classes)
    notes = []
    chosen, about = job.benchmark.fixed_c, None
    if chosen is None:
        grid = settings.c.values()
        fitted = logistic.fit(
            x[train],
            data.targets[train],
            grid,
            classes=classes,
            tol=settings.search_tol,
            dtype=torch.float32,
        )
        values = [job.score(val, s) for s in fitted.scores(x[val])]
        best = best_of(values)
        chosen, about = grid[best], selection("C", grid, values, best)
        missed = int((~fitted.converged).sum())
        if missed:
            notes.append(f"{missed} of {len(grid)} values of C did not converge in the search")
    final = logistic.fit(x[train], data.targets[train], [chosen], classes=classes, tol=settings.tol)
    if not bool(final.converged[0]):
        notes.append(f"the final fit at C={chosen:g} did not converge")

    def predict(rows: np.ndarray) -> np.ndarray:
        return final.scores(scale(rows))[0]

    return Outcome(final.scores(x[test])[0], about, notes, predict, "logits")
