"""Redundancy reduction: Barlow Twins (arXiv 2103.03230); of two modalities: DeCUR (2309.05300)."""

from collections.abc import Callable

import torch
from torch import Tensor

from fm.hardware import full_precision
from pretrain.losses.precision import wide

EPSILON = 1e-5
"""Added to variances, as batch normalisation does."""


def _alone(x: Tensor) -> Tensor:
    return x


def correlation(
    a: Tensor,
    b: Tensor,
    *,
    weight: Tensor | None = None,
    reduce: Callable[[Tensor], Tensor] = _alone,
) -> Tensor:
    """Correlate the columns of two sets of embeddings over the global batch.

    Each column is brought to mean 0 and variance 1 over the samples that count (the variance
    divided by their number, plus `EPSILON`; no learned scale), as batch normalisation over all
    processes does.

    Args:
        a: `[n, K]` of this process.
        b: `[n, K]` of the same samples.
        weight: `[n]`; samples of weight 0 count nothing, others alike. All count when None.
        reduce: sums a tensor over processes, differentiably, the gradient summed likewise.

    Returns:
        `[K, K]` float32, in [-1, 1]; the same on every process.
    """
    with full_precision(a.device):
        a, b = wide(a), wide(b)
        counts = torch.ones(len(a), device=a.device) if weight is None else (weight > 0)
        share = counts.to(a.dtype)[:, None]
        # what does not count may hold anything
        a, b = (torch.where(share > 0, x, 0.0) for x in (a, b))
        number = reduce(share.sum().reshape(1)).clamp(min=1.0)
        both = torch.cat([a, b], dim=1)
        mean = reduce(both.sum(dim=0)) / number
        centred = (both - mean) * share
        variance = reduce(centred.square().sum(dim=0)) / number
        a, b = (centred / (variance + EPSILON).sqrt()).chunk(2, dim=1)
        return reduce(a.T @ b) / number


def redundancy(matrix: Tensor, *, off_diagonal: float, diagonal: float = 1.0) -> Tensor:
    """Compare a correlation `[K, K]` with the identity: a scalar.

    Args:
        matrix: of `correlation`.
        off_diagonal: weight of the squares beside the diagonal.
        diagonal: what the diagonal should be: 1, or 0 for what two modalities do not share.
    """
    with full_precision(matrix.device):
        matrix = wide(matrix)
        size = len(matrix)
        aim = (matrix.diagonal() - diagonal).square().sum()
        # all but the last number, in rows one longer: the diagonal becomes the first column
        beside = matrix.flatten()[:-1].unflatten(0, (size - 1, size + 1))[:, 1:] if size > 1 else 0
        return aim + off_diagonal * torch.as_tensor(beside).square().sum()


def decoupled(matrix: Tensor, *, common: int, off_diagonal: float) -> tuple[Tensor, Tensor]:
    """Compare the correlation of two modalities with common and unique dimensions (DeCUR).

    The first `common` dimensions should be the identity, the rest zero. The two blocks of one kind
    against the other are not looked at.

    Args:
        matrix: `[K, K]` of `correlation` between modalities.
        common: how many dimensions are common, 1 to K - 1.
        off_diagonal: see `redundancy`.

    Returns:
        the losses of the common and of the unique block.
    """
    if not 0 < common < len(matrix):
        raise ValueError(f"common must lie between 1 and {len(matrix) - 1}; got {common}")
    shared, unique = matrix[:common, :common], matrix[common:, common:]
    return (
        redundancy(shared, off_diagonal=off_diagonal),
        redundancy(unique, off_diagonal=off_diagonal, diagonal=0.0),
    )
