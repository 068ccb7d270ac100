"""Logistic regression on frozen features, every C of the grid in one solve."""

import numpy as np
import torch

from probes.families.job import REFIT, Job, Outcome, best_of, edge_note, scaler, selection
from probes.families.labels import subset, told
from probes.settings import Linear
from probes.solvers import logistic

TASKS = ("class", "multilabel", "geolocation")


def run(job: Job) -> Outcome:
    """Choose C on val, fit again to the end, score test."""
    settings: Linear = job.settings
    data, features = job.data, job.features()
    whole, val, test = job.splits
    train = subset(data, whole, settings.per_class, job.seed)
    classes = len(data.classes)
    notes = told(data, whole, train)
    chosen, about, rows = job.benchmark.fixed_c, None, train
    if chosen is None:
        scale = scaler(features[train]) if settings.scale == "standard" else np.asarray
        grid = settings.c.values()
        fitted = logistic.fit(
            scale(features[train]),
            data.targets[train],
            grid,
            classes=classes,
            tol=settings.search_tol,
            dtype=getattr(torch, settings.compute),
        )
        values = [job.score(val, job.answer(s)) for s in fitted.scores(scale(features[val]))]
        best = best_of(values)
        both = settings.refit == "train+val"
        about = selection("C", grid, values, best, refit=REFIT if both else "train only")
        chosen = grid[best]
        notes += edge_note("C", grid, chosen)
        missed = int((~fitted.converged).sum())
        if missed:
            notes.append(f"{missed} of {len(grid)} values of C did not converge in the search")
        if both:
            rows = np.concatenate([train, job.known(val)])
    last = scaler(features[rows]) if settings.scale == "standard" else np.asarray
    final = logistic.fit(
        last(features[rows]), data.targets[rows], [chosen], classes=classes, tol=settings.tol
    )
    if not bool(final.converged[0]):
        notes.append(f"the final fit at C={chosen:g} did not converge")

    def predict(queries: np.ndarray) -> np.ndarray:
        return job.answer(final.scores(last(queries))[0], "logits")

    found = predict(features[test])
    return Outcome(found, about, notes, predict, "logits", features=features)
