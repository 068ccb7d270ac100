"""Overlapping tiles of a grid of tokens, and how they are blended."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fm.errors import UsageError


@dataclass(frozen=True)
class Tiling:
    """Square tiles over a grid, the last of a row or column moved inwards to end with it.

    Attributes:
        rows: of the grid, in steps.
        columns: of the grid.
        side: of a tile.
        overlap: of neighbours, at least.
    """

    rows: int
    columns: int
    side: int
    overlap: int

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.side:
            raise UsageError(
                f"tiles of {self.side} that overlap by {self.overlap}: the overlap is from 0 to "
                f"below the side"
            )

    @property
    def corners(self) -> list[tuple[int, int]]:
        """(row, column) of each tile, row by row."""
        return [(r, c) for r in self._starts(self.rows) for c in self._starts(self.columns)]

    @property
    def edges(self) -> tuple[list[int], list[int]]:
        """Rows and columns at which a tile begins or ends inside of the grid."""
        found = []
        for size in (self.rows, self.columns):
            starts = self._starts(size)
            found.append(sorted({x for s in starts for x in (s, s + self.side) if 0 < x < size}))
        return found[0], found[1]

    def _starts(self, size: int) -> list[int]:
        if size <= self.side:
            return [0]
        step = self.side - self.overlap
        return [*range(0, size - self.side, step), size - self.side]


def ramp(side: int, overlap: int) -> NDArray[np.float64]:
    """Weights `[side]` of a tile's cells: rising over the overlap, level in the middle.

    Two neighbours' weights sum to 1 where they overlap by `overlap`; other sums are divided out.
    """
    at = np.arange(side) + 0.5
    return np.minimum(1.0, np.minimum(at, side - at) / max(overlap, 0.5))


def blend(
    tiling: Tiling, times: int, dim: int, read: Callable[[int], np.ndarray]
) -> Callable[[int, int], np.ndarray]:
    """Make a reader of the blended grid.

    Args:
        tiling: in steps.
        times: cells along a step.
        dim: D.
        read: number of a tile to its cells `[side * times, side * times, D]`, NaN where unknown.

    Returns:
        (first row, last row + 1) to `[rows, X, D]` float32; NaN where no tile knows a cell.
    """
    side = tiling.side * times
    along = ramp(side, tiling.overlap * times)
    weight = (along[:, None] * along)[..., None]
    corners = [(r * times, c * times) for r, c in tiling.corners]
    height, width = tiling.rows * times, tiling.columns * times

    def rows(first: int, last: int) -> np.ndarray:
        total = np.zeros((last - first, width, dim))
        share = np.zeros((last - first, width, 1))
        for number, (top, left) in enumerate(corners):
            a, b = max(first, top), min(last, top + side)
            if a >= b:
                continue
            right = min(left + side, width)
            part = read(number)[a - top : b - top, : right - left].astype(np.float64)
            w = weight[a - top : b - top, : right - left]
            known = np.isfinite(part).all(axis=-1, keepdims=True)
            total[a - first : b - first, left:right] += np.where(known, part * w, 0.0)
            share[a - first : b - first, left:right] += np.where(known, w, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(share > 0, total / share, np.nan).astype(np.float32)

    assert height
    return rows


def seams(
    strips: Iterator[np.ndarray], edges: tuple[list[int], list[int]]
) -> dict[str, float] | None:
    """Compare steps between neighbouring cells across tiles' edges with those elsewhere.

    Args:
        strips: `[rows, X, D]` of the grid from the north, each known cell finite.
        edges: rows and columns at which tiles begin or end.

    Returns:
        `ratio`: the mean length of a step over an edge, by that of the others; 1 where tiles cannot
        be told. None where there is no edge, or no step elsewhere.
    """
    sums = np.zeros((2, 2))  # over an edge, elsewhere; length, count
    before: np.ndarray | None = None
    row = 0
    for strip in strips:
        values = strip.astype(np.float64)
        right = np.linalg.norm(np.diff(values, axis=1), axis=-1)
        across = np.isin(np.arange(1, values.shape[1]), edges[1])
        stack = values if before is None else np.concatenate([before, values])
        down = np.linalg.norm(np.diff(stack, axis=0), axis=-1)
        first = row + (1 if before is None else 0)
        over = np.isin(np.arange(first, first + len(down)), edges[0])
        for lengths in (right[:, across], down[over]):
            sums[0] += _sum(lengths)
        for lengths in (right[:, ~across], down[~over]):
            sums[1] += _sum(lengths)
        before, row = values[-1:], row + len(values)
    if not sums[0, 1] or not sums[1, 0]:
        return None
    return {"ratio": float(sums[0, 0] / sums[0, 1] / (sums[1, 0] / sums[1, 1]))}


def _sum(lengths: np.ndarray) -> NDArray[np.float64]:
    known = lengths[np.isfinite(lengths)]
    return np.array([known.sum(), known.size])
