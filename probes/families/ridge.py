"""Ridge regression on frozen features, every alpha of the grid from one decomposition."""

import numpy as np

from probes.families.job import REFIT, Job, Outcome, best_of, edge_note, scaler, selection
from probes.families.labels import subset, told
from probes.settings import Ridge
from probes.solvers import ridge

TASKS = ("regression", "class", "multilabel", "geolocation")


def run(job: Job) -> Outcome:
    """Choose alpha on val, score test."""
    settings: Ridge = job.settings
    features = job.features()
    whole, val, test = job.splits
    train = subset(job.data, whole, settings.per_class, job.seed)
    targets = vectors(job)
    scale = scaler(features[train]) if settings.scale == "standard" else np.asarray
    grid = settings.alpha.values()[::-1]  # so that the first of equal ones is the largest
    fitted = ridge.fit(scale(features[train]), targets[train], grid)
    notes = told(job.data, whole, train)
    if fitted.decompositions > 1:
        notes.append("each target is fitted on the samples for which it is known")
    values = [job.score(val, job.answer(p)) for p in fitted.predict(scale(features[val]))]
    best = best_of(values)
    both = settings.refit == "train+val"
    about = selection("alpha", grid, values, best, refit=REFIT if both else "train only")
    notes += edge_note("alpha", grid[::-1], grid[best])
    chosen = best
    if both:
        rows = np.concatenate([train, job.known(val)])
        scale = scaler(features[rows]) if settings.scale == "standard" else np.asarray
        fitted, chosen = ridge.fit(scale(features[rows]), targets[rows], [grid[best]]), 0

    def predict(rows: np.ndarray) -> np.ndarray:
        return job.answer(fitted.predict(scale(rows))[chosen])

    return Outcome(predict(features[test]), about, notes, predict, features=features)


def vectors(job: Job) -> np.ndarray:
    """Targets as numbers [N, T]: as they are, or +1 and -1 for classes and labels."""
    targets = job.data.targets
    if job.benchmark.task == "regression":
        return np.asarray(targets, np.float64)
    if job.classed:
        targets = np.eye(len(job.data.classes), dtype=bool)[targets]
    return np.where(targets, 1.0, -1.0)
