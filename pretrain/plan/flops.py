"""Floating-point operations of a sample, counted from the run's own model.

Counted are matrix products and convolutions, two a multiply-add: `[m, k] x [k, n]` is 2mnk. The
backward pass is counted as it is taken: each product has two of its size there, so it is twice the
forward one where everything needs gradients, and less for pixels, which need none. What a run
computes again to save memory (activation checkpointing, fused attention's backward pass) is not
work of the model and is not counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fm.rng import CounterRng
from pretrain.build import build, images
from pretrain.config import RunConfig
from pretrain.data import Layout, Shape
from pretrain.engine.batches import MicroBatch
from pretrain.labels import made_up
from pretrain.objective import Objective

SAMPLES = 2
"""Counted at once: what is computed once for all samples is shared by no more."""
FEW, MANY = 2, 8
"""Steps that are counted; the many where the few differ (objectives that draw a step's bands)."""


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one sample.

    Attributes:
        forward: of the pass up to the loss.
        backward: of its gradients.
    """

    forward: float
    backward: float

    @property
    def total(self) -> float:
        """Of a training step, without the optimiser."""
        return self.forward + self.backward


def flops_by_part(config: RunConfig, layout: Layout) -> dict[str, Flops]:
    """Count what one sample of each part of a run costs, without memory or time on a device.

    The model is built again on the meta device, so neither its weights nor the generator that made
    them are touched.

    Args:
        config: of the run.
        layout: what its samples are.

    Returns:
        part (`""` of one dataset) to the mean over some steps.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        objective = build(config.model_copy(update={"init_from": None}), layout)
    return {
        part: _mean(objective, shapes, layout.scaling) for part, shapes in layout.shapes.items()
    }


def flops_of(objective: Objective, batch: MicroBatch) -> Flops:
    """Count one batch of an objective, a sample's share; both on the meta device."""
    # fused attention computes its weights again in the backward pass, plain products do not
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss = objective(batch, batch.rng).loss_sum
        forward = counter.get_total_flops()
        loss.backward()
        total = counter.get_total_flops()
    objective.zero_grad(set_to_none=True)
    size = len(batch.weight)
    return Flops(forward / size, (total - forward) / size)


def _mean(
    objective: Objective,
    shapes: Mapping[str, Shape],
    scaling: Mapping[str, tuple[float, float]],
) -> Flops:
    labels = made_up(objective, SAMPLES, "meta")

    def one(step: int) -> Flops:
        return flops_of(objective, replace(meta_batch(shapes, scaling, step), labels=labels))

    found = [one(step) for step in range(FEW)]
    if len(set(found)) > 1:
        found += [one(step) for step in range(FEW, MANY)]
    return Flops(
        sum(one.forward for one in found) / len(found),
        sum(one.backward for one in found) / len(found),
    )


def meta_batch(
    shapes: Mapping[str, Shape],
    scaling: Mapping[str, tuple[float, float]],
    step: int,
    count: int = SAMPLES,
) -> MicroBatch:
    """Return samples of these shapes on the meta device, all valid."""
    zeros = torch.zeros(count, dtype=torch.int64, device="meta")
    lengths = [shape[0] for shape in shapes.values() if len(shape) == 4]
    return MicroBatch(
        pixels=images(shapes, count),
        weight=torch.ones(count, device="meta"),
        scaling={name: scaling[name] for name in shapes},
        rng=CounterRng(0, zeros, zeros),
        times=torch.zeros(count, lengths[0], device="meta") if lengths else None,
        step=step,
    )
