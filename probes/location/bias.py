"""Geo-bias: where on the globe an encoder is wrong, and whether its errors clump."""

import numpy as np

NEIGHBOURS = 4
FEWEST = 30
"""A continent with fewer test places has no loss of its own."""


def geo_bias(loss: np.ndarray, lonlat: np.ndarray, continent: np.ndarray) -> dict[str, float]:
    """Describe the losses of test places.

    Args:
        loss: `[n]` of each place: 0 or 1 for a class, the squared error over the variance of the
            truth for a number.
        lonlat: `[n, 2]` degrees.
        continent: `[n]` numbers in `shards.splits.continents.CONTINENTS`.

    Returns:
        `moran`, Moran's I of the losses with the four nearest places as equal neighbours (0 where
        errors do not clump, 1 where neighbours are equally wrong); where two continents have 30
        places or more also `gap`, the mean loss of the worst continent minus that of the best,
        and `loss_NAME` of each. Absent where it has no value. (TorchSpatial's Geo-Bias scores
        measure clumps too, as surprisal: `probes.location.surprise`.)
    """
    from shards.splits.continents import CONTINENTS

    found = {}
    if (clump := moran(loss, lonlat)) is not None:
        found["moran"] = clump
    means = {
        CONTINENTS[c]: float(loss[continent == c].mean())
        for c in np.unique(continent).tolist()
        if (continent == c).sum() >= FEWEST
    }
    if len(means) > 1:
        found["gap"] = max(means.values()) - min(means.values())
    return found | {f"loss_{name}": value for name, value in means.items()}


def moran(loss: np.ndarray, lonlat: np.ndarray) -> float | None:
    """Moran's I (Biometrika 37, 1950) over nearest neighbours on the sphere; None of equal ones."""
    from shards.splits.continents import nearest_tree, unit_vectors

    if len(loss) <= NEIGHBOURS or np.ptp(loss) == 0:
        return None
    points = unit_vectors(np.asarray(lonlat, np.float64))
    near = nearest_tree(points).query(points, k=NEIGHBOURS + 1)[1]
    # a place is its own nearest, except where another lies at the same spot
    own = near == np.arange(len(loss))[:, None]
    own[~own.any(1), -1] = True
    others = near[~own].reshape(len(loss), NEIGHBOURS)
    apart = loss - loss.mean()
    return float((apart * apart[others].mean(1)).sum() / (apart**2).sum())
