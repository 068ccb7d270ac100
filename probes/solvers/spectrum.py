"""Ridge regression of many targets on the same samples: one decomposition for all of them.

The same function as `probes.solvers.ridge` fits where every target is known for every sample. The
decomposition is of the features alone, so targets of several tasks share it, and weights are never
formed: predictions of all alphas are taken in the eigenvectors' coordinates,

    f(x) = level + sum_i (v_i'x) (v_i'X'Y) / (s_i + alpha).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Spectrum:
    """Decomposed training features, `N` samples of `D` features, `R` directions.

    Attributes:
        centre: [D] mean of the features.
        values: [R] eigenvalues of the scatter matrix.
        vectors: [D, R].
        features: [N, D] centred.
    """

    centre: Array
    values: Array
    vectors: Array
    features: Array

    @classmethod
    def of(cls, features: np.ndarray) -> "Spectrum":
        """Decompose features [N, D], which the caller has scaled.

        Raises:
            FMError: features that are not finite.
        """
        x = np.asarray(features, np.float64)
        centre = x.mean(0)
        x = x - centre
        if not np.isfinite(centre).all():
            raise FMError("features hold numbers that are not finite")
        if len(x) >= x.shape[1]:
            values, vectors = np.linalg.eigh(x.T @ x)
            return cls(centre, np.maximum(values, 0), vectors, x)
        values, vectors = np.linalg.eigh(x @ x.T)
        kept = values > values[-1] * len(x) * np.finfo(np.float64).eps
        values = values[kept]
        return cls(centre, values, x.T @ (vectors[:, kept] / np.sqrt(values)), x)

    def project(self, features: np.ndarray) -> Array:
        """Coordinates [n, R] of other features [n, D], scaled alike."""
        return np.asarray((np.asarray(features, np.float64) - self.centre) @ self.vectors)

    def fit(self, targets: np.ndarray) -> "Heads":
        """Fit every alpha for targets [N, T], all of them known."""
        y = np.asarray(targets, np.float64)
        level = y.mean(0)
        return Heads(self.values, self.vectors.T @ (self.features.T @ (y - level)), level)


@dataclass(frozen=True)
class Heads:
    """Fits of `T` targets: `moment` [R, T], `level` [T], eigenvalues [R]."""

    values: Array
    moment: Array
    level: Array

    def predict(self, coordinates: np.ndarray, alpha: float) -> Array:
        """Predictions [n, T] for one alpha at coordinates [n, R] of `Spectrum.project`."""
        return coordinates @ (self.moment / (self.values + alpha)[:, None]) + self.level

    def part(self, columns: slice) -> "Heads":
        """The fits of some targets alone."""
        return Heads(self.values, self.moment[:, columns], self.level[columns])
