"""Passes in float64 of contrasts with batch norms or a queue, on some ranks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pretrain.objective import Objective
from pretrain.ranks import collective
from pretrain.ranks.processes import processes
from tests.conformance.objectives import CONTRASTS
from tests.pretrain.momentum_ranks import ROWS, one_pass, unlike

_MOCO = {"kind": "moco", "version": "v2", "queue": 12, "width": 8, "hidden": 16}
CASES = {
    "moco-v2-resnet": replace(
        CONTRASTS["softcon-v2"], config={**_MOCO, "view": {"size": 64}}, labels={}
    ),
    "decur": CONTRASTS["decur"],
    "decur-uneven": CONTRASTS["decur"],
    "satclip-queue": CONTRASTS["satclip-queue"],
}
PASSES = {"satclip-queue": 2}
"""More than one where the first begins without anything in the queue; gradients are added up."""
UNEVEN = slice(ROWS // 2, None)
"""Samples, all of the second rank, that have no valid pixel of the second sensor."""


def doubled(objective: Objective) -> Objective:
    """Have an objective compute in float64 from the normalised pixels on."""

    def wide(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(x.double() if torch.is_floating_point(x) else x for x in given)

    for part in objective.double().modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            part.register_forward_pre_hook(wide)
    return objective


def results(name: str) -> dict[str, Any]:
    """Take one pass of a case, or some."""
    objective = CASES[name].build()
    batch = unlike(CASES[name], objective)
    batch.weight = batch.weight.double()
    if name == "decur-uneven":
        batch.valid = {m: torch.ones_like(x, dtype=torch.bool) for m, x in batch.pixels.items()}
        for modality in ("s2l1c_20", "s2l1c_60"):
            batch.valid[modality][UNEVEN] = False
    doubled(objective)
    for _ in range(PASSES.get(name, 1) - 1):
        one_pass(objective, batch)
    return one_pass(objective, batch)


def main(out: Path) -> None:
    """Write what the first rank found."""
    with processes():
        found = {name: results(name) for name in CASES}
        if collective.rank() == 0:
            torch.save(found, out)
