"""Answers that are places: how far off, and how often within the distances of PlaNet's ladder."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fm.geo import great_circle_m
from probes.statistics.answers import LARGEST

LADDER_KM = (1, 25, 200, 750, 2500)
"""Street, city, region, country, continent: im2gps and PlaNet (arXiv 1602.05314), GeoCLIP."""
WAYS = ("", "_mean", "_tree")
"""What follows the median's name for each way to answer, see `probes.geolocation.choice`."""
MEDIAN = "km_median"


@dataclass
class PlaceAnswers:
    """Great-circle errors of places.

    Attributes:
        km: `[N, A]`, one column a way to answer; infinite where the answer is no place.
        unit: `[N]` any integers.
    """

    km: NDArray[np.float64]
    unit: np.ndarray
    units: int = field(init=False)

    def __post_init__(self) -> None:
        _, self.unit = np.unique(self.unit, return_inverse=True)
        self.units = int(self.unit.max()) + 1

    @classmethod
    def of(cls, truth: np.ndarray, answers: np.ndarray, unit: np.ndarray) -> "PlaceAnswers":
        """Build from places `[N, 2]` and answers `[N, A, 2]`, lon, lat in degrees.

        An answer that is NaN is no place: wrong at every distance, and infinitely far.

        Raises:
            ValueError: a true place is not known; such samples are not asked.
        """
        if not np.isfinite(truth).all():
            raise ValueError("the place of a test sample is not known")
        km = great_circle_m(truth[:, None], answers) / 1000
        return cls(np.where(np.isnan(km), np.inf, km), unit)

    def metrics(self, counts: np.ndarray) -> dict[str, NDArray[np.float64]]:
        """Share of the samples within each distance, and the median error in km.

        Of the ways to answer after the first the median alone. Units enter with multiplicities
        `[..., U]`; the median is that of the samples repeated so often, the mean of the middle two
        of an even number.
        """
        counts = np.asarray(counts, np.float64)
        rows = counts.reshape(-1, self.units)
        step = max(1, LARGEST // max(1, len(self.km)))
        parts = [self._part(rows[i : i + step][:, self.unit]) for i in range(0, len(rows), step)]
        return {
            name: np.concatenate([part[name] for part in parts]).reshape(counts.shape[:-1])
            for name in parts[0]
        }

    def _part(self, weight: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Metrics `[R]` of weights `[R, N]`: the ladder of the first answer, the medians of all."""
        total = weight.sum(1)
        found = {
            f"acc@{reach}km": weight[:, self.km[:, 0] <= reach].sum(1) / total
            for reach in LADDER_KM
        }
        for way, km in zip(WAYS, self.km.T, strict=False):
            order = np.argsort(km, kind="stable")
            seen = np.cumsum(weight[:, order], axis=1)
            below, above = (
                np.argmax(passed, axis=1)
                for passed in (seen >= total[:, None] / 2, seen > total[:, None] / 2)
            )
            ranked = km[order]
            middle = np.where(below == above, ranked[below], (ranked[below] + ranked[above]) / 2)
            found[MEDIAN + way] = middle
        return found
