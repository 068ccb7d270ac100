"""Linear heads trained by SGD, all of a grid in one pass over cached features."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fm.console import progress
from fm.errors import FMError
from probes.families.descent import Goal, Sgd, finite, stream
from probes.families.job import Job, Outcome, best_of, edge_note, selection
from probes.families.labels import draw, told
from probes.features.frozen import blocks
from probes.settings import LinearSgd

TASKS = ("class", "multilabel", "regression")


@dataclass(frozen=True)
class Views:
    """What the heads look at: one wide vector a sample, of which each view uses a part.

    Attributes:
        x: [N, U] float32.
        masks: [V, U] of 0 and 1, the columns that a view uses.
        names: [V]; None where the one view is the readout.
    """

    x: Tensor
    masks: Tensor
    names: tuple[str, ...] | None


def run(job: Job) -> Outcome:
    """Train all heads, choose one on val, score test with it."""
    settings: LinearSgd = job.settings
    data = job.data
    whole, val, test = job.splits
    train = draw(
        data, whole, per_class=settings.per_class, fraction=settings.fraction, seed=job.seed
    )
    goal = Goal.of(job.benchmark.task, data, train)
    views, notes = _views(job)
    notes += told(data, whole, train)
    x = views.x

    def values(weight: Tensor, bias: Tensor) -> list[float]:
        return [
            job.score(val, goal.predictions(z)) if finite(z) else math.nan
            for z in (x[val] @ w.T + b for w, b in zip(weight, bias, strict=True))
        ]

    # heads in the order of views, then rates; a trial is a head at one of the evaluations
    heads = [(v, rate) for v in range(len(views.masks)) for rate in settings.rates]
    trials: list[str] = []
    scores: list[float] = []
    best: tuple[float, Tensor, Tensor] | None = None
    for share, weight, bias in _train(x, views.masks, goal, train, settings, job):
        found = values(weight, bias)
        names = views.names or ("",)
        trials += [_name(names[v], rate, share, settings) for v, rate in heads]
        scores += found
        top = best_of(found)
        if math.isfinite(found[top]) and (best is None or found[top] > best[0]):
            best = found[top], weight[top].clone(), bias[top].clone()
    if best is None:
        raise FMError(f"{job.label}: no learning rate gave finite scores; give smaller ones")
    place = best_of(scores)
    rate = heads[place % len(heads)][1]
    edge = edge_note("lr", settings.rates, rate)
    about = {**selection("head", trials, scores, place), "on_edge": bool(edge)}
    notes += edge
    _, weight, bias = best

    def predict(features: np.ndarray) -> np.ndarray:
        return goal.predictions(torch.from_numpy(np.asarray(features)).float() @ weight.T + bias)

    return Outcome(
        predictions=goal.predictions(x[test] @ weight.T + bias),
        selection=about,
        notes=notes,
        predict=predict if views.names is None else None,
        scale=goal.scale,
        val=goal.predictions(x[val] @ weight.T + bias),
        features=x.numpy() if views.names is None else None,
    )


def _name(view: str, rate: float, share: float, settings: LinearSgd) -> str:
    after = f" after {100 * share:g} %" if settings.evaluations > 1 else ""
    return " ".join(word for word in (f"lr={rate:g}", view) if word) + after


def _views(job: Job) -> tuple[Views, list[str]]:
    """Gather what the heads of a job look at."""
    settings: LinearSgd = job.settings
    made = None
    if not settings.plain and settings.input == "model":
        made = blocks(
            job.model,
            job.data,
            max(settings.blocks),
            benchmark=job.benchmark.full_name,
            cache=job.cache,
            precision=settings.precision,
        )
    if made is None:
        x = torch.from_numpy(np.asarray(job.features())).float()
        words = ", ".join(settings.readout)
        notes = [f"the model does not give its last blocks: heads saw {words} alone"]
        return Views(x, torch.ones(1, x.shape[1]), None), [] if settings.plain else notes
    parts = [*made.last, made.average]
    starts = np.cumsum([0, *(part.shape[1] for part in parts)])
    masks, names = [], []
    for count in settings.blocks:
        for average in settings.average:
            mask = torch.zeros(int(starts[-1]))
            mask[starts[-2 - count] : starts[-2]] = 1
            if average:
                mask[starts[-2] :] = 1
            masks.append(mask)
            names.append(f"blocks={count} avgpool={'yes' if average else 'no'}")
    own = "class tokens" if made.own else "means of the valid tokens (the model has no class token)"
    x = torch.from_numpy(np.concatenate(parts, 1)).float()
    return Views(x, torch.stack(masks), tuple(names)), [f"blocks are read as {own}"]


def _train(
    x: Tensor, masks: Tensor, goal: Goal, train: np.ndarray, settings: LinearSgd, job: Job
) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Train one head a view and rate.

    Yields:
        at each evaluation the share of the run that is done, the weights [H, K, U] and the
        biases [H, K].
    """
    size = min(settings.batch_size, len(train))
    steps = settings.steps or math.ceil(len(train) * (settings.epochs or 1) / size)
    peak = torch.tensor(settings.rates) * (size / 256 if settings.per_256 else 1.0)
    peak = peak.repeat(len(masks))
    generator = torch.Generator().manual_seed(job.seed)
    start = torch.randn(goal.outputs, x.shape[1], generator=generator) * settings.initial
    mask = masks.repeat_interleave(len(settings.rates), 0)[:, None]
    weight = (start * mask).requires_grad_()
    bias = torch.zeros(len(peak), goal.outputs, requires_grad=True)
    optimizer = Sgd([weight, bias], settings.momentum, settings.weight_decay)
    shares = [(i + 1) / settings.evaluations for i in range(settings.evaluations)]
    stops = {round(steps * share): share for share in shares}
    with progress(f"linear heads {job.label}", steps) as bar:
        for step, batch in enumerate(stream(len(train), size, steps, job.seed)):
            rows = torch.from_numpy(train[batch])
            # one product for all heads: [B, U] x [U, H * K]
            scores = x[rows] @ weight.flatten(0, 1).T
            scores = scores.reshape(len(rows), *bias.shape).transpose(0, 1) + bias[:, None]
            loss = goal.loss(scores, rows)
            grad_weight, grad_bias = torch.autograd.grad(loss.sum(), [weight, bias])
            rates = peak * _share(step / steps, settings)
            optimizer.step([grad_weight * mask, grad_bias], rates)
            bar.advance()
            if step + 1 in stops:
                yield stops[step + 1], weight.detach(), bias.detach()


def _share(at: float, settings: LinearSgd) -> float:
    """Share of the peak rate when a share `at` of the run is done."""
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * at))
    return 0.1 ** sum(at >= m for m in settings.milestones)
