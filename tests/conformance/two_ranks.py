"""A few steps of objectives, on some ranks."""

import json
from pathlib import Path

import torch

from fm.rng import CounterRng
from pretrain.engine.engine import Engine
from pretrain.objective import Objective
from pretrain.ranks import collective
from pretrain.ranks.processes import processes
from pretrain.settings.engine import EngineConfig
from pretrain.settings.optimizer import OptimizerConfig
from tests.conformance.objectives import OBJECTIVES, ObjectiveCase

GLOBAL_BATCH = 4


def engine_of(
    objective: Objective, micro_batch: int, device: torch.device, **changes: object
) -> Engine:
    """Wrap an objective as a run does, in float32; changes are of `EngineConfig`."""
    optimizer = OptimizerConfig(lr=1e-3, clip=1.0)
    config = EngineConfig.model_validate({"precision": "fp32", **changes})
    return Engine(
        objective, optimizer, config, micro_batch=micro_batch, accumulate=1, device=device
    )


def steps(case: ObjectiveCase, engine: Engine, numbers: range) -> list[tuple[float, float | None]]:
    """Take some steps on this rank's share of the global batches; return losses and norms."""
    found = []
    ranks, rank = collective.world_size(), collective.rank()
    for step in numbers:
        batch = case.batch(engine.objective, GLOBAL_BATCH, seed=step)
        batch.weight[0] = 0.25  # ranks of unequal weight
        positions = torch.arange(GLOBAL_BATCH) + step * GLOBAL_BATCH
        batch.rng = CounterRng(7, torch.zeros_like(positions), positions)
        share = GLOBAL_BATCH // ranks
        own = batch.select(slice(rank * share, (rank + 1) * share))
        result, _ = engine.step([own], 1e-3, stop=False)
        found.append((result.loss, result.grad_norm))
    return found


def main(out: Path, settings: str = "zero0", *names: str) -> None:
    """Write the losses and gradient norms of the named objectives, or of every one."""
    with processes() as device:
        micro_batch = GLOBAL_BATCH // collective.world_size()
        found = {
            name: steps(
                OBJECTIVES[name],
                engine_of(OBJECTIVES[name].build(), micro_batch, device, deepspeed=settings),
                range(3),
            )
            for name in names or OBJECTIVES
        }
        if collective.rank() == 0:
            out.write_text(json.dumps(found))
