"""Noise of sensors: speckle, drifting calibration, detector noise; by counters, as all else."""

import math

import torch
from torch import Tensor

from fm.rng import CounterRng
from pretrain.augment.hit import where_hit

CHANNELS = 16
"""Drawn at once: the numbers of many more would take more memory than the view."""


def normal(rng: CounterRng, purpose: str, count: int) -> Tensor:
    """Draw `[B, count]` float32 from the standard normal distribution (Box and Muller)."""
    bits = rng.bits(purpose, count)
    low = (1 << 24) - 1
    radius = ((((bits >> 40) & low).float() + 0.5) * 2.0**-24).log().mul(-2.0).sqrt()
    return radius * torch.cos(((bits >> 12) & low).float() * (2.0 * math.pi * 2.0**-24))


def normal_like(rng: CounterRng, purpose: str, x: Tensor) -> Tensor:
    """Draw as many as `[B, C, H, W]` has numbers."""
    parts = [
        normal(rng, f"{purpose}:{first}", part[0].numel()).view_as(part)
        for first, part in zip(
            range(0, x.shape[1], CHANNELS), x.split(CHANNELS, dim=1), strict=True
        )
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def speckled(x: Tensor, looks: float, draw: Tensor, hit: Tensor) -> Tensor:
    """Multiply power by speckle of mean 1 and variance 1 / looks.

    A gamma draw as the cube of a normal one (Wilson and Hilferty 1931), whose mean is 1 to
    1 / (9 looks)^3.

    Args:
        x: `[B, C, H, W]` dB.
        looks: at least 4.
        draw: standard normal numbers of x's shape.
        hit: `[B, 1, 1, 1]` bool.
    """
    share = 1.0 / (9.0 * looks)
    cube_root = (1.0 - share + math.sqrt(share) * draw).clamp(min=1e-3)
    return where_hit(hit, x + 30.0 * torch.log10(cube_root), x)


def drifted(x: Tensor, sigma: float, draw: Tensor, hit: Tensor) -> Tensor:
    """Multiply each band by a factor of its own.

    Args:
        x: `[B, C, H, W]`.
        sigma: standard deviation of the factors about 1.
        draw: `[B, C, 1, 1]` standard normal numbers.
        hit: `[B, 1, 1, 1]` bool.
    """
    return where_hit(hit, x * (1.0 + sigma * draw), x)


def noisy(x: Tensor, means: Tensor, sigma: float, draw: Tensor, hit: Tensor) -> Tensor:
    """Add noise whose standard deviation is a share of each band's mean.

    Args:
        x: `[B, C, H, W]`.
        means: `[B, C, 1, 1]`.
        sigma: the share.
        draw: standard normal numbers of x's shape.
        hit: `[B, 1, 1, 1]` bool.
    """
    return where_hit(hit, x + sigma * means.abs() * draw, x)
