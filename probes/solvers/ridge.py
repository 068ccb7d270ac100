"""Ridge regression for a whole grid of alpha and all targets from one eigendecomposition.

The objective is scikit-learn's `Ridge` (Hoerl and Kennard, Technometrics 12, 1970):

    f(W, b) = sum_n ||W x_n + b - y_n||^2 + alpha * ||W||^2,   b not penalised.

With features and targets centred, X'X = V diag(s) V' gives W = V (V'X'Y / (s + alpha)) for every
alpha and target alike. With fewer samples than features, XX' takes the place of X'X.

A target that is not known for a sample (NaN) leaves that sample out of that target, and of no
other: targets known for the same samples share a decomposition.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fm.errors import FMError


@dataclass(frozen=True)
class Fit:
    """Solutions for `A` values of alpha, `T` targets and `D` features.

    Attributes:
        weights: [A, T, D].
        intercepts: [A, T].
        decompositions: how many were needed; 1 where every target is known for every sample.
    """

    weights: Tensor
    intercepts: Tensor
    decompositions: int

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return the predictions [A, N, T] for features [N, D]."""
        x = torch.as_tensor(np.ascontiguousarray(features)).to(self.weights)
        made = torch.einsum("nd,atd->ant", x, self.weights) + self.intercepts[:, None]
        return made.cpu().numpy()


def fit(
    features: np.ndarray,
    targets: np.ndarray,
    alphas: Sequence[float],
    *,
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "cpu",
) -> Fit:
    """Fit every alpha and target at once.

    Args:
        features: [N, D] finite numbers, scaled by the caller.
        targets: [N, T] numbers, NaN where not known.
        alphas: penalties, each positive.
        dtype: torch.float64 or torch.float32, of the products with the features. The decomposition
            is float64 always.
        device: where it runs.

    Raises:
        FMError: no samples, features that are not finite, an alpha that is not positive, or a
            target that no sample knows.
    """
    if len(features) == 0 or not np.isfinite(features).all():
        raise FMError("ridge: the features are empty or hold NaN; check the model")
    if any(alpha <= 0 for alpha in alphas):
        raise FMError("ridge: every alpha of the grid must be positive")
    if np.isinf(targets).any():
        raise FMError("ridge: a target is infinite; give NaN where it is not known")
    known = ~np.isnan(targets)
    if not known.any(0).all():
        place = int(np.flatnonzero(~known.any(0))[0])
        raise FMError(f"ridge: target {place} is known for no training sample; leave it out")
    x = torch.as_tensor(np.ascontiguousarray(features), device=device).to(dtype)
    y = torch.as_tensor(np.ascontiguousarray(targets), device=device).to(torch.float64)
    a = torch.as_tensor(list(alphas), dtype=torch.float64, device=device)
    weights = torch.empty(len(a), y.shape[1], x.shape[1], dtype=torch.float64, device=device)
    intercepts = torch.empty(len(a), y.shape[1], dtype=torch.float64, device=device)
    patterns, group = np.unique(known, axis=1, return_inverse=True)
    group = group.ravel()
    for number, pattern in enumerate(patterns.T):
        places = torch.as_tensor(np.flatnonzero(group == number), device=device)
        rows = torch.as_tensor(np.flatnonzero(pattern), device=device)
        part = (x, y[:, places]) if pattern.all() else (x[rows], y[rows][:, places])
        weights[:, places], intercepts[:, places] = _solve(*part, a)
    return Fit(weights, intercepts, patterns.shape[1])


def _solve(x: Tensor, y: Tensor, alphas: Tensor) -> tuple[Tensor, Tensor]:
    """Solve for targets known for all rows: weights [A, T, D], intercepts [A, T] in float64."""
    centre, level = x.double().mean(0), y.mean(0)
    x = x - centre.to(x.dtype)
    right = (y - level).to(x.dtype)
    tall = x.shape[0] >= x.shape[1]
    gram = (x.T @ x if tall else x @ x.T).double()
    values, vectors = torch.linalg.eigh(gram)
    moment = (x.T @ right if tall else right).double()
    scaled = (vectors.T @ moment)[None] / (values.clamp_min(0) + alphas[:, None])[..., None]
    made = vectors @ scaled
    if not tall:
        made = x.double().T @ made
    weights = made.mT
    return weights, level - weights @ centre
