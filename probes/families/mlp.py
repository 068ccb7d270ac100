"""A perceptron with one hidden layer on frozen features, one head a learning rate at once."""

import numpy as np
import torch
from torch import Tensor

from fm.console import progress
from fm.errors import FMError
from probes.families.descent import AdamW, Best, Goal, finite, stream
from probes.families.job import Job, Outcome, best_of, edge_note, scaler, selection
from probes.families.labels import draw, told
from probes.settings import Mlp

TASKS = ("class", "multilabel", "regression")


def run(job: Job) -> Outcome:
    """Train until val stops improving, choose the rate on val, score test."""
    settings: Mlp = job.settings
    data, features = job.data, job.features()
    whole, val, test = job.splits
    train = draw(
        data, whole, per_class=settings.per_class, fraction=settings.fraction, seed=job.seed
    )
    scale = scaler(features[train])
    x = torch.from_numpy(scale(features)).float()
    goal = Goal.of(job.benchmark.task, data, train)
    found = _train(x, goal, train, val, settings, job)
    scores = [one.score for one in found]
    place = best_of(scores)
    best = found[place]
    if best.state is None:
        raise FMError(f"{job.label}: no learning rate gave finite scores; give smaller ones")
    notes = notes_of(found, place, settings.evaluations)
    notes += edge_note("lr", settings.rates, settings.rates[place])
    notes += told(data, whole, train)

    def predict(rows: np.ndarray) -> np.ndarray:
        z = _forward(torch.from_numpy(scale(rows)).float(), best.state)
        return goal.predictions(z[0])

    return Outcome(
        predictions=predict(features[test]),
        selection=selection("lr", list(settings.rates), scores, place),
        notes=notes,
        predict=predict,
        scale=goal.scale,
        val=predict(features[val]),
        features=features,
    )


def notes_of(found: list[Best], place: int, limit: int) -> list[str]:
    """Tell when the chosen head was best, and whether it might have become better."""
    notes = [f"the chosen rate was best at evaluation {found[place].at} of {found[place].seen}"]
    if found[place].alive and found[place].seen == limit:
        notes.append(f"training ended at its limit of {limit} evaluations")
    return notes


def _train(
    x: Tensor, goal: Goal, train: np.ndarray, val: np.ndarray, settings: Mlp, job: Job
) -> list[Best]:
    """Train one head a rate side by side."""
    count, width = len(settings.rates), x.shape[1]
    generator = torch.Generator().manual_seed(job.seed)

    def layer(rows: int, columns: int) -> Tensor:
        # uniform within 1 / sqrt(inputs), as torch's linear layer; the same for every rate
        bound = rows**-0.5
        start = (2 * torch.rand(rows, columns, generator=generator) - 1) * bound
        return start.repeat(count, 1, 1).requires_grad_()

    parameters = [
        layer(width, settings.hidden),
        torch.zeros(count, settings.hidden, requires_grad=True),
        layer(settings.hidden, goal.outputs),
        torch.zeros(count, goal.outputs, requires_grad=True),
    ]
    optimizer = AdamW(parameters, settings.weight_decay)
    rates = torch.tensor(settings.rates)
    found = [Best(settings.patience) for _ in settings.rates]
    period = max(settings.period, -(-len(train) // settings.batch_size))
    batches = stream(len(train), settings.batch_size, period * settings.evaluations, job.seed)
    with progress(f"mlp {job.label}", settings.evaluations) as bar:
        for _ in range(settings.evaluations):
            for _ in range(period):
                rows = torch.from_numpy(train[next(batches)])
                loss = goal.loss(_forward(x[rows], parameters), rows)
                optimizer.step(torch.autograd.grad(loss.sum(), parameters), rates)
            with torch.no_grad():
                for head, one in enumerate(found):
                    state = [p[head : head + 1] for p in parameters]
                    z = _forward(x[val], state)[0]
                    score = job.score(val, goal.predictions(z)) if finite(z) else np.nan
                    one.offer(score, state)
            bar.advance(best=f"{max(one.score for one in found):.4f}")
            if not any(one.alive for one in found):
                break
    return found


def _forward(x: Tensor, parameters: list[Tensor]) -> Tensor:
    """Scores [H, B, K] of x [B, D] by the H heads of the parameters."""
    first, bias, second, offset = parameters
    hidden = torch.relu(x @ first + bias[:, None])
    return hidden @ second + offset[:, None]
