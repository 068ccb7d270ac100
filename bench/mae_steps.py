"""What the `mae_*` comparisons share: our objectives on made-up pixels, and one training step."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bench.runner import Ready
from fm.models import Backbone
from fm.normalize import Normalisation
from fm.rng import CounterRng
from fm.sensors import Band
from pretrain.engine.batches import MicroBatch
from pretrain.engine.groups import parameter_groups
from pretrain.objective import Objective

LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.05
MEAN, DEVIATION = 0.2, 0.1
"""Of the made-up reflectance: one step's time does not depend on it."""


def threads(quick: bool) -> None:
    """Keep a quick run to one thread, since it may share the machine."""
    if quick:
        torch.set_num_threads(1)


def images(shape: Sequence[int]) -> Tensor:
    """Return made-up normalised images, the same at every call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def stored(normal: Tensor) -> Tensor:
    """Return the same images as a dataset stores them: uint16, reflectance x 10000."""
    values = (normal * DEVIATION + MEAN).clamp(0.0001, 6.5) * 1e4
    return values.round().to(torch.uint16)


def normalisation(bands: Mapping[str, Sequence[Band]]) -> dict[str, Normalisation]:
    """Return the normalisation that undoes `stored`."""
    return {
        name: Normalisation.fit(
            "zscore", {"mean": [MEAN] * len(own), "std": [DEVIATION] * len(own)}
        )
        for name, own in bands.items()
    }


def batch_of(pixels: Mapping[str, Tensor], step: int) -> MicroBatch:
    """Return a batch of stored pixels whose masks are those of a step."""
    size = len(next(iter(pixels.values())))
    positions = torch.arange(step * size, (step + 1) * size)
    rng = CounterRng(0, torch.zeros_like(positions), positions)
    return MicroBatch(
        dict(pixels), torch.ones(size), dict.fromkeys(pixels, (1e-4, 0.0)), rng, step=step
    )


def adamw(module: nn.Module) -> torch.optim.AdamW:
    """Return fused AdamW, matrices alone decayed."""
    groups = parameter_groups(module, WEIGHT_DECAY)
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.95), fused=True)


def ready(
    module: nn.Module,
    loss: Callable[[int], Tensor],
    losses: list[float],
    *,
    bf16: bool = False,
    **settings: Any,
) -> Ready:
    """Turn a loss into training steps: forward, backward, AdamW.

    Args:
        module: what is trained.
        loss: of the step of a number.
        losses: grows by the loss of each step.
        bf16: forward under bfloat16 autocast.
        settings: for the record.
    """
    optimizer = adamw(module.train())
    count = sum(p.numel() for p in module.parameters())

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value = loss(len(losses))
        value.backward()
        optimizer.step()
        losses.append(value.item())

    precision = "bfloat16 autocast" if bf16 else "float32"
    told = {"threads": torch.get_num_threads(), "parameters": count, "precision": precision}
    return Ready(step, {**settings, **told})


def of_objective(
    objective: Objective, pixels: Mapping[str, Tensor], losses: list[float], **settings: Any
) -> Ready:
    """Turn an objective into training steps on stored pixels."""

    def loss(step: int) -> Tensor:
        batch = batch_of(pixels, step)
        out = objective(batch, batch.rng)
        return out.loss_sum / out.weight

    return ready(objective, loss, losses, **settings)


def parameters(backbone: Backbone) -> int:
    """Count a backbone's parameters."""
    return sum(p.numel() for p in backbone.parameters())
