"""How evenly features are spread: a collapsed model gives all images one vector, or one line."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def effective_rank(features: Array) -> float:
    """Effective rank of the centred features: exp of the entropy of their singular values.

    Roy and Vetterli, The effective rank, EUSIPCO 2007, section 2, the singular values divided by
    their sum. Between 1 and D; NaN of constant features. Centred, because a common mean would
    otherwise be the one direction that counts.
    """
    x = features - features.mean(0)
    # squared singular values; those lost to rounding are zero
    squares = np.linalg.eigvalsh(x.T @ x if x.shape[1] < x.shape[0] else x @ x.T)
    squares = np.where(squares > squares[-1] * 1e-14 * max(x.shape), squares, 0)
    values = np.sqrt(np.maximum(squares, 0))
    if values.max(initial=0) == 0:
        return float("nan")
    p = values / values.sum()
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))


def deviations(features: Array) -> Array:
    """Deviation of each dimension of features of length 1, times sqrt(D); 1 where they are even.

    Chen and He, SimSiam, CVPR 2021, section 4.1; 0 where all vectors are the same.
    """
    return np.asarray(unit(features).std(0) * np.sqrt(features.shape[1]))


def unit(x: Array) -> Array:
    """Return features [N, D] of length 1; zeros stay zeros."""
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(norm > 0, norm, 1))
