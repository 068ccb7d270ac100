"""How much of a score is left when test images are disturbed.

The head is the one fitted on clean training features; only test images change
(`probes.checks.disturb`).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fm.console import progress
from fm.errors import FMError, UsageError
from fm.models import Backbone
from probes.backbones.adapter import Adapter
from probes.backbones.align import table
from probes.backbones.feed import make_feed
from probes.benchmarks.base import Inputs
from probes.checks.disturb import Disturbance, as_physical, disturbances
from probes.families.job import Job, Outcome
from probes.features import floors
from probes.features.extraction import encode
from probes.features.pixels import moments, training_rows
from probes.settings import OnFeatures
from probes.settings.features import Axes
from probes.statistics.answers import Scored
from probes.statistics.bootstrap import intervals, paired
from probes.tasks.base import LOWER_IS_BETTER

Encoder = Callable[[Inputs, Mapping[str, tuple[str, ...]]], np.ndarray]
"""Inputs in physical units and the names of their bands to features [B, D]."""


def measure(job: Job, outcome: Outcome, clean: Scored) -> list[dict[str, Any]] | None:
    """Judge one fitted protocol on disturbed test images.

    Args:
        job: what was run.
        outcome: of it, with `predict`.
        clean: the answers on undisturbed test images.

    Returns:
        one row a disturbance: `name`, `how`, `metric`, `value`, `low`, `high`, `drop` (how much
        worse than undisturbed, on the same bootstrap resamples) with `drop_low` and `drop_high`;
        `value` and `drop` None, and the reason in `how`, where the model refuses such images. None
        where a protocol keeps no head on features, or a sample is more than one image.
    """
    if outcome.predict is None or not isinstance(job.settings, OnFeatures):
        return None
    job = outcome.source or job
    data, metric = job.data, job.benchmark.primary
    test = data.of("test")
    if data.read(test[:1]).after is not None:
        return None
    try:
        bands = table(data.bands)
    except UsageError:  # what the numbers measure is not declared, so they cannot be disturbed
        return None
    make = encoder(job)
    levels = moments(data, training_rows(data, job.seed))
    chosen = disturbances(bands, levels, job.seed)
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    rows = []
    with progress(f"disturbing {job.label}", len(chosen)) as bar:
        for number, one in enumerate(chosen):
            row: dict[str, Any] = {"name": one.name, "how": one.how, "metric": metric}
            empty = dict.fromkeys(("value", "low", "high", "drop", "drop_low", "drop_high"))
            lost = _absent(job, one)
            if one.dropped:
                row["how"] = "absent" if lost else "set to the mean of the training split"
            try:
                predictions = outcome.predict(_features(job, make, one, number, lost))
            except (FMError, UsageError) as error:
                rows.append({**row, **empty, "how": f"{row['how']}; not possible: {error}"})
                bar.advance()
                continue
            answers = job.task.answers(data, test, predictions)
            gap = paired(clean, answers, metric, job.seed)
            ends = [gap["low"], gap["high"]]
            ends = [None if end is None else sign * end for end in ends][:: int(sign)]
            difference = gap["difference"]
            rows.append(
                {
                    **row,
                    **intervals(answers, job.seed)[metric],
                    "drop": None if difference is None else sign * difference,
                    "drop_low": ends[0],
                    "drop_high": ends[1],
                }
            )
            bar.advance()
    return rows


def encoder(job: Job) -> Encoder:
    """Return what makes the features that a protocol reads of images in physical units."""
    settings: OnFeatures = job.settings
    data = job.data
    if settings.input != "model":
        fitted = floors.encoder(settings.input, data, job.seed)
        return lambda inputs, bands: fitted(inputs)
    feed = None
    if isinstance(job.model, Adapter | Backbone) or settings.axes != Axes():
        feed = make_feed(job.model, data, settings.axes, benchmark=job.benchmark.full_name)
    reduced = settings.precision == "bfloat16"
    job.model.eval()

    def make(inputs: Inputs, bands: Mapping[str, tuple[str, ...]]) -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            made = encode(job.model, inputs, bands, data.scaling, settings.readout, feed)
        return made.float().cpu().numpy()

    return make


def _absent(job: Job, one: Disturbance) -> bool:
    """Whether lost bands can be left out instead of set to a mean."""
    settings: OnFeatures = job.settings
    if settings.input != "model" or settings.axes != Axes() or not isinstance(job.model, Backbone):
        return False
    return all(
        job.model.takes_other_bands(m) and len(lost) < len(job.data.bands[m])
        for m, lost in one.dropped.items()
    )


def _features(
    job: Job, make: Encoder, one: Disturbance, number: int, absent: bool, batch_size: int = 256
) -> NDArray[np.float32]:
    """Features [n, D] of the disturbed test images; no number depends on the batches."""
    data, test = job.data, job.data.of("test")
    names = dict(data.bands)
    if absent:
        for modality, lost in one.dropped.items():
            kept = [b for i, b in enumerate(names[modality]) if i not in lost]
            names[modality] = tuple(kept)
    parts = []
    for start in range(0, len(test), batch_size):
        index = test[start : start + batch_size]
        inputs = as_physical(data.read(index), data.scaling)
        draws = [np.random.Generator(np.random.PCG64([job.seed, number, n])) for n in index]
        if absent:
            pixels = dict(inputs.pixels)
            for modality, lost in one.dropped.items():
                pixels[modality] = np.delete(pixels[modality], list(lost), 1)
            inputs = Inputs(pixels, inputs.valid)
        else:
            inputs = one.change(inputs, draws)
        parts.append(make(inputs, names))
    features = np.concatenate(parts)
    if not np.isfinite(features).all():
        raise FMError("the model gives NaN or infinite features")
    return features
