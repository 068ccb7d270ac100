"""Training the temporal attention head on cached features, one head a rate, stopped on val."""

import numpy as np
import torch
from torch import Tensor

from fm.console import progress
from fm.errors import FMError
from probes.families.descent import Best, Goal, finite, stream
from probes.families.job import Job, Outcome, best_of, edge_note, scaler, selection
from probes.families.labels import describe, draw
from probes.families.mlp import notes_of
from probes.series.attention import TemporalAttention
from probes.series.vectors import Padded, dates_of, vectors
from probes.settings.timeseries import SeriesAttention

BATCH = 256


def attend(job: Job) -> Outcome:
    """Train one head a rate until val stops improving, choose on val, score test."""
    settings: SeriesAttention = job.settings
    data, dates = job.data, dates_of(job)
    whole, val, test = job.splits
    train = draw(
        data, whole, per_class=settings.per_class, fraction=settings.fraction, seed=job.seed
    )
    x = vectors(job)
    own = np.isin(dates.owner, train)
    series = Padded.of(scaler(x[own])(x), dates)
    goal = Goal.of(job.benchmark.task, data, train)
    with torch.random.fork_rng(devices=[]):
        found = [_train(series, goal, train, val, rate, settings, job) for rate in settings.rates]
    scores = [one.score for one in found]
    place = best_of(scores)
    if found[place].state is None:
        raise FMError(f"{job.label}: no learning rate gave finite scores; give smaller ones")
    head = _new(series, goal, settings)
    with torch.no_grad():
        for parameter, value in zip(head.parameters(), found[place].state, strict=True):
            parameter.copy_(value)
    notes = notes_of(found, place, settings.evaluations)
    notes += edge_note("lr", settings.rates, settings.rates[place])
    if len(train) < len(whole):
        notes.append(describe(data, len(whole), [train]))
    return Outcome(
        predictions=goal.predictions(_scores(head, series, test)),
        selection=selection("lr", list(settings.rates), scores, place),
        notes=notes,
        scale=goal.scale,
        val=goal.predictions(_scores(head, series, val)),
    )


def _new(series: Padded, goal: Goal, settings: SeriesAttention) -> TemporalAttention:
    return TemporalAttention(
        series.x.shape[1],
        goal.outputs,
        heads=settings.heads,
        channels=settings.channels,
        keys=settings.keys,
        hidden=settings.hidden,
        longest=settings.longest,
    )


def _train(
    series: Padded,
    goal: Goal,
    train: np.ndarray,
    val: np.ndarray,
    rate: float,
    settings: SeriesAttention,
    job: Job,
) -> Best:
    """Train one head; every rate starts at the same weights and sees the same batches."""
    torch.manual_seed(job.seed)
    head = _new(series, goal, settings)
    parts: list[list[Tensor]] = [[], []]
    for parameter in head.parameters():
        parts[parameter.ndim > 1].append(parameter)
    groups = [
        {"params": parts[1], "weight_decay": settings.weight_decay},
        {"params": parts[0], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=rate)
    found = Best(settings.patience)
    period = max(settings.period, -(-len(train) // settings.batch_size))
    batches = stream(len(train), settings.batch_size, period * settings.evaluations, job.seed)
    with progress(f"attention {job.label} lr={rate:g}", settings.evaluations) as bar:
        for _ in range(settings.evaluations):
            for _ in range(period):
                rows = train[next(batches)]
                loss = goal.loss(head(*series.batch(rows))[None], torch.from_numpy(rows)).sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            z = _scores(head, series, val)
            score = job.score(val, goal.predictions(z)) if finite(z) else np.nan
            found.offer(score, list(head.parameters()))
            bar.advance(best=f"{found.score:.4f}")
            if not found.alive:
                break
    return found


@torch.no_grad()
def _scores(head: TemporalAttention, series: Padded, rows: np.ndarray) -> Tensor:
    """Scores [n, K] of some samples."""
    parts = [head(*series.batch(rows[i : i + BATCH])) for i in range(0, len(rows), BATCH)]
    return torch.cat(parts)
