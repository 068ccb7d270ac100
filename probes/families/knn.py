"""Nearest neighbours of frozen features."""

from collections.abc import Sequence

import numpy as np

from probes import knn
from probes.families.job import Job, Outcome, best_of, selection
from probes.labels import subset
from probes.settings import Knn

TASKS = ("class", "multilabel")


def run(job: Job) -> Outcome:
    """Choose k on val, score test."""
    settings: Knn = job.settings
    data, features = job.data, job.features()
    train, val, test = job.splits
    train = subset(data, train, settings.per_class, job.seed)
    ks = [k for k in settings.k if k <= len(train)] or [len(train)]

    def votes(queries: np.ndarray, k: Sequence[int]) -> np.ndarray:
        return knn.scores(
            features[train],
            data.targets[train],
            queries,
            k,
            classes=len(data.classes),
            temperature=settings.temperature,
            center=settings.center,
        )

    values = [job.score(val, s) for s in votes(features[val], ks)]
    best = best_of(values)
    notes = []
    if len(ks) < len(settings.k):
        notes.append(f"k above the {len(train)} training samples left out")

    def predict(queries: np.ndarray) -> np.ndarray:
        return votes(queries, [ks[best]])[0]

    chosen = selection("k", ks, values, best)
    return Outcome(predict(features[test]), chosen, notes, predict, "probabilities")
