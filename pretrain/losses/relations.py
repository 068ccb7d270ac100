"""Relational distillation: distances and angles between samples (Park et al., arXiv 1904.05068).

What a student shares with its teacher are not its vectors but how those of a batch lie to each
other, so widths may differ. Both take all rows of the global batch and return the terms of some of
them, for the caller to weight. Means are over pairs and triplets of different samples; the
published code counts the others, whose terms are 0, as well: with N samples its numbers are
(N - 1) / N and (N - 1)(N - 2) / N^2 of these.
"""

import torch
from torch import Tensor
from torch.nn import functional

from fm.hardware import full_precision
from pretrain.losses.precision import wide


def distance_relations(
    student: Tensor, teacher: Tensor, *, rows: Tensor, counted: Tensor
) -> Tensor:
    """Compare the distances between samples, each in units of the batch's mean distance.

    Equations 4 to 7: Huber's loss (threshold 1) of |s_i - s_j| / mean_s - |t_i - t_j| / mean_t.

    Args:
        student: `[m, D]` of the global batch.
        teacher: `[m, E]` likewise; no gradient.
        rows: `[n]` int64, whose terms are returned.
        counted: bool `[m]`; other samples take part in no pair.

    Returns:
        `[n]`: each row's mean over the other samples; 0 where it does not count or is alone.
    """
    with full_precision(student.device):
        pairs = counted[:, None] & counted[None]
        pairs = pairs & ~torch.eye(len(counted), dtype=torch.bool, device=counted.device)
        ours = _distances(wide(student), pairs)
        theirs = _distances(wide(teacher).detach(), pairs)
        apart = functional.smooth_l1_loss(ours[rows], theirs[rows], reduction="none")
        used = pairs[rows]
        return torch.where(used, apart, 0.0).sum(dim=1) / used.sum(dim=1).clamp(min=1)


def _distances(x: Tensor, pairs: Tensor) -> Tensor:
    """Return `[m, m]` distances over their mean, 0 for pairs that do not count."""
    # not by products, which round small distances away
    far = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    far = torch.where(pairs, far, 0.0)
    mean = far.sum() / pairs.sum().clamp(min=1)
    return far / mean.clamp(min=torch.finfo(far.dtype).tiny)


def angle_relations(student: Tensor, teacher: Tensor, *, rows: Tensor, counted: Tensor) -> Tensor:
    """Compare the angles at each sample between any two others.

    Equations 8 to 10: Huber's loss (threshold 1) of the cosines of the angle i-j-k at j. Takes
    n m^2 numbers.

    Args:
        student: `[m, D]` of the global batch.
        teacher: `[m, E]` likewise; no gradient.
        rows: `[n]` int64, the vertices j whose terms are returned.
        counted: bool `[m]`; other samples take part in no angle.

    Returns:
        `[n]`: each vertex's mean over pairs of others; 0 where it does not count or has no two.
    """
    with full_precision(student.device):
        both = counted[:, None] & counted[None]
        both = both & ~torch.eye(len(counted), dtype=torch.bool, device=counted.device)
        ends = both[rows]  # [n, m]: another sample than the vertex
        used = ends[:, :, None] & ends[:, None, :] & both[None]
        ours, theirs = (_cosines(x, rows) for x in (wide(student), wide(teacher).detach()))
        apart = functional.smooth_l1_loss(ours, theirs, reduction="none")
        return torch.where(used, apart, 0.0).sum(dim=(1, 2)) / used.sum(dim=(1, 2)).clamp(min=1)


def _cosines(x: Tensor, rows: Tensor) -> Tensor:
    """Return `[n, m, m]` cosines of the angles at the rows."""
    edges = functional.normalize(x[None] - x[rows][:, None], dim=-1)
    return edges @ edges.transpose(1, 2)
