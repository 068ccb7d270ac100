"""A curve of any length as a few hundred points that hide no leap."""

from dataclasses import dataclass

import numpy as np

from pretrain.report.read import Series

POINTS = 300
"""Points of a drawn curve."""


@dataclass(frozen=True)
class Thinned:
    """Equal shares of a series' logged steps.

    Attributes:
        steps: `[n]`, the last step of each share.
        mean: `[n]` of the values in it.
        low: `[n]` the lowest.
        high: `[n]` the highest.
        each: logged steps in a share, at most.
    """

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    each: int


def thin(series: Series, points: int = POINTS) -> Thinned:
    """Cut a series into at most `points` shares: mean, lowest and highest of each."""
    count = len(series.steps)
    each = -(-count // points)
    edges = np.arange(0, count, each)
    sizes = np.diff([*edges, count])
    return Thinned(
        series.steps[np.append(edges[1:], count) - 1],
        np.add.reduceat(series.values, edges) / sizes,
        np.minimum.reduceat(series.values, edges),
        np.maximum.reduceat(series.values, edges),
        each,
    )


def ends(series: Series) -> tuple[float, float]:
    """Return the means of the first and the last tenth, each over 1 to 10 logged steps.

    The windows are those of a run's own result (`pretrain.export.losses_by_part`).
    """
    window = max(min(len(series.values) // 10, 10), 1)
    return float(series.values[:window].mean()), float(series.values[-window:].mean())
