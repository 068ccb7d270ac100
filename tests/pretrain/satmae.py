"""SatMAE's published form: ten bands of Sentinel-2 on one 10 m grid, in three groups."""

from dataclasses import replace
from typing import Any

import torch

from fm.models import Backbone, create_model
from fm.rng import CounterRng
from fm.sensors import Band, sensor
from pretrain.engine.batches import MicroBatch
from pretrain.objectives import build_objective
from pretrain.objectives.mae import MAE
from pretrain.objectives.masked import MAEConfig
from pretrain.objectives.multiscale import MultiScaleConfig, MultiScaleMAE

NAMES = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
GROUPS = {
    "g0": ["B02", "B03", "B04", "B08"],
    "g1": ["B05", "B06", "B07", "B8A"],
    "g2": ["B11", "B12"],
}
MODALITY = "s2l1c_10"
SMALL = {"width": 32, "depth": 1, "heads": 2, "group_code_width": 8}
DECODER = {"kind": "joint", "width": 32, "depth": 1, "heads": 2}


def bands(names: tuple[str, ...] = NAMES) -> dict[str, tuple[Band, ...]]:
    table = {b.name: b for items in sensor("sentinel2-l1c").modalities.values() for b in items}
    return {MODALITY: tuple(replace(table[n], gsd_m=10.0, modality=MODALITY) for n in names)}


def grouped(name: str = "vit_nano", **options: Any) -> Backbone:
    torch.manual_seed(0)
    chosen = options or SMALL
    return create_model(name, bands=bands(), token_m=80, token_groups=GROUPS, **chosen)


def satmae(backbone: Backbone | None = None, **options: Any) -> MAE:
    config = MAEConfig.model_validate({"decoder": DECODER, "target": "pixel", **options})
    made = build_objective(config, backbone or grouped())
    assert isinstance(made, MAE)
    return made


def satmaepp(backbone: Backbone | None = None, **options: Any) -> MultiScaleMAE:
    config = MultiScaleConfig.model_validate({"decoder": DECODER, **options})
    made = build_objective(config, backbone or grouped())
    assert isinstance(made, MultiScaleMAE)
    return made


def batch(side: int, count: int = 2, channels: int = 10) -> MicroBatch:
    pixels = torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1))
    rng = CounterRng(7, torch.zeros(count, dtype=torch.int64), torch.arange(count))
    return MicroBatch({MODALITY: pixels}, torch.ones(count), {}, rng)
