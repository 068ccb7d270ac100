"""Soft-label contrast: pairs are as alike as their labels (SoftCon, arXiv 2405.20462)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from fm.hardware import full_precision
from pretrain.losses.contrast import normalised
from pretrain.losses.precision import wide

Reduction = Literal["mean", "row", "sum"]
"""How the pairs of a row become its number, see `soft_bce`."""


@dataclass(frozen=True)
class SoftLabels:
    """What `soft_bce` gives.

    Attributes:
        loss: `[n]`, 0 for rows without a known pair.
        floor: `[n]`, the entropy of the targets reduced likewise: no logits give less. What can
            be learned is `loss - floor`.
        rows: `[n]` bool, the rows with a known pair.
    """

    loss: Tensor
    floor: Tensor
    rows: Tensor


def label_similarity(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Compare label vectors: cosine of multi-hot vectors, or of fractions.

    Args:
        a: `[n, C]`, not negative; a row with a NaN, or of zeros, has no label.
        b: `[m, C]` likewise.

    Returns:
        `[n, m]` float32 in [0, 1], and `[n, m]` bool: both have labels. Where one has none the
        similarity is 0 and says nothing.
    """
    with full_precision(a.device):
        known_a, known_b = (x.isfinite().all(dim=1) & (x != 0).any(dim=1) for x in (a, b))
        # rows without a label are zeros before they are divided by their length
        a = torch.where(known_a[:, None], a, 0.0)
        b = torch.where(known_b[:, None], b, 0.0)
        similarity = (normalised(a) @ normalised(b).T).clamp(0.0, 1.0)
        return similarity, known_a[:, None] & known_b[None, :]


def soft_bce(
    cosines: Tensor,
    targets: Tensor,
    known: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    bias: float | Tensor = 0.0,
    reduction: Reduction = "mean",
    total_rows: int | None = None,
) -> SoftLabels:
    """Binary cross-entropy of `sigmoid(cosine / temperature + bias)` against soft targets.

    The caller takes the mean of rows with a known pair (over the global batch). With N rows and as
    many columns of known pairs that makes of `mean` 1/N^2 of the double sum, of `row` 1/N of it,
    and of `sum` the double sum itself (about 45,000 at N = 256, beside 1.5 of the instance loss).

    Without a bias a target of 0.5 is met at cosine 0, and pairs that share no label are pushed to
    cosine -1. With temperature 1 the sigmoid lies between 0.27 and 0.73: no cosine meets a target
    near 0 or 1.

    Args:
        cosines: `[n, m]`.
        targets: `[n, m]` in [0, 1]; no gradient.
        known: `[n, m]` bool; other pairs count nothing, whatever they hold.
        temperature: divides the cosines; a tensor may be learned.
        bias: is added after that.
        reduction: `mean` over the known pairs of a row; `row`, their sum; `sum`, that times
            `total_rows`.
        total_rows: rows of the global batch, for `sum`.
    """
    if reduction == "sum" and total_rows is None:
        raise ValueError("soft_bce: reduction sum needs total_rows")
    with full_precision(cosines.device):
        logits = torch.where(known, wide(cosines) / temperature + bias, 0.0)
        targets = torch.where(known, wide(targets).detach(), 0.0)
        losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        entropy = torch.special.entr(targets) + torch.special.entr(1.0 - targets)
        count = known.sum(dim=1)
        scale = torch.ones_like(losses[:, 0])
        if reduction == "mean":
            scale = 1.0 / count.clamp(min=1)
        elif reduction == "sum":
            scale = scale * float(total_rows or 0)
        loss, floor = (torch.where(known, x, 0.0).sum(dim=1) * scale for x in (losses, entropy))
        return SoftLabels(loss, floor, count > 0)
