"""Engine overhead over a bare loop: what DeepSpeed and our bookkeeping cost a training step.

All competitors train the same masked autoencoder (recipe `mae_s2_tiny`: 13 Sentinel-2 bands on
three grids, 64 tokens, batch 32, float32) from the same weights on the same batches with torch's
fused AdamW, decay on matrices alone and gradients clipped to norm 1. The bare loop is what one
would write by hand; Lightning Fabric is the external anchor. After the last round their losses
are compared: a competitor that did other work makes the bench fail.
"""

import math
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

from bench.runner import Bench, Ready, Target
from fm.errors import FMError
from fm.models import create_model
from fm.normalize import Normalisation
from fm.rng import CounterRng
from fm.sensors import sensor
from pretrain.config import RunConfig
from pretrain.engine.batches import MicroBatch
from pretrain.engine.engine import Engine
from pretrain.engine.groups import parameter_groups
from pretrain.objectives.mae import MAE, MAEConfig
from pretrain.ranks.processes import processes
from pretrain.settings.engine import EngineConfig
from pretrain.settings.optimizer import OptimizerConfig
from pretrain.trainer import load_config

RECIPE = "mae_s2_tiny"
BATCHES = 4
"""Batches that are made once and used in turn; made-up pixels, since only time is measured."""
QUICK_BATCH = 8
"""Batch of a quick run, which only shows that the bench still works."""
SHAPES = {"s2l1c_10": (4, 96), "s2l1c_20": (6, 48), "s2l1c_60": (3, 16)}
"""Bands and size of a 960 m patch on its three grids."""
TOLERANCE = 1e-3
"""Largest relative difference of the last losses; float32 sums in another order grow apart."""

_losses: dict[str, list[float]] = {}


@cache
def _recipe() -> RunConfig:
    return load_config(RECIPE)


@cache
def _device() -> torch.device:
    with processes() as device:
        return device


def _size(quick: bool) -> int:
    """Batch of this run; a quick one also keeps to one thread, since it may share the machine."""
    if quick:
        torch.set_num_threads(1)
    return QUICK_BATCH if quick else _recipe().data.batch_size


@cache
def _batches(size: int) -> tuple[MicroBatch, ...]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for at in range(BATCHES):
        pixels = {
            name: torch.randint(200, 4000, (size, bands, side, side), generator=generator)
            .to(torch.uint16)
            .to(_device())
            for name, (bands, side) in SHAPES.items()
        }
        positions = torch.arange(at * size, (at + 1) * size, device=_device())
        rng = CounterRng(0, torch.zeros_like(positions), positions)
        weight = torch.ones(size, device=_device())
        made.append(MicroBatch(pixels, weight, dict.fromkeys(pixels, (1e-4, 0.0)), rng))
    return tuple(made)


def _objective() -> MAE:
    """The recipe's model with the same weights at every call."""
    recipe = _recipe()
    torch.manual_seed(0)
    bands = sensor("sentinel2-l1c").modalities
    normalisation = {
        name: Normalisation.fit("zscore", {"mean": [0.2] * len(b), "std": [0.1] * len(b)})
        for name, b in bands.items()
    }
    model = recipe.model.model_dump(exclude_none=True, exclude={"normalisation", "name"})
    backbone = create_model(recipe.model.name, bands=bands, normalisation=normalisation, **model)
    assert isinstance(recipe.objective, MAEConfig)
    return MAE(backbone, recipe.objective).to(_device())


def _adamw(objective: MAE, optimizer: OptimizerConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        parameter_groups(objective, optimizer.weight_decay),
        lr=optimizer.lr,
        betas=optimizer.betas,
        eps=optimizer.eps,
        fused=True,
    )


def _ready(name: str, size: int, advance: Callable[[MicroBatch], float], **settings: Any) -> Ready:
    """Turn one training step into a repetition that walks through the batches."""
    losses = _losses[name] = []

    def step() -> None:
        # reading the loss also waits for the device
        losses.append(advance(_batches(size)[len(losses) % BATCHES]))

    return Ready(step, {"batch": size, "threads": torch.get_num_threads(), **settings})


def prepare_engine(quick: bool) -> Ready:
    """Our engine: DeepSpeed ZeRO 0 on one process."""
    recipe = _recipe()
    engine = Engine(
        _objective(),
        recipe.optimizer,
        EngineConfig(precision="fp32"),
        micro_batch=_size(quick),
        accumulate=1,
        device=_device(),
    )

    def advance(batch: MicroBatch) -> float:
        return engine.step([batch], recipe.optimizer.lr, stop=False)[0].loss

    return _ready("engine", _size(quick), advance, deepspeed="ZeRO 0")


def prepare_bare(quick: bool) -> Ready:
    """Autograd and an optimiser, nothing else."""
    settings = _recipe().optimizer
    objective = _objective()
    adamw = _adamw(objective, settings)
    parameters = list(objective.parameters())

    def advance(batch: MicroBatch) -> float:
        adamw.zero_grad(set_to_none=True)
        out = objective(batch, batch.rng)
        loss = out.loss_sum / out.weight
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
        adamw.step()
        return loss.item()

    return _ready("bare loop", _size(quick), advance)


def prepare_fabric(quick: bool) -> Ready | None:
    """Lightning Fabric on one process; absent where it is not installed."""
    if find_spec("lightning_fabric") is None:
        return None
    from lightning_fabric import Fabric

    settings = _recipe().optimizer
    kind = "cuda" if _device().type == "cuda" else "cpu"
    fabric = Fabric(accelerator=kind, devices=1, precision="32-true")
    objective = _objective()
    module, adamw = fabric.setup(objective, _adamw(objective, settings))

    def advance(batch: MicroBatch) -> float:
        adamw.zero_grad(set_to_none=True)
        out = module(batch, batch.rng)
        loss = out.loss_sum / out.weight
        fabric.backward(loss)
        torch.nn.utils.clip_grad_norm_(list(module.parameters()), settings.clip)
        adamw.step()
        return loss.item()

    return _ready("Lightning Fabric", _size(quick), advance)


def same_work() -> None:
    """Refuse the result when the competitors' losses differ at any step."""
    wanted = _losses["bare loop"]
    for name, losses in _losses.items():
        for step, (a, b) in enumerate(zip(losses, wanted, strict=True)):
            if not math.isclose(a, b, rel_tol=TOLERANCE):
                raise FMError(
                    f"bench engine: at step {step} {name} has loss {a:g} and the bare loop {b:g}; "
                    "they do not do the same work, so their times are not compared"
                )


BENCH = Bench(
    name="engine",
    question="How much slower is a training step of our engine than a bare PyTorch loop?",
    competitors={
        "engine": prepare_engine,
        "bare loop": prepare_bare,
        "Lightning Fabric": prepare_fabric,
    },
    targets=(
        Target("engine / bare loop", of="engine", over="bare loop", at_most=1.1),
        Target("engine / Lightning Fabric", of="engine", over="Lightning Fabric", at_most=1.1),
    ),
    unit="ms",
    rounds=60,
    quick_rounds=8,
    warmup=5,
    versions=("torch", "deepspeed", "timm", "pytorch-lightning", "numpy"),
    check=same_work,
)
