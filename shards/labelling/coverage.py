"""How much of each cell of a grid a polygon covers, exactly.

The signed-area method of font rasterisers: an edge of the polygon adds to a cell the height it
crosses there and the area to the right of it; a running sum over a row makes areas of these.
"""

import numpy as np


def coverage(polygon: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the covered area of each cell of a grid of unit cells.

    Args:
        polygon: `[n, 2]` corners (x, y) in units of cells, in order, not closed; x grows with the
            column, y with the row. What lies outside of the grid counts nowhere.
        height: rows.
        width: columns.

    Returns:
        `[height, width]` float64, 0 to 1.
    """
    start, stop = polygon, np.roll(polygon, -1, axis=0)
    # what is left of the grid covers the cells to its right, what is right of it covers none
    pieces = _cut(_cut(np.stack([start, stop], axis=1), 1), 0)
    x0, y0 = pieces[:, 0, 0], pieces[:, 0, 1]
    x1, y1 = pieces[:, 1, 0], pieces[:, 1, 1]
    middle = (y0 + y1) / 2
    row = np.floor(middle).astype(np.int64)
    inside = (row >= 0) & (row < height)
    x, rise, row = ((x0 + x1) / 2)[inside], (y1 - y0)[inside], row[inside]
    column = np.clip(np.floor(x), -1, width).astype(np.int64)
    right = np.clip(column + 1 - x, 0.0, 1.0)
    area = np.zeros((height, width + 3))  # with what lies left of the grid, and right of it
    np.add.at(area, (row, column + 1), rise * right)
    np.add.at(area, (row, column + 2), rise * (1 - right))
    return np.abs(np.cumsum(area, axis=1))[:, 1 : width + 1]


def _cut(pieces: np.ndarray, axis: int) -> np.ndarray:
    """Cut segments `[n, 2, 2]` where they cross whole numbers of a coordinate."""
    low = np.minimum(pieces[:, 0, axis], pieces[:, 1, axis])
    high = np.maximum(pieces[:, 0, axis], pieces[:, 1, axis])
    first, last = np.floor(low).astype(np.int64) + 1, np.ceil(high).astype(np.int64) - 1
    counts = np.maximum(last - first + 1, 0)
    begin = np.zeros(len(pieces))
    which = np.repeat(np.arange(len(pieces)), counts)
    number = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    a, b = pieces[which, 0, axis], pieces[which, 1, axis]
    share = (first[which] + number - a) / (b - a)
    of = np.concatenate([np.arange(len(pieces)), which])
    starts = np.concatenate([begin, share])
    order = np.lexsort((starts, of))
    of, starts = of[order], starts[order]
    ends = np.append(starts[1:], 1.0)
    ends[np.append(of[1:] != of[:-1], True)] = 1.0
    from_, to = pieces[of, 0], pieces[of, 1]

    def at(shares: np.ndarray) -> np.ndarray:
        return from_ + shares[:, None] * (to - from_)

    return np.stack([at(starts), at(ends)], axis=1)
