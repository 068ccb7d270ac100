"""Series of dated images: every date encoded once by the frozen backbone, then a temporal head."""

from dataclasses import replace
from typing import Any

import numpy as np

from fm.errors import UsageError
from probes.benchmarks.base import Data
from probes.dense.learner import answer
from probes.families import linear, ridge
from probes.families.job import Job, Outcome
from probes.series.fitting import attend
from probes.series.maps import SeriesLearner
from probes.series.vectors import Fixed, dates_of, mean, vectors, with_data
from probes.settings import Linear, Ridge
from probes.settings.features import Axes
from probes.settings.timeseries import OnVectors, SeriesJoint

SERIES = True
VECTORS = ("class", "multilabel", "regression")
MAPS = ("segmentation",)
TASKS = VECTORS + MAPS


def tasks(settings: Any) -> tuple[str, ...]:
    """The tasks of one of the temporal heads."""
    return MAPS if settings.temporal == "maps" else VECTORS


def run(job: Job) -> Outcome:
    """Encode every date once, fit the head on train, choose on val, score test."""
    temporal = job.settings.temporal
    if temporal == "maps":  # where a cell without data counts on no date anyway
        dates_of(job)
        return answer(job, (False,), SeriesLearner)
    job, notes = with_data(job)
    if temporal == "attention":
        found = attend(job)
    elif temporal == "joint":
        job = _thinned(job)
        found = _linear(job, job.features())
    else:
        found = _linear(job, mean(vectors(job), dates_of(job)))
    return replace(found, notes=[dates_of(job).span, *notes, *found.notes])


def _thinned(job: Job) -> Job:
    """The same job with as many dates as a model is given together.

    Raises:
        UsageError: it takes single images, or axes that series cannot have.
    """
    settings: SeriesJoint = job.settings
    if not getattr(job.model, "series", False):
        raise UsageError(
            f"{job.label} takes single images; timeseries-joint is for models that take series "
            f"(time_code_width), take timeseries-mean or timeseries-attention"
        )
    if settings.axes != Axes():
        raise UsageError("timeseries-joint gives series in the model's own way; leave axes out")
    dates = dates_of(job).thinned(settings.dates)
    thin: Data = replace(job.data, dates=dates, read=dates.series)
    return replace(job, data=thin)


def _linear(job: Job, features: np.ndarray) -> Outcome:
    """Fit the linear head of `linear` or `ridge` on one vector a sample."""
    settings: OnVectors = job.settings
    common: dict[str, Any] = {
        "per_class": settings.per_class,
        "scale": settings.scale,
        "refit": settings.refit,
    }
    if job.benchmark.task == "regression":
        fixed = Ridge(family="ridge", alpha=settings.alpha, **common)
        found = ridge.run(Fixed.of(job, fixed, features))
    else:
        solved = Linear(family="linear", c=settings.c, **common)
        found = linear.run(Fixed.of(job, solved, features))
    assert found.predict is not None
    # the head is on means: features of one disturbed image are none of its inputs
    return replace(found, predict=None, val=found.predict(features[job.data.of("val")]))
