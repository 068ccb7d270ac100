"""Nearest neighbours of frozen features."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch

from fm.errors import UsageError
from probes.checks import corley
from probes.families.job import Job, Outcome, best_of, edge_note, scaler, selection
from probes.families.labels import subset, told
from probes.settings import Knn
from probes.solvers import knn

TASKS = ("class", "multilabel", "regression", "geolocation")
Scaling = Callable[[np.ndarray], np.ndarray]


def run(job: Job) -> Outcome:
    """Choose k and the scaling on val, score test."""
    settings: Knn = job.settings
    data = job.data
    whole, val, test = job.splits
    train = subset(data, whole, settings.per_class, job.seed)
    source, notes = _placed(job, settings)
    notes = told(data, whole, train) + notes
    features = source.features()
    ks = [k for k in settings.k if k <= len(train)] or [len(train)]
    if len(ks) < len(settings.k):
        notes.append(f"k above the {len(train)} training samples left out")
    scales: dict[str, Scaling] = {
        name: scaler(features[train]) if name == "standard" else np.asarray
        for name in settings.scale
    }

    def predict(name: str, rows: np.ndarray, k: Sequence[int]) -> np.ndarray:
        return knn.scores(
            scales[name](features[train]),
            data.targets[train],
            scales[name](rows),
            k,
            classes=len(data.classes) if job.classed else None,
            metric=settings.metric,
            temperature=settings.temperature if settings.vote == "temperature" else None,
            center=settings.center,
            dtype=getattr(torch, settings.compute),
        )

    tried = [(name, k) for name in settings.scale for k in ks]
    best, about = 0, None
    if len(tried) > 1:
        votes = [row for name in settings.scale for row in predict(name, features[val], ks)]
        values = [job.score(val, job.answer(row)) for row in votes]
        best = best_of(values)
        if len(settings.scale) == 1:
            about = selection("k", ks, values, best)
        else:
            about = selection("scale, k", [f"{name}, {k}" for name, k in tried], values, best)
            about["on_edge"] = len(ks) > 1 and tried[best][1] in (ks[0], ks[-1])
        notes += edge_note("k", ks, tried[best][1])
    name, k = tried[best]

    kind: Literal["probabilities"] | None = (
        None if job.benchmark.task == "regression" else "probabilities"
    )

    def final(rows: np.ndarray) -> np.ndarray:
        return job.answer(predict(name, rows, [k])[0], kind)

    found = final(features[test])
    return Outcome(found, about, notes, final, kind, features=features, source=source)


def _placed(job: Job, settings: Knn) -> tuple[Job, list[str]]:
    """Put the bands where the seed paper's code puts them, or should have, if that is asked for."""
    if settings.planes == "by-name" or job.model is None:
        return job, []
    data = corley.rearrange(job.data, defects=settings.planes == "corley")
    if data is None:
        return job, ["bands aligned by name: the seed paper's defects concern 12 or 13 S2 bands"]
    for modality, names in data.bands.items():
        own = {band.name for band in job.model.bands.get(modality, ())}
        if names == corley.PLANES and own != set(names):
            raise UsageError(
                f"{job.benchmark.full_name}: corley-knn5 fills the 13 Sentinel-2 bands of "
                f"{modality}, and {job.label} takes {len(own)}; take a model of 13 bands, or knn"
            )
    # another name, so that the feature cache does not mix them up
    benchmark = dataclasses.replace(job.benchmark, name=f"{job.benchmark.name}+{settings.planes}")
    notes = []
    if settings.planes == "corley":
        notes = ["bands in the places that the seed paper's code gives them, two defects kept"]
    return dataclasses.replace(job, data=data, benchmark=benchmark), notes
