"""What no answer can beat: how near the nearest cell and the nearest training image lie."""

import numpy as np
from numpy.typing import NDArray

from fm.geo import great_circle_m
from probes.geolocation.cells import Cells
from probes.statistics.places import LADDER_KM

CELL, IMAGE = "best cell", "nearest training image"


def nearest_km(cells: Cells, train: np.ndarray, test: np.ndarray) -> dict[str, NDArray[np.float64]]:
    """Distance `[n]` in km of test places to the nearest answer of each kind.

    A random split leaves neighbours of test places in train; blocks put the nearest a block away,
    so that the first steps of the ladder cannot be climbed by anybody.

    Args:
        cells: of the classes.
        train: `[m, 2]` places of the training images, degrees.
        test: `[n, 2]` of the test images.

    Returns:
        `CELL`: to the nearest middle of a cell; `IMAGE`: to the nearest training image.
    """
    from shards.splits.continents import nearest_tree, unit_vectors

    near = {
        CELL: cells.centres[cells.nearest(test)[0]],
        IMAGE: train[nearest_tree(unit_vectors(train)).query(unit_vectors(test))[1]],
    }
    return {what: great_circle_m(test, place) / 1000 for what, place in near.items()}


def words(what: str, km: np.ndarray) -> str:
    """Say of the nearest answers of a kind how often they would be near enough."""
    steps = "/".join(map(str, LADDER_KM))
    shares = "/".join(f"{(km <= reach).mean():.0%}" for reach in LADDER_KM)
    return (
        f"the {what} is within {steps} km of {shares} of the test places (median "
        f"{np.median(km):.0f} km): no answer of its kind can do better"
    )
