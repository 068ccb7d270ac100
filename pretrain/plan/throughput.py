"""What the device at hand does: passes a second of the run's own model, and its memory's speed."""

import time
from dataclasses import replace
from statistics import median

import torch

from fm.errors import FMError
from fm.rng import CounterRng
from pretrain.build import build
from pretrain.config import RunConfig
from pretrain.data import Layout, declared, is_here, open_data
from pretrain.engine.batches import MicroBatch
from pretrain.engine.forward import Forward
from pretrain.fit import fit_bases
from pretrain.labels import made_up
from pretrain.objective import Objective
from pretrain.plan.cost import ADAMW_BYTES

ROUNDS = 5
"""The median of so many is taken, after one that is not counted."""
ELEMENTS = 20_000_000
"""Of the tensor that the optimiser is timed on: larger than any cache."""


def passes_a_second(config: RunConfig, device: torch.device, micro: int | None = None) -> float:
    """Time the forward and backward pass of a run's model on made-up pixels.

    Args:
        config: of the run.
        device: where.
        micro: samples at once; the run's on one rank when None.

    Returns:
        samples a second, the mean over a mixture's parts by their shares of the steps.
    """
    data = open_data(config) if all(map(is_here, config.data.datasets.values())) else None
    layout = declared(config.data) if data is None else data.layout
    objective = build(config.model_copy(update={"init_from": None}), layout)
    if data is not None:
        fit_bases(objective.backbone, data)
    module = Forward(objective.to(device), config.engine.precision)
    count = micro or config.engine.micro_batch or config.data.batch_size
    weights = {name: getattr(p, "weight", 1.0) for name, p in config.data.datasets.items()}
    seconds = {
        part: _one(
            module,
            objective,
            replace(_batch(layout, part, count, device), labels=made_up(objective, count, device)),
        )
        / count
        for part in layout.shapes
    }
    total = sum(weights[part] * seconds[part] for part in seconds)
    return sum(weights.values()) / total


def optimizer_bandwidth(device: torch.device) -> float:
    """Time torch's fused AdamW; return the bytes a second that it moves."""
    weight = torch.nn.Parameter(torch.zeros(ELEMENTS, device=device))
    weight.grad = torch.ones_like(weight)
    optimizer = torch.optim.AdamW([weight], fused=True)
    return ELEMENTS * ADAMW_BYTES / _timed(optimizer.step, device)


def _one(module: Forward, objective: Objective, batch: MicroBatch) -> float:
    def step() -> None:
        loss = module(batch)[0]
        if not torch.isfinite(loss):
            raise FMError("the made-up pixels give no finite loss; give --measured SAMPLES/S")
        loss.backward()

    return _timed(step, batch.weight.device)


def _timed(step: object, device: torch.device) -> float:
    taken = []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        step()  # type: ignore[operator]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - started)
    return median(taken[1:])


def _batch(layout: Layout, part: str, count: int, device: torch.device) -> MicroBatch:
    generator = torch.Generator().manual_seed(0)
    shapes = layout.shapes[part]
    pixels = {
        name: torch.randint(200, 4000, (count, *shape), generator=generator)
        .to(torch.uint16)
        .to(device)
        for name, shape in shapes.items()
    }
    positions = torch.arange(count, device=device)
    lengths = [shape[0] for shape in shapes.values() if len(shape) == 4]
    return MicroBatch(
        pixels=pixels,
        weight=torch.ones(count, device=device),
        scaling={name: layout.scaling[name] for name in shapes},
        rng=CounterRng(0, torch.zeros_like(positions), positions),
        times=torch.zeros(count, lengths[0], device=device) if lengths else None,
    )
