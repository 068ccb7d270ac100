"""From scores of cells to places: three ways to answer, in the order of the axis `A`.

The middle of the most probable cell is PlaNet's way. The other two need probabilities: the mean of
all centres, weighted by them, and the descent of the quadtree, which takes the most probable of the
up to four children at every level, so that four likely neighbours beat one likelier cell elsewhere.
"""

import numpy as np
from numpy.typing import NDArray

from probes.geolocation.cells import Cells, direction


def places(cells: Cells, scores: np.ndarray, scale: str | None) -> NDArray[np.float64]:
    """Answer with places.

    Args:
        cells: the K classes.
        scores: `[n, K]`; the largest is the most probable cell, the first of equal ones.
        scale: `logits` or `probabilities` gives all three answers, None the first alone.

    Returns:
        `[n, A, 2]` lon, lat in degrees, NaN for a sample whose scores are not finite.
    """
    scores = np.asarray(scores, np.float64)
    first = cells.centres[scores.argmax(1)]
    answers = [first]
    if scale is not None:
        chance = _softmax(scores) if scale == "logits" else scores
        answers += [_mean(cells, chance, first), cells.centres[descend(cells, chance)]]
    made = np.stack(answers, axis=1)
    made[~np.isfinite(scores).all(1)] = np.nan
    return made


def descend(cells: Cells, chance: np.ndarray) -> NDArray[np.int64]:
    """Cell `[n]` at the end of the most probable way down the quadtree, by chances `[n, K]`."""
    open_ = np.ones(chance.shape, bool)
    for level in range(int(cells.level.max()) + 1):
        # cells stand in the order of the tree, so those below one ancestor are neighbours
        above = np.minimum(cells.level, level)
        ancestor = cells.index >> 2 * (cells.level - above)
        new = (ancestor[1:] != ancestor[:-1]) | (above[1:] != above[:-1])
        starts = np.concatenate([[0], np.flatnonzero(new) + 1])
        member = np.cumsum(np.concatenate([[0], new]))
        allowed = np.logical_or.reduceat(open_, starts, axis=1)
        total = np.where(allowed, np.add.reduceat(chance * open_, starts, axis=1), -np.inf)
        open_ &= member[None, :] == total.argmax(1)[:, None]
    return open_.argmax(1)


def _mean(cells: Cells, chance: np.ndarray, where_none: np.ndarray) -> NDArray[np.float64]:
    from shards.splits.continents import unit_vectors

    return direction(chance @ unit_vectors(cells.centres), chance.sum(1), where_none)


def _softmax(logits: np.ndarray) -> NDArray[np.float64]:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True))
