"""Training the temporal attention head on cached features, one head a rate, stopped on val."""

import numpy as np
from torch import nn

from probes.families.heads import train_heads
from probes.families.job import Job, Outcome, scaler
from probes.families.labels import draw
from probes.series.attention import TemporalAttention
from probes.series.vectors import Padded, dates_of, vectors
from probes.settings.timeseries import SeriesAttention


def attend(job: Job) -> Outcome:
    """Train one head a rate until val stops improving, choose on val, score test."""
    settings: SeriesAttention = job.settings
    data, dates = job.data, dates_of(job)
    train = draw(
        data, job.splits[0], per_class=settings.per_class, fraction=settings.fraction, seed=job.seed
    )
    x = vectors(job)
    own = np.isin(dates.owner, train)
    series = Padded.of(scaler(x[own])(x), dates)

    def build(outputs: int) -> nn.Module:
        return TemporalAttention(
            series.x.shape[1],
            outputs,
            heads=settings.heads,
            channels=settings.channels,
            keys=settings.keys,
            hidden=settings.hidden,
            longest=settings.longest,
        )

    return train_heads(
        job,
        settings,
        train,
        name="attention",
        build=build,
        decayed=lambda head: [p for p in head.parameters() if p.ndim > 1],
        batch=series.batch,
    )
