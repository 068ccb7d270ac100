"""The world behind places, in Equal Earth."""

from functools import lru_cache
from typing import Any

import numpy as np

WIDTH = 1400
"""Pixels."""
SEA, _LAND, _OUTLINE = "#eef3f7", "#d9d9d3", "#ffffff"


def extent() -> tuple[float, float, float, float]:
    """Return left, right, bottom and top of the globe's outline in the plane."""
    from shards.seeing.land import equal_earth

    right, top = equal_earth(np.array([[180.0, 0.0], [0.0, 90.0]])).max(0).tolist()
    return -right, right, -top, top


def background(axes: Any) -> None:
    """Draw land and sea, where the package with the coasts is installed."""
    from matplotlib.colors import ListedColormap

    found = _land_and_sea()
    if found is not None:
        world, where = found
        colours = ListedColormap([_OUTLINE, SEA, _LAND])
        axes.imshow(world, extent=where, cmap=colours, vmin=0, vmax=2, zorder=0)


@lru_cache(maxsize=1)
def _land_and_sea() -> tuple[np.ndarray, tuple[float, float, float, float]] | None:
    from shards.seeing.land import picture

    return picture(WIDTH)
