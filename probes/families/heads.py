"""One head a learning rate, one after the other, on inputs that are fetched batch by batch.

`probes.families.mlp` trains its heads side by side; those here are too large for that.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from fm.console import progress
from fm.errors import FMError
from probes.families.descent import Best, Goal, finite, stream
from probes.families.job import Job, Outcome, best_of, edge_note, selection
from probes.families.labels import told
from probes.families.mlp import notes_of
from probes.settings.early import Early

BATCH = 256
"""Samples that are scored at once."""


def train_heads(
    job: Job,
    settings: Early,
    train: np.ndarray,
    *,
    name: str,
    build: Callable[[int], nn.Module],
    decayed: Callable[[nn.Module], Sequence[Tensor]],
    batch: Callable[[np.ndarray], tuple[Tensor, ...]],
    notes: Sequence[str] = (),
) -> Outcome:
    """Train one head a rate until val stops improving, choose on val, score test.

    Args:
        job: the benchmark, its splits and the seed.
        settings: the recipe.
        train: numbers of the samples that are learnt from.
        name: of the head, beside the progress bar.
        build: from the number of outputs K to a new head, whose scores are `[B, K]`.
        decayed: the head's parameters that weight decay is for.
        batch: from numbers of samples to the head's inputs.
        notes: for the reader of the numbers.

    Raises:
        FMError: no learning rate gave finite scores.
    """
    whole, val, test = job.splits
    goal = Goal.of(job.benchmark.task, job.data, train)

    @torch.no_grad()
    def scores_of(head: nn.Module, rows: np.ndarray) -> Tensor:
        parts = [head(*batch(rows[i : i + BATCH])) for i in range(0, len(rows), BATCH)]
        return torch.cat(parts)

    def fit(rate: float) -> Best:
        torch.manual_seed(job.seed)  # every rate starts at the same weights
        head = build(goal.outputs)
        matrices = list(decayed(head))
        kept = {id(p) for p in matrices}
        others = [p for p in head.parameters() if id(p) not in kept]
        groups = [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=rate)
        found = Best(settings.patience)
        period = max(settings.period, -(-len(train) // settings.batch_size))
        batches = stream(len(train), settings.batch_size, period * settings.evaluations, job.seed)
        with progress(f"{name} {job.label} lr={rate:g}", settings.evaluations) as bar:
            for _ in range(settings.evaluations):
                for _ in range(period):
                    rows = train[next(batches)]
                    loss = goal.loss(head(*batch(rows))[None], torch.from_numpy(rows)).sum()
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                z = scores_of(head, val)
                score = job.score(val, goal.predictions(z)) if finite(z) else np.nan
                found.offer(score, list(head.parameters()))
                bar.advance(best=f"{found.score:.4f}")
                if not found.alive:
                    break
        return found

    with torch.random.fork_rng(devices=[]):
        found = [fit(rate) for rate in settings.rates]
        head = build(goal.outputs)
    scores = [one.score for one in found]
    place = best_of(scores)
    if found[place].state is None:
        raise FMError(f"{job.label}: no learning rate gave finite scores; give smaller ones")
    with torch.no_grad():
        for parameter, value in zip(head.parameters(), found[place].state, strict=True):
            parameter.copy_(value)
    return Outcome(
        predictions=goal.predictions(scores_of(head, test)),
        selection=selection("lr", list(settings.rates), scores, place),
        notes=[
            *notes_of(found, place, settings.evaluations),
            *edge_note("lr", settings.rates, settings.rates[place]),
            *notes,
            *told(job.data, whole, train),
        ],
        scale=goal.scale,
        val=goal.predictions(scores_of(head, val)),
    )
