"""One pass of contrasts on some ranks: losses, gradients of all, and what their queues took in."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretrain.after_step import AfterStep
from pretrain.engine.batches import MicroBatch
from pretrain.objective import Objective
from pretrain.objectives.contrast.momentum import MomentumContrast
from pretrain.ranks import collective
from pretrain.ranks.processes import processes
from tests.conformance.objectives import CONTRASTS, ObjectiveCase

NAMES = ("moco-v2", "moco-v3", "softcon-v2", "softcon-v3")
ROWS = 12


def built(name: str) -> tuple[MomentumContrast, MicroBatch]:
    """Build a case and its batch."""
    objective = CONTRASTS[name].build()
    assert isinstance(objective, MomentumContrast)
    return objective, unlike(CONTRASTS[name], objective)


def unlike(case: ObjectiveCase, objective: Objective) -> MicroBatch:
    """Make a batch of unlike samples of which two could not be read."""
    batch = case.batch(objective, ROWS)
    batch.weight[1], batch.weight[7], batch.weight[4] = 0.0, 0.0, 0.5
    generator = torch.Generator().manual_seed(3)
    for x in batch.pixels.values():
        x *= 2 * torch.rand((*x.shape[:2], *[1] * (x.ndim - 2)), generator=generator)
    return batch


def results(name: str) -> dict[str, Any]:
    """Take one pass of a case."""
    return one_pass(*built(name))


def one_pass(objective: Objective, batch: MicroBatch) -> dict[str, Any]:
    """Return the loss and metrics over all ranks, the sums of gradients, and the queues."""
    share = ROWS // collective.world_size()
    own = batch.select(slice(collective.rank() * share, (collective.rank() + 1) * share))
    out = objective(own, own.rng)
    out.loss_sum.backward()
    sums = {"loss": out.loss_sum.detach(), **out.metrics}
    for part in objective.modules():
        if isinstance(part, AfterStep):
            part.take(collective.gather_rows)
    state: dict[str, Tensor] = {n: x for n, x in objective.state_dict().items() if "queue" in n}
    return {
        "sums": {n: float(collective.all_reduce_sum(x.clone())) for n, x in sums.items()},
        "gradients": {
            n: collective.all_reduce_sum(p.grad.clone())
            for n, p in objective.named_parameters()
            if p.grad is not None
        },
        "queues": state,
    }


def main(out: Path) -> None:
    """Write what the first rank found."""
    with processes():
        found = {name: results(name) for name in NAMES}
        if collective.rank() == 0:
            torch.save(found, out)
