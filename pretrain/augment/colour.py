"""Brightness, contrast and grey, of physical numbers.

Formulas of SSL4EO-S12's recipe (Wang et al., arXiv 2211.07044): `x f` for brightness, and
`m + f (x - m)` for contrast with `m` the mean of the band over the view.
"""

import torch
from torch import Tensor

from pretrain.augment.hit import anyone, where_hit


def band_means(x: Tensor, valid: Tensor | None) -> Tensor:
    """Return the mean of the valid values of each band: `[B, C, 1, 1]`, 0 where there is none.

    Sums are float64, so that they do not depend on how a device cuts them.
    """
    axes = (-2, -1)
    if valid is None:
        return x.mean(dim=axes, keepdim=True, dtype=torch.float64).float()
    total = torch.where(valid, x, 0.0).sum(dim=axes, keepdim=True, dtype=torch.float64)
    return (total / valid.sum(dim=axes, keepdim=True).clamp(min=1)).float()


def factor(draw: Tensor, jitter: float, hit: Tensor) -> Tensor:
    """Return numbers between 1 - jitter and 1 + jitter from uniform draws; 1 where not hit."""
    return torch.where(hit, 1.0 + jitter * (2.0 * draw - 1.0), 1.0)


def stretched(x: Tensor, valid: Tensor | None, by: Tensor) -> Tensor:
    """Multiply deviations from each band's mean over the view.

    Args:
        x: `[B, C, H, W]`.
        valid: of that shape; None if all is valid.
        by: `[B, 1, 1, 1]`; where it is 1, x comes back as it is.
    """
    hit = by != 1.0
    if not anyone(hit):
        return x
    mean = band_means(x, valid)
    return where_hit(hit, (x * by).add_(mean * (1.0 - by)), x)


def not_below_zero(made: Tensor, before: Tensor) -> Tensor:
    """Keep what was not negative from becoming so; what was negative, from becoming more so."""
    return torch.maximum(made, before.clamp(max=0.0))


def wrapped(x: Tensor) -> Tensor:
    """Return what a cast to 8 bits without a clip makes of counts."""
    return torch.remainder(torch.trunc(x), 256.0)


def counts(x: Tensor) -> Tensor:
    """Cut reflectance to [0, 1] and return the lower of 256 steps, 0 to 255."""
    return torch.floor(x.clamp(0.0, 1.0) * 255.0)


def greyed(x: Tensor, valid: Tensor | None, hit: Tensor) -> Tensor:
    """Replace the bands of hit samples by their mean, over the valid ones at each pixel."""
    if not anyone(hit):
        return x
    if valid is None:
        mean = x.mean(dim=1, keepdim=True)
    else:
        kept = torch.where(valid, x, 0.0).sum(dim=1, keepdim=True)
        mean = kept / valid.sum(dim=1, keepdim=True).clamp(min=1)
    return where_hit(hit, mean, x)


def solarised(x: Tensor, at: float, below: bool, hit: Tensor) -> Tensor:
    """Turn reflectance over, `1 - x`, from `at` on, or below it."""
    if not anyone(hit):
        return x
    turned = x < at if below else x >= at
    return torch.where(hit & turned, 1.0 - x, x)
