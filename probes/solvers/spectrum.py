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
        inverse: [D] what features are multiplied with: 1 over their deviation, 0 where it is 0.
        values: [R] eigenvalues of the scatter matrix.
        vectors: [D, R].
        features: [N, D] centred.
    """

    centre: Array
    inverse: Array
    values: Array
    vectors: Array
    features: Array

    @classmethod
    def of(cls, features: np.ndarray, *, standard: bool = False) -> "Spectrum":
        """Decompose features [N, D].

        Args:
            features: of the training samples; they are copied.
            standard: divide them by their deviations, as `probes.families.job.scaler` does. That
                is done to the products, so nothing as large as the features is made twice.

        Raises:
            FMError: features that are not finite.
        """
        x = np.array(features, np.float64)
        centre = x.mean(0)
        if not np.isfinite(centre).all():
            raise FMError("features hold numbers that are not finite")
        x -= centre
        inverse = np.ones_like(centre)
        if standard:
            spread = np.sqrt(np.einsum("nd,nd->d", x, x) / len(x))
            # a deviation that is rounding of a constant column is no deviation
            flat = spread <= 1e-10 * np.maximum(np.abs(centre), 1e-30)
            inverse = np.where(flat, 0.0, 1 / np.where(flat, 1.0, spread))
        if len(x) >= x.shape[1]:
            gram = x.T @ x
            gram *= inverse
            gram *= inverse[:, None]
            values, vectors = np.linalg.eigh(gram)
            return cls(centre, inverse, np.maximum(values, 0), vectors, x)
        scaled = x * inverse
        values, vectors = np.linalg.eigh(scaled @ scaled.T)
        kept = values > values[-1] * len(x) * np.finfo(np.float64).eps
        values = values[kept]
        found = scaled.T @ (vectors[:, kept] / np.sqrt(values))
        return cls(centre, inverse, values, found, x)

    def project(self, features: np.ndarray) -> Array:
        """Coordinates [n, R] of other features [n, D], which are scaled alike."""
        x = np.asarray(features, np.float64) - self.centre
        return np.asarray(x @ (self.inverse[:, None] * self.vectors))

    def fit(self, targets: np.ndarray) -> "Heads":
        """Fit every alpha for targets [N, T], all of them known."""
        y = np.asarray(targets, np.float64)
        level = y.mean(0)
        moment = self.inverse[:, None] * (self.features.T @ (y - level))
        return Heads(self.values, self.vectors.T @ moment, level)


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
