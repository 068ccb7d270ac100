"""A student's features against its teacher's: one number for each pair of vectors.

Smooth L1 on targets without mean and scale is feature distillation's loss (Wei et al., arXiv
2205.14141, section 3: a LayerNorm without weights, which they call whitening, and a threshold of
2); cosine and smooth L1 together are AM-RADIO's on tokens (Ranzinger et al., arXiv 2312.06709);
the squared error of a regressor goes back to FitNets' hints (Romero et al., arXiv 1412.6550).
"""

import torch
from torch import Tensor
from torch.nn import functional

from fm.hardware import full_precision
from pretrain.losses.precision import wide

EPSILON = 1e-5
"""Added to a vector's variance, as LayerNorm does."""


def whitened(targets: Tensor) -> Tensor:
    """Bring each vector `[..., D]` to mean 0 and variance 1 over its D, without gradient.

    A LayerNorm without weights: (x - mean) / sqrt(variance + 1e-5), the variance divided by D.
    """
    with full_precision(targets.device):
        x = wide(targets).detach()
        return functional.layer_norm(x, x.shape[-1:], eps=EPSILON)


def squared_error(student: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over D of (s - t)^2 for vectors `[..., D]`: `[...]`, float32 at least."""
    with full_precision(student.device):
        return (wide(student) - wide(targets).detach()).square().mean(dim=-1)


def cosine_distance(student: Tensor, targets: Tensor) -> Tensor:
    """Return 1 - cos(s, t) for vectors `[..., D]`: `[...]`; 1 where one of them is zeros."""
    with full_precision(student.device):
        a = functional.normalize(wide(student), dim=-1)
        b = functional.normalize(wide(targets).detach(), dim=-1)
        return 1.0 - (a * b).sum(dim=-1)


def smooth_l1(student: Tensor, targets: Tensor, *, beta: float = 2.0) -> Tensor:
    """Return the mean over D of d^2 / (2 beta) where d = |s - t| < beta, of d - beta / 2 elsewhere.

    Args:
        student: `[..., D]`.
        targets: `[..., D]`, no gradient.
        beta: where the parabola becomes a line.
    """
    with full_precision(student.device):
        each = functional.smooth_l1_loss(
            wide(student), wide(targets).detach(), reduction="none", beta=beta
        )
        return each.mean(dim=-1)


def mean_of_valid(values: Tensor, valid: Tensor | None) -> Tensor:
    """Return each row's mean over its valid entries, 0 where it has none.

    Args:
        values: `[B, N]`.
        valid: bool `[B, N]`; None if all are.

    Returns:
        `[B]`.
    """
    if valid is None:
        return values.mean(dim=1)
    counted = torch.where(valid, values, 0.0).sum(dim=1)
    return counted / valid.sum(dim=1).clamp(min=1)
