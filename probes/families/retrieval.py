"""Queries of the test split look for their like among the train and val samples."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fm.errors import UsageError
from probes.benchmarks.base import Data, Inputs
from probes.families.job import Job, Outcome
from probes.settings import Retrieval
from probes.statistics import ranking
from probes.tasks.retrieval import CUTOFFS

TASKS = ("retrieval",)


def run(job: Job) -> Outcome:
    """Encode the query's view and the gallery's, each alone, and rank by cosine."""
    settings: Retrieval = job.settings
    data, benchmark = job.data, job.benchmark
    train, val, test = job.splits
    stored = np.sort(np.concatenate([train, val]))
    queries = gallery = _features(job, benchmark.query)
    if benchmark.query != benchmark.gallery:
        axes, warnings = job.account.axes, job.account.notes
        gallery = _features(job, benchmark.gallery)
        # both views were fed to the model, and what is told may be of either
        if job.account.axes is not None:
            job.account.axes = {**job.account.axes, "query": axes}
        job.account.notes = list(dict.fromkeys([*warnings, *job.account.notes]))
    if queries.shape[1] != gallery.shape[1]:
        raise UsageError(
            f"{benchmark.full_name}: queries have {queries.shape[1]} numbers and the gallery "
            f"{gallery.shape[1]}; they cannot be compared, choose a protocol without pixel floors"
        )
    if settings.center:
        # each view by its own mean, of samples that are no queries
        queries, gallery = (x - x[stored].mean(0) for x in (queries, gallery))
    places = ranking.order(queries[test], gallery[stored], job.seed)
    gains = ranking.gains(data.targets[test], data.targets[stored])
    ranked = np.take_along_axis(gains, places, 1)
    nothing = int((gains.sum(1) == 0).sum())
    first = CUTOFFS[0]
    notes = [
        f"{len(test)} test queries ({_words(benchmark.query)}), gallery of {len(stored)} train and "
        f"val samples ({_words(benchmark.gallery)}); gains are shared labels, relevant is one; "
        f"nothing is trained or chosen",
        f"a random order has an expected ndcg@{first} of {ranking.chance(gains, first):.3f}",
    ]
    if nothing:
        notes.append(f"{nothing} queries have nothing to find and do not count")
    return Outcome(ranking.measures(ranked, CUTOFFS), None, notes)


def _words(view: Sequence[str]) -> str:
    return " + ".join(view)


def _features(job: Job, view: tuple[str, ...]) -> NDArray[np.float64]:
    """Features of every sample from the modalities of one view alone."""
    name = f"{job.benchmark.name} {_words(view)}"
    alone = replace(job, data=only(job.data, view), benchmark=replace(job.benchmark, name=name))
    return np.asarray(alone.features(), np.float64)


def only(data: Data, view: Sequence[str]) -> Data:
    """The same samples with some of their modalities; the others are not given to the model."""

    def read(index: NDArray[np.int64]) -> Inputs:
        inputs = data.read(index)
        valid = inputs.valid
        return Inputs(
            {m: inputs.pixels[m] for m in view},
            None if valid is None else {m: valid[m] for m in view},
        )

    return replace(
        data,
        read=read,
        bands={m: data.bands[m] for m in view},
        scaling={m: data.scaling[m] for m in view},
    )
