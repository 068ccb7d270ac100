"""Which samples lie near a block of another part: the buffer between the parts of a split."""

from collections.abc import Iterator

import numpy as np

from fm.geo import EARTH_RADIUS_M, block_bounds, great_circle_m
from shards.splits.continents import nearest_tree, unit_vectors

_AT_ONCE = 2**20


def near_other(
    lonlat: np.ndarray,
    block_of: np.ndarray,
    blocks: np.ndarray,
    parts: np.ndarray,
    km: float,
    distance_m: float,
) -> np.ndarray:
    """Find the samples that are closer than a distance to a block of another part.

    Args:
        lonlat: `[N, 2]` degrees.
        block_of: `[N]` place of each sample's block in `blocks`.
        blocks: `[M]` block numbers of `fm.geo.block_id`, rising.
        parts: `[M]` part of each block.
        km: side of the blocks.
        distance_m: metres along great circles (`fm.geo.great_circle_m`).

    Returns:
        bool `[N]`.

    Raises:
        FMError: scipy is not installed.
    """
    bounds = all_bounds(blocks, km)
    centres = np.stack([bounds[:, [0, 2]].mean(axis=1), bounds[:, [1, 3]].mean(axis=1)], axis=1)
    corners = np.stack([bounds[:, pair] for pair in ([0, 1], [0, 3], [2, 1], [2, 3])])
    reach = great_circle_m(centres, corners).max() * 1.01  # of the largest block
    chord = 2 * np.sin(min(np.pi, (distance_m + 2 * reach) / EARTH_RADIUS_M) / 2)
    pairs = nearest_tree(unit_vectors(centres)).query_pairs(chord, output_type="ndarray")
    pairs = pairs[parts[pairs[:, 0]] != parts[pairs[:, 1]]]
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    near = np.zeros(len(lonlat), bool)
    order = np.argsort(block_of, kind="stable")
    starts = np.searchsorted(block_of[order], np.arange(len(blocks) + 1))
    for own, other in _portions(pairs, np.diff(starts)):
        counts = starts[own + 1] - starts[own]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = order[np.repeat(starts[own], counts) + within]
        far = box_distance_m(lonlat[rows], bounds[np.repeat(other, counts)])
        near[rows[far < distance_m]] = True
    return near


def box_distance_m(lonlat: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Distance from points to boxes between meridians and parallels, 0 inside.

    The nearest point of a box lies on the point's own meridian if that crosses the box; else on
    the nearer of its two side meridians, at the foot of the perpendicular great circle (Napier:
    tan(foot) = tan(lat) / cos(difference of longitude)) or at the corner next to it.

    Args:
        lonlat: `[N, 2]` degrees.
        bounds: `[N, 4]` west, south, east, north in degrees.

    Returns:
        `[N]` metres along great circles of a sphere.
    """
    lon, lat = lonlat.T
    west, south, east, north = bounds.T
    inside = (lon - west) % 360 <= east - west
    to_west, to_east = ((edge - lon + 180) % 360 - 180 for edge in (west, east))
    turn = np.where(np.abs(to_west) < np.abs(to_east), to_west, to_east)
    turn = np.where(inside, 0.0, turn)
    angle = np.radians(lat)
    foot = np.degrees(np.arctan2(np.sin(angle), np.cos(angle) * np.cos(np.radians(turn))))
    # Along the meridian's whole circle: the box's nearest latitude is nearest around that circle.
    foot += 360 * np.rint(((south + north) / 2 - foot) / 360)
    nearest = np.clip(foot, south, north)
    return great_circle_m(lonlat, np.stack([lon + turn, nearest], axis=1))


def all_bounds(blocks: np.ndarray, km: float) -> np.ndarray:
    """Return west, south, east, north of blocks (numbers that rise), `[M, 4]` degrees."""
    result, at = np.empty((len(blocks), 4)), 0
    while at < len(blocks):
        # One row of latitude at a time: its blocks are numbered one after another from the west.
        west, south, east, north = block_bounds(int(blocks[at]), km)
        count = round(360 / (east - west))
        first = int(blocks[at]) - round((west + 180) / 360 * count)
        end = int(np.searchsorted(blocks, first + count))
        column = blocks[at:end] - first
        result[at:end, 0] = 360 * column / count - 180
        result[at:end, 1] = south
        result[at:end, 2] = 360 * (column + 1) / count - 180
        result[at:end, 3] = north
        at = end
    return result


def _portions(pairs: np.ndarray, counts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cut pairs of blocks into portions of about `_AT_ONCE` (sample, block) pairs."""
    portion = np.cumsum(counts[pairs[:, 0]]) // _AT_ONCE
    for cut in np.split(pairs, np.flatnonzero(np.diff(portion)) + 1):
        yield cut[:, 0], cut[:, 1]
