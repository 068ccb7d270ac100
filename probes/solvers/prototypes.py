"""Nearest class mean of frozen features.

Features are centred with the training mean, brought to length 1, and a class is the mean of its
samples (Wang et al., SimpleShot, arXiv 1911.04623: centring, L2 normalisation, nearest centroid).
A class scores minus the squared distance to its mean; a label, the squared distance to the mean of
the samples without it minus that to the mean of those with it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError


@dataclass(frozen=True)
class Prototypes:
    """Means of classes or labels.

    Attributes:
        center: [D], the mean of the training features.
        means: [K, D] of the samples of each class or label; NaN where there are none.
        others: [K, D] of the samples without each label; None for classes.
    """

    center: NDArray[np.float64]
    means: NDArray[np.float64]
    others: NDArray[np.float64] | None

    def scores(self, features: np.ndarray) -> NDArray[np.float64]:
        """Return scores [N, K] of features [N, D]; below all others for a class never seen."""
        x = _unit(features, self.center)
        near = _squared(x, self.means)
        if self.others is None:
            return np.where(np.isnan(near), -np.inf, -near)
        far = _squared(x, self.others)
        # squared distances of unit vectors and their means are at most 4
        return np.where(np.isnan(near), -4.0, np.where(np.isnan(far), 4.0, far - near))


def fit(features: np.ndarray, targets: np.ndarray, classes: int) -> Prototypes:
    """Take the means.

    Args:
        features: [N, D].
        targets: [N] class numbers, or [N, K] of 0 and 1.
        classes: K.

    Raises:
        FMError: the features are empty or not finite.
    """
    if not len(features) or not np.isfinite(features).all():
        raise FMError("prototypes: the features are empty or hold NaN; check the model")
    center = np.asarray(features, np.float64).mean(0)
    x = _unit(features, center)
    if targets.ndim == 1:
        return Prototypes(center, _means(x, np.arange(classes) == targets[:, None]), None)
    labels = np.asarray(targets, bool)
    return Prototypes(center, _means(x, labels), _means(x, ~labels))


def _unit(features: np.ndarray, center: np.ndarray) -> NDArray[np.float64]:
    x = np.asarray(features, np.float64) - center
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1.0)


def _means(x: np.ndarray, member: np.ndarray) -> NDArray[np.float64]:
    counts = member.sum(0)[:, None]
    with np.errstate(invalid="ignore"):
        return (member.T.astype(np.float64) @ x) / counts


def _squared(x: np.ndarray, means: np.ndarray) -> NDArray[np.float64]:
    """Squared distances [N, K]; NaN to a mean that does not exist."""
    return (x**2).sum(1)[:, None] - 2 * x @ means.T + (means**2).sum(1)
