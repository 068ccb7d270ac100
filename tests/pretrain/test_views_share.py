"""Contrastive objectives learn what the views of a sample share.

The images of a sample have one texture in common, the direction of its waves. Their phase, the
shading over them, which is as strong, and the noise are drawn for each image anew.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from fm.models import Backbone, create_model
from fm.normalize import Normalisation
from fm.rng import CounterRng
from fm.sensors import sensor
from pretrain.engine.batches import MicroBatch
from pretrain.objectives import ObjectiveConfig, build_objective
from pretrain.ranks.processes import processes
from pretrain.schedule import Clock, learning_rate
from tests.conformance.two_ranks import engine_of

MODALITY, SIDE, DIRECTIONS = "s2l1c_10", 12, 8
VIEW = {
    **{"size": SIDE, "scale": [1, 1], "ratio": [1, 1], "flips": "none"},
    "optical": {"colour_chance": 0, "grey": 0, "blur_chance": 0},
}
DINO = {
    **{"kind": "dino", "view": VIEW, "outputs": 32, "hidden": 64, "bottleneck": 16},
    "local_view": {**VIEW, "size": 8, "resize": False},
    "local_views": 2,
}
MOCO = {"kind": "moco", "view": VIEW, "hidden": 64, "width": 32}


@dataclass(frozen=True)
class Case:
    """A config that learns within seconds.

    Attributes:
        config: of the objective.
        steps: of training.
        rate: highest learning rate.
        batch: samples of a step.
        depth: of the backbone.
    """

    config: Mapping[str, Any]
    steps: int
    rate: float
    batch: int = 32
    depth: int = 1


CASES = {
    "moco-v2": Case({**MOCO, "version": "v2", "queue": 256, "momentum": 0.99}, 60, 3e-3),
    "moco-v3": Case({**MOCO, "momentum": {"start": 0.9, "end": 1.0}}, 60, 3e-3, 64, 2),
    "dino": Case({**DINO, "momentum": 0.99}, 120, 5e-3),
    "dino-sinkhorn": Case({**DINO, "centring": "sinkhorn", "momentum": 0.98}, 70, 5e-3),
}


def images(count: int, times: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw series `[n, T, 4, SIDE, SIDE]` of reflectance, and the directions of their waves."""
    generator = torch.Generator().manual_seed(seed)
    at = torch.arange(SIDE, dtype=torch.float32)

    def drawn(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    def waves(angle: Tensor, period: float) -> Tensor:
        along, down = torch.cos(angle)[..., None, None], torch.sin(angle)[..., None, None]
        phase = drawn(count, times, 1, 1)
        return torch.sin(2 * math.pi * ((along * at + down * at[:, None]) / period + phase))

    direction = torch.randint(DIRECTIONS, (count,), generator=generator)
    texture = (direction * math.pi / DIRECTIONS)[:, None].expand(count, times)
    shade = waves(2 * math.pi * drawn(count, times), 2.0 * SIDE)
    lit = 0.3 + 0.06 * shade + 0.06 * waves(texture, 5.0)
    noise = torch.randn(count, times, 4, SIDE, SIDE, generator=generator)
    return lit[:, :, None] + 0.03 * noise, direction


def found_by_neighbours(model: Backbone) -> float:
    """Return the share of fresh images whose five nearest say their direction (chance: .125)."""
    x, direction = images(300, 1, 99)
    with torch.no_grad():
        inputs = model.inputs({MODALITY: x[:, 0]}, scaling={MODALITY: (1.0, 0.0)})
        rows = model._encode(inputs, hidden=False).pooled
    rows = normalize((rows - rows.mean(dim=0)) / rows.std(dim=0))
    nearest = (rows @ rows.T).fill_diagonal_(-2).topk(5).indices
    votes = one_hot(direction[nearest], DIRECTIONS).sum(dim=1)
    return (votes.argmax(dim=1) == direction).float().mean().item()


@pytest.mark.parametrize("name", CASES)
def test_what_views_share_is_learned(name: str) -> None:
    """Defects: anything by which a step runs and its loss falls, but nothing is learned."""
    case = CASES[name]
    batch, steps = case.batch, case.steps
    torch.manual_seed(0)
    backbone = create_model(
        "vit_nano",
        bands={MODALITY: sensor("sentinel2-l1c").modalities[MODALITY]},
        token_m=40,
        normalisation={MODALITY: Normalisation("zscore", (0.3,) * 4, (0.07,) * 4)},
        width=32,
        depth=case.depth,
        heads=2,
    )
    objective = build_objective(
        TypeAdapter(ObjectiveConfig).validate_python(dict(case.config)), backbone.train()
    )
    before = found_by_neighbours(objective.model)
    with processes() as device:
        engine = engine_of(objective, batch, device)
        for step in range(steps):
            x, _ = images(batch, 3, 1000 + step)
            positions = torch.arange(batch) + step * batch
            rng = CounterRng(7, torch.zeros_like(positions), positions)
            samples = MicroBatch({MODALITY: x}, torch.ones(batch), {MODALITY: (1.0, 0.0)}, rng)
            samples.clock = Clock(step * batch, (steps - 1) * batch)
            rate = learning_rate(step, peak=case.rate, steps=steps, warmup=10, minimum=0.0)
            engine.step([samples], rate, stop=False)
    after = found_by_neighbours(objective.model)
    assert before < 0.45
    assert after > before + 0.2, (before, after)
