"""What a family works with and what it cost: a model bound to the benchmark's pixels."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fm.errors import UsageError
from fm.models import Backbone
from probes.axes import tag
from probes.backbones.adapter import Adapter
from probes.backbones.cost import count
from probes.backbones.feed import ForeignFeed, make_feed
from probes.families.job import Job
from probes.features.extraction import encode
from probes.settings.features import Axes


def fed(job: Job) -> Job:
    """Look at what a model is given, and bind a foreign one to the pixels by the protocol's axes.

    Whatever a family then does with the model, it sees the same bands and numbers.

    Raises:
        UsageError: bands, units or axes that do not go together.
    """
    if isinstance(job.model, Backbone):
        # families that read pixels by themselves do not look at what they give the model
        feed = make_feed(job.model, job.data.single(), Axes(), benchmark=job.benchmark.full_name)
        job.account.notes = list(feed.notes)
    if not isinstance(job.model, Adapter):
        return job
    axes = getattr(job.settings, "axes", None) or Axes()
    feed = make_feed(job.model, job.data.single(), axes, benchmark=job.benchmark.full_name)
    assert isinstance(feed, ForeignFeed)
    job.account.axes, job.account.notes = feed.record, list(feed.notes)
    return replace(job, model=job.model.bind(feed))


def priced(
    job: Job, changed: dict[str, Any]
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return axes and cost of a job that is done, as results keep them.

    Raises:
        UsageError: axes were asked for and the family does not read pixels by them.
    """
    if job.model is None:
        return None, None
    axes = getattr(job.settings, "axes", None)
    pixels = {name: value for name, value in changed.items() if name != "precision"}
    if job.account.axes is None and (pixels or (axes is not None and axes != Axes())):
        what = tag(pixels) or "axes of the protocol"
        raise UsageError(
            f"{what}: this protocol family gives a checkpoint of ours its pixels in the model's "
            f"own way; take knn or linear"
        )
    cost = job.account.cost
    if cost is None:
        data = job.data.single()
        inputs = data.read(np.arange(1))

        def one() -> None:
            with torch.inference_mode():
                encode(job.model, inputs, data.bands, data.scaling)

        cost = count(job.model, one)
    record = job.account.axes
    if record is None and changed:
        record = {}
    if record is not None:
        record = {**record, "precision": getattr(job.settings, "precision", "float32")}
        declared = {"channels": record["channels"]} if record.get("channels") else {}
        record = {**record, "changed": {**changed, **declared}}
    return record, cost
