"""InfoNCE over a gathered batch or a queue (van den Oord et al., arXiv 1807.03748).

One function for MoCo (arXiv 1911.05722, 2104.02057), SoftCon's instance loss (2405.20462), SeCo's
subspaces (2103.16607), CACo's negative mask and the captions of CLOSP (2507.10403).
"""

import torch
from torch import Tensor
from torch.nn import functional

from fm.hardware import full_precision
from pretrain.losses.precision import wide


def normalised(x: Tensor) -> Tensor:
    """Scale rows `[n, D]` to length 1, in float32; a row of zeros stays zeros."""
    with full_precision(x.device):
        return functional.normalize(wide(x), dim=-1)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine of each row of `a [n, D]` with each of `b [m, D]`: `[n, m]` float32."""
    with full_precision(a.device):
        return normalised(a) @ normalised(b).T


def info_nce(
    queries: Tensor,
    keys: Tensor,
    *,
    temperature: float | Tensor,
    own: int | Tensor | None = None,
    positives: Tensor | None = None,
    allowed: Tensor | None = None,
    queue: Tensor | None = None,
    queue_allowed: Tensor | None = None,
) -> Tensor:
    """Tell the key of each query from all others: cross-entropy of cosines over a temperature.

    Gradients reach queries and keys, unless the caller detaches them; never the queue. A positive
    that is not allowed does not count, and a row without a positive has loss and gradients 0.

    Args:
        queries: `[n, D]` of this process.
        keys: `[m, D]`, of the whole global batch as a rule.
        temperature: divides the cosines; a tensor may be learned.
        own: the column of each row's positive: the first row's, the others follow (rank x n), or
            `[n]` int64. Give this or `positives`.
        positives: `[n, m]` weights of several or soft positives, not negative; scaled here so
            that each row's sum is 1.
        allowed: which columns are compared with: bool, or numbers that are added to the cosines
            **after** they are divided by the temperature (0 compares, -inf does not, log w counts
            a column w times); `[m]` or `[n, m]`.
        queue: `[K, D]` negatives of earlier steps.
        queue_allowed: bool `[K]` or `[n, K]`, the rows that hold something.

    Returns:
        `[n]` float32.
    """
    if (own is None) == (positives is None):
        raise ValueError("info_nce: give own or positives")
    with full_precision(queries.device):
        logits = cosines(queries, keys) / temperature
        rows, columns = logits.shape
        added = torch.zeros_like(logits)
        if allowed is not None:
            added = added + additive(allowed, logits.dtype)
        if own is not None:
            positives = one_hot(own, rows, columns, logits)
        assert positives is not None
        weights = torch.where(added.isneginf(), 0.0, positives.detach().to(logits.dtype))
        total = weights.sum(dim=1, keepdim=True)
        if queue is not None:
            logits = torch.cat([logits, cosines(queries, queue.detach()) / temperature], dim=1)
            shape = (rows, len(queue))
            more = added.new_zeros(shape)
            if queue_allowed is not None:
                more = more + additive(queue_allowed, logits.dtype)
            added = torch.cat([added, more], dim=1)
            weights = torch.cat([weights, weights.new_zeros(shape)], dim=1)
        # a row without a positive is left out before the softmax: all of it may be -inf
        added = torch.where(total > 0, added, 0.0)
        shares = torch.log_softmax(logits + added, dim=1)
        weights = weights / total.clamp(min=torch.finfo(logits.dtype).tiny)
        return -torch.where(weights > 0, shares, 0.0).mul(weights).sum(dim=1)


def additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a mask as numbers to add to logits: 0 and -inf for bool, others as they are."""
    if allowed.dtype != torch.bool:
        return allowed.detach().to(dtype)
    zero = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return zero.masked_fill(~allowed, float("-inf"))


def one_hot(own: int | Tensor, rows: int, columns: int, like: Tensor) -> Tensor:
    """Return `[rows, columns]` with 1 at each row's own column; the first row's if a number."""
    if not isinstance(own, Tensor):
        own = torch.arange(own, own + rows, device=like.device)
    return functional.one_hot(own, columns).to(like.dtype)
