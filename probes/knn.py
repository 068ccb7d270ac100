"""k nearest neighbours by cosine, a grid of k in one pass, single-label or multi-label.

A neighbour with cosine s votes with weight exp(s / T) (Wu et al., Unsupervised Feature Learning
via Non-Parametric Instance Discrimination, CVPR 2018, section 3.4; T = 0.07 there). Features are
centred with the training mean first, because the shared mean of transformer features brings all
cosines close to 1; the protocol says so.
"""

from collections.abc import Sequence

import numpy as np
import torch


def scores(
    train: np.ndarray,
    targets: np.ndarray,
    test: np.ndarray,
    ks: Sequence[int],
    *,
    classes: int,
    temperature: float = 0.07,
    center: bool = True,
    chunk: int = 1024,
) -> np.ndarray:
    """Vote of the neighbours for each k.

    Args:
        train: [N, D] features.
        targets: [N] class numbers, or [N, K] of 0 and 1.
        test: [M, D] features.
        ks: numbers of neighbours; one above N uses all N.
        classes: number of classes K.
        temperature: T of the vote.
        center: subtract the training mean from both sides first.
        chunk: test rows handled at once.

    Returns:
        [len(ks), M, K] float64; the votes of a sample sum to 1 for single-label targets. Equal
        similarities are ordered by training position, so the answer is deterministic.
    """
    x, q = (torch.from_numpy(np.asarray(a, np.float64)) for a in (train, test))
    if center:
        mean = x.mean(0)
        x, q = x - mean, q - mean
    x = torch.nn.functional.normalize(x, dim=1)
    q = torch.nn.functional.normalize(q, dim=1)
    labels = torch.from_numpy(np.asarray(targets))
    if labels.ndim == 1:
        labels = torch.nn.functional.one_hot(labels.long(), classes)
    votes = labels.to(torch.float64)
    most = min(max(ks), len(x))
    out = np.empty((len(ks), len(q), classes))
    for start in range(0, len(q), chunk):
        similar, index = torch.sort(
            q[start : start + chunk] @ x.T, dim=1, descending=True, stable=True
        )
        similar, index = similar[:, :most], index[:, :most]
        # relative to the nearest neighbour, so that no exponent overflows
        weight = torch.exp((similar - similar[:, :1]) / temperature)
        weighted = torch.cumsum(weight[..., None] * votes[index], 1)
        total = torch.cumsum(weight, 1)
        for i, k in enumerate(ks):
            at = min(k, most) - 1
            out[i, start : start + chunk] = weighted[:, at] / total[:, at, None]
    return out
