"""Contrasts with shuffled batch norms on some ranks: one pass, and a run that goes on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fm.rng import CounterRng
from pretrain.engine.batches import MicroBatch
from pretrain.objective import Objective
from pretrain.objectives.contrast.moco import MoCo
from pretrain.objectives.contrast.seco import Subspaces
from pretrain.ranks import collective
from pretrain.ranks.processes import processes
from tests.conformance.objectives import CONTRASTS, ObjectiveCase
from tests.conformance.two_ranks import GLOBAL_BATCH, engine_of
from tests.pretrain import double_ranks
from tests.pretrain.double_ranks import doubled
from tests.pretrain.momentum_ranks import one_pass, unlike

PLAIN = double_ranks.CASES["moco-v2-resnet"]
CASE = replace(PLAIN, config={**PLAIN.config, "legacy_shuffle_bn": True})
_SECO = CONTRASTS["seco-resnet"]
_CACO = {"kind": "caco", "era_years": 0.2, "places": 32}
SEASONS = {
    "seco": replace(_SECO, config={**_SECO.config, "queue": 12}),
    "caco": replace(_SECO, config={**_SECO.config, "queue": 24, **_CACO}),
}
STEP = 3
STEPS = 3


def built(*, shuffled: bool) -> tuple[MoCo, MicroBatch]:
    """Build the objective and its batch, in float64 from the normalised pixels on."""
    objective, batch = _in_float64(CASE if shuffled else PLAIN)
    assert isinstance(objective, MoCo)
    return objective, batch


def seasonal(name: str, *, shuffled: bool) -> tuple[Subspaces, MicroBatch]:
    """Build a seasonal contrast and its batch, in float64 likewise."""
    case: ObjectiveCase = SEASONS[name]
    case = replace(case, config={**case.config, "legacy_shuffle_bn": shuffled})
    objective, batch = _in_float64(case)
    assert isinstance(objective, Subspaces)
    return objective, batch


def _in_float64(case: ObjectiveCase) -> tuple[Objective, MicroBatch]:
    objective = case.build()
    batch = unlike(case, objective)
    batch.weight, batch.step = batch.weight.double(), STEP
    doubled(objective)
    return objective, batch


def statistics(objective: Objective) -> dict[str, Tensor]:
    """Return the running statistics of student and teacher."""
    return {n: x.clone() for n, x in objective.state_dict().items() if "running" in n}


def steps(folder: Path) -> dict[str, Any]:
    """Take steps, and the last of them again from a checkpoint; return losses and states."""
    share = GLOBAL_BATCH // collective.world_size()
    mine = slice(collective.rank() * share, (collective.rank() + 1) * share)
    found: dict[str, Any] = {}
    for name in ("through", "resumed"):
        objective = CASE.build()
        engine = engine_of(objective, share, torch.device("cpu"))
        if name == "resumed":
            engine.load(str(folder), "kept")
        for step in range(STEPS - 1 if name == "resumed" else 0, STEPS):
            if step == STEPS - 1 and name == "through":
                engine.save(str(folder), "kept")
            batch = CASE.batch(objective, GLOBAL_BATCH, seed=step)
            at = torch.arange(GLOBAL_BATCH) + step * GLOBAL_BATCH
            batch.rng, batch.step = CounterRng(7, torch.zeros_like(at), at), step
            result, _ = engine.step([batch.select(mine)], 1e-3, stop=False)
            found[name] = {"loss": result.loss, "norm": result.grad_norm}
        found[name]["state"] = {n: x.clone() for n, x in objective.state_dict().items()}
    return found


def main(out: Path) -> None:
    """Write what each rank found."""
    with processes():
        objective, batch = built(shuffled=True)
        told = {"pass": one_pass(objective, batch), "statistics": statistics(objective)}
        for name in SEASONS:
            seasons, batch = seasonal(name, shuffled=True)
            told[name] = {"pass": one_pass(seasons, batch), "statistics": statistics(seasons)}
        told["steps"] = steps(out / "checkpoint")
        torch.save(told, out / f"{collective.rank()}.pt")
