"""Contrast in several subspaces (SeCo: Manas et al., arXiv 2103.16607; SSL4Eco; CACo).

Subspace 0 is invariant to all that its key differs in. In each other subspace the keys of the
other views are negatives too: it stays sensitive to what they differ in.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fm.hardware import full_precision
from pretrain.losses.contrast import additive, info_nce
from pretrain.losses.precision import wide


def subspace_contrast(
    queries: Sequence[Tensor],
    keys: Sequence[Sequence[Tensor]],
    *,
    temperature: float,
    own: int | Tensor,
    readable: Tensor | None = None,
    queues: Sequence[Tensor] | None = None,
    queue_allowed: Sequence[Tensor] | None = None,
    others: Sequence[Tensor] | None = None,
    others_allowed: Tensor | None = None,
) -> Tensor:
    """Tell each query's key of its subspace from the queue and the other views' keys.

    The positive of subspace s is the own sample's `keys[s][s]`; other samples' `keys[s][s]` are
    not compared with. Negatives are the queue and, for s > 0, `keys[s][v]` of all samples (the own
    one too) for every view v other than s. No gradient reaches keys.

    Args:
        queries: of each subspace, `[n, D]`.
        keys: `keys[s][v]` is view v seen by the key head of subspace s: `[m, D]`, of the whole
            global batch as a rule.
        temperature: divides cosines.
        own: the column of the first row's sample, the others follow (rank x n); or `[n]` int64.
        readable: `[m]` bool; samples that could not be read are no positives and no negatives.
        queues: of each subspace, `[K, D]`.
        queue_allowed: of each subspace, bool `[K]` or `[n, K]`.
        others: more negatives in every subspace, `[m, D]` each (CACo: the same places years apart).
        others_allowed: which of those: bool, or added after division by the temperature (see
            `info_nce`); `[m]` or `[n, m]`. The readable ones if None: a place that has no key here
            may have one there.

    Returns:
        `[n, S]` float32, one number a row and subspace.
    """
    rows = len(queries[0])
    device = queries[0].device
    if not isinstance(own, Tensor):
        own = torch.arange(own, own + rows, device=device)
    losses = []
    for s, query in enumerate(queries):
        views = keys[s]
        count = len(views[s])
        here = torch.ones(count, dtype=torch.bool, device=device)
        here = here if readable is None else readable
        mine = torch.zeros(rows, count, dtype=torch.bool, device=device)
        mine[torch.arange(rows, device=device), own] = True
        columns, masks = [views[s]], [mine & here]
        if s > 0:
            for v, view in enumerate(views):
                if v != s:
                    columns.append(view)
                    masks.append(here.expand(rows, -1))
        with full_precision(device):
            added = [additive(mask, torch.float32) for mask in masks]
            if others is not None:
                among = here if others_allowed is None else others_allowed
                columns.append(others[s])
                added.append(additive(among, torch.float32).expand(rows, -1))
            found = info_nce(
                query,
                torch.cat([wide(x) for x in columns]).detach(),
                temperature=temperature,
                own=own,
                allowed=torch.cat(added, dim=1),
                queue=None if queues is None else queues[s],
                queue_allowed=None if queue_allowed is None else queue_allowed[s],
            )
        losses.append(found)
    return torch.stack(losses, dim=1)
