"""TorchSpatial's Geo-Bias scores: how surprising the pattern of answers around each wrong one is.

Wu et al., "TorchSpatial", NeurIPS 2024 Datasets and Benchmarks (arXiv 2406.15658): spatial
self-information (SSI). Around every wrongly answered place lie the test places within a radius,
and among them a ring-shaped grid of background points, about five for each. The numerator of
Moran's I over the four nearest neighbours of each point is compared with a normal distribution, and
the score is minus the logarithm of its two-sided probability: large where the pattern is unlike a
random one. `unmarked` has the value 1 at test places and 0 in the background, so it tells how test
places cluster around errors; `marked` has 1 at right answers, -1 at wrong ones and 0 in the
background.

The paper could not be read here. Moments, grid and weighting are those of the authors' published
program, with its quirks: the moments count neighbours as on a lattice, 1 is added to the deviation,
and its loop takes 0.01 radians (63.7 km) where its text says 100 km, which is an argument here.
Where several places share one spot, each has four neighbours here and up to five there. No
published figure was reproduced.
"""

import math

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError
from fm.geo import EARTH_RADIUS_M

NEIGHBOURS = 4
BACKGROUND = 5
"""Background points for each place, about."""
_LEAST = 1e-256
"""Added to probabilities, so that their logarithm is finite."""


def scores(right: np.ndarray, lonlat: np.ndarray, radius_km: float = 100.0) -> dict[str, float]:
    """Both scores of the answers at test places.

    Args:
        right: `[n]` bool, where the answer was right.
        lonlat: `[n, 2]` degrees.
        radius_km: of a neighbourhood.

    Returns:
        `unmarked` and `marked`: means over the wrong places, each weighing as many test places as
        its neighbourhood holds. Empty where no answer was wrong.

    Raises:
        FMError: the extra `geo` is not installed, or the radius is no distance on the Earth.
    """
    from shards.splits.continents import nearest_tree, unit_vectors

    radius = radius_km * 1000 / EARTH_RADIUS_M
    if not 0 < radius < np.pi / 2:
        raise FMError(
            f"a radius of {radius_km:g} km: give more than 0 and less than a quarter turn"
        )
    places = unit_vectors(np.asarray(lonlat, np.float64))
    marks = np.where(right, 1.0, -1.0)
    wrong = np.flatnonzero(~np.asarray(right, bool))
    if not len(wrong):
        return {}
    around = nearest_tree(places).query_ball_point(places[wrong], 2 * math.sin(radius / 2))
    total, found = 0, np.zeros(2)
    for centre, near in zip(wrong.tolist(), around, strict=True):
        points = np.concatenate([places[near], background(lonlat[centre], radius, len(near))])
        order = nearest_tree(points).query(points, k=NEIGHBOURS + 1)[1]
        behind = np.zeros(len(points) - len(near))
        values = (np.concatenate([own, behind]) for own in (np.ones(len(near)), marks[near]))
        found += len(near) * np.array([surprisal(v, neighbours(order)) for v in values])
        total += len(near)
    unmarked, marked = (found / total).tolist()
    return {"unmarked": unmarked, "marked": marked}


def background(centre: np.ndarray, radius: float, count: int) -> NDArray[np.float64]:
    """Points on rings around a place, as unit vectors `[m, 3]`.

    Args:
        centre: lon, lat in degrees.
        radius: in radians.
        count: places whose neighbourhood it is.
    """
    density = math.ceil(BACKGROUND * count / (np.pi * radius**2))  # a square radian
    step = 1 / math.sqrt(density)
    rings = np.arange(1, math.ceil(radius / step) + 1)
    sizes = np.ceil(2 * np.pi * rings).astype(int)
    far = np.repeat(rings * step, sizes)
    turn = np.concatenate([2 * np.pi * np.arange(n) / n for n in sizes])
    lon, lat = np.radians(centre)
    east = np.array([-np.sin(lon), np.cos(lon), 0.0])
    north = np.array([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)])
    up = np.cross(east, north)
    along = np.cos(turn)[:, None] * north + np.sin(turn)[:, None] * east
    return np.asarray(np.cos(far)[:, None] * up + np.sin(far)[:, None] * along)


def neighbours(order: np.ndarray) -> NDArray[np.int64]:
    """The others among the nearest of each point, `[m, k]` of `[m, k + 1]` with itself."""
    own = order == np.arange(len(order))[:, None]
    own[~own.any(1), -1] = True  # several points at one spot
    return np.asarray(order[~own].reshape(len(order), -1), np.int64)


def surprisal(values: np.ndarray, near: np.ndarray) -> float:
    """Minus the logarithm of how probable a pattern at least so uneven is.

    Args:
        values: `[m]` a few different numbers, such as 1, -1 and 0.
        near: `[m, k]` neighbours of each point.
    """
    apart = values - values.mean()
    product = float((apart[:, None] * apart[near]).sum())
    mean, deviation = moments(values)
    low = min(product, 2 * mean - product)
    chance = math.erfc((mean - low) / (deviation * math.sqrt(2)))  # 2 * Phi(low)
    return -math.log(chance + _LEAST)


def moments(values: np.ndarray) -> tuple[float, float]:
    """Mean and deviation of Moran's numerator over random patterns of the same values.

    A point of a value that n of N points have is taken to have 4 n / N neighbours of that value.
    """
    kinds, counts = np.unique(values, return_counts=True)
    n, total = counts.astype(np.float64), float(len(values))
    apart = kinds - values.mean()
    pairs = NEIGHBOURS * np.outer(n, n) / total
    np.fill_diagonal(pairs, NEIGHBOURS * n * (n - 1) / total - 1)
    mean = float((np.outer(apart, apart) * pairs).sum())
    common = int(n.argmax())
    variance = 0.0
    for i in range(len(kinds)):
        for j in range(len(kinds)):
            if common in (i, j):
                continue
            if i == j:
                times = 2 * NEIGHBOURS * n[i] * (n[i] - 1) / total
                times *= 1 - NEIGHBOURS * (2 * n[i] - 1) / (3 * total)
                change = (kinds[i] - kinds[common]) ** 2
            else:
                times = NEIGHBOURS * n[i] * n[j] / total
                times *= 1 - NEIGHBOURS * max(n[i], n[j]) / total
                change = apart[i] * apart[j] - 2 * apart[i] * apart[common] + apart[common] ** 2
            variance += float(times * change**2)
    return mean, math.sqrt(max(variance, 0.0)) + 1.0
