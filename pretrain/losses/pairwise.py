"""Pairwise sigmoid loss (SigLIP: Zhai et al., arXiv 2303.15343)."""

import torch
from torch import Tensor
from torch.nn import functional

from fm.hardware import full_precision
from pretrain.losses.contrast import cosines, one_hot


def pairwise_sigmoid(
    queries: Tensor,
    keys: Tensor,
    *,
    temperature: float | Tensor,
    bias: float | Tensor,
    own: int | Tensor | None = None,
    positives: Tensor | None = None,
    allowed: Tensor | None = None,
) -> Tensor:
    """Say of each pair alone whether it belongs together; the sum over a row's pairs.

    The published loss is the mean of rows over the global batch, with temperature 1/10 and bias
    -10 at the start, both learned.

    Args:
        queries: `[n, D]`.
        keys: `[m, D]`, of the whole global batch as a rule.
        temperature: divides the cosines.
        bias: is added after that.
        own: the column of the first row's partner (those of others follow), or `[n]` int64; give
            this or `positives`.
        positives: `[n, m]`, above 0 where a pair belongs together (identical captions).
        allowed: bool `[m]` or `[n, m]`; other pairs count nothing.

    Returns:
        `[n]` float32.
    """
    if (own is None) == (positives is None):
        raise ValueError("pairwise_sigmoid: give own or positives")
    with full_precision(queries.device):
        logits = cosines(queries, keys) / temperature + bias
        if own is not None:
            positives = one_hot(own, len(logits), logits.shape[1], logits)
        assert positives is not None
        losses = -functional.logsigmoid(torch.where(positives > 0, logits, -logits))
        if allowed is not None:
            losses = torch.where(allowed, losses, 0.0)
        return losses.sum(dim=1)
