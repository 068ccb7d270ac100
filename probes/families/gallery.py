"""The place of the training image that looks most alike."""

import numpy as np
import torch

from probes.families.job import Job, Outcome
from probes.families.labels import subset, told
from probes.settings import Gallery
from probes.solvers import knn

TASKS = ("geolocation",)


def run(job: Job) -> Outcome:
    """Rank the training samples by cosine and answer with the place of the first."""
    settings: Gallery = job.settings
    places = job.data.lonlat
    assert places is not None
    whole, _, test = job.splits
    train = subset(job.data, whole, settings.per_class, job.seed)
    features, known = job.features(), places(train)

    def predict(queries: np.ndarray) -> np.ndarray:
        found = knn.neighbours(
            features[train], queries, 1, center=settings.center, dtype=torch.float64
        )
        return known[found.index.cpu().numpy()]

    notes = [*told(job.data, whole, train), f"a gallery of {len(train)} training images"]
    return Outcome(predict(features[test]), None, notes, predict, features=features)
