"""Cells that hold about as many training images each: small where images are many.

PlaNet (Weyand et al., ECCV 2016, arXiv 1602.05314, section 3) turns geolocation into
classification: a quadtree over the globe is descended from its roots, a cell with more than
`largest` training images is divided into its four children, and cells that end with fewer than
`smallest` are dropped together with their images. PlaNet's tree is S2's. Here it is HEALPix's in
nested numbering (Gorski et al., ApJ 622, 2005): twelve roots, each cell exactly a quarter of its
parent's area, which S2's cells are not. Needs the extra `geo`: `pip install 'eofm[geo]'`.

Latitudes are taken as they are for those of a sphere, as `fm.geo.great_circle_m` does; measured on
the ellipsoid, cells of one level differ in area by up to 1.4 %.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError, UsageError

FINEST = 24
"""Level at which places are numbered: cells of 0.4 m. Places nearer than that are never parted."""
NONE = -1
"""Number of a place that lies in no cell."""
Rest = Literal["none", "nearest"]
Centre = Literal["mean", "cell"]


@dataclass(frozen=True)
class Cells:
    """A partition of (a part of) the Earth into `K` cells, in the order of the quadtree.

    Attributes:
        level: `[K]` depth in the tree, 0 for one of the twelve roots.
        index: `[K]` HEALPix number at that level, nested.
        counts: `[K]` training places in each.
        centres: `[K, 2]` lon, lat in degrees: the answer that each stands for.
        rest: what a place outside of all cells belongs to: `none` of them, or the cell with the
            `nearest` centre.
        left_out: training places in cells that were dropped.
        undivided: cells of more than `largest` places that are as small as was allowed.
    """

    level: NDArray[np.int64]
    index: NDArray[np.int64]
    counts: NDArray[np.int64]
    centres: NDArray[np.float64]
    rest: Rest
    left_out: int
    undivided: int

    def __len__(self) -> int:
        return len(self.level)

    @property
    def names(self) -> tuple[str, ...]:
        """`LEVEL/INDEX` of each cell."""
        pairs = zip(self.level.tolist(), self.index.tolist(), strict=True)
        return tuple(f"{level}/{index}" for level, index in pairs)

    def inside(self, lonlat: np.ndarray) -> NDArray[np.int64]:
        """Number of the cell that holds each place `[n, 2]`, `NONE` outside of all and for NaN."""
        found = np.full(len(lonlat), NONE, np.int64)
        known = np.isfinite(lonlat).all(1)
        places = numbered(np.asarray(lonlat, np.float64)[known])
        starts = self.index << 2 * (FINEST - self.level)
        at = np.searchsorted(starts, places, side="right") - 1
        held = (at >= 0) & (places >> 2 * (FINEST - self.level[at]) == self.index[at])
        found[known] = np.where(held, at, NONE)
        return found

    def of(self, lonlat: np.ndarray) -> NDArray[np.int64]:
        """Number of the cell that each place `[n, 2]` belongs to, by the rule of `rest`."""
        found = self.inside(lonlat)
        if self.rest == "nearest":
            astray = (found == NONE) & np.isfinite(lonlat).all(1)
            if astray.any():
                found[astray] = self.nearest(lonlat[astray])[0]
        return found

    def nearest(self, lonlat: np.ndarray) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Number of the cell with the nearest centre, and the chord to it on the unit sphere."""
        from shards.splits.continents import unit_vectors

        chord, number = self._tree.query(unit_vectors(np.asarray(lonlat, np.float64)))
        return np.asarray(number, np.int64), np.asarray(chord, np.float64)

    @cached_property
    def _tree(self) -> Any:
        from shards.splits.continents import nearest_tree, unit_vectors

        return nearest_tree(unit_vectors(self.centres))


def partition(
    lonlat: np.ndarray,
    *,
    largest: int,
    smallest: int,
    coarsest: int = 0,
    finest: int = FINEST,
    rest: Rest = "none",
    centre: Centre = "mean",
) -> Cells:
    """Divide the Earth by the places of training images, and by nothing else.

    Args:
        lonlat: `[n, 2]` degrees, of the training images alone.
        largest: a cell with more of them is divided.
        smallest: a cell that ends with fewer is dropped.
        coarsest: level from which on cells may stay whole.
        finest: level at which division ends, whatever a cell holds.
        rest: see `Cells`.
        centre: the answer of a cell: the `mean` of its training places on the sphere, or the
            middle of the `cell`.

    Raises:
        UsageError: bounds that contradict each other.
        FMError: no place, an unknown one, a latitude beyond the poles, or no cell with enough.
    """
    if not 1 <= smallest <= largest:
        raise UsageError(f"cells of {smallest} to {largest} places: give 1 <= smallest <= largest")
    if not 0 <= coarsest <= finest <= FINEST:
        raise UsageError(f"levels {coarsest} to {finest}: give 0 <= coarsest <= finest <= {FINEST}")
    lonlat = np.asarray(lonlat, np.float64).reshape(-1, 2)
    if not len(lonlat) or not np.isfinite(lonlat).all():
        raise FMError("cells are made of known training places; there is none, or one is unknown")
    places = numbered(lonlat)
    order = np.argsort(places, kind="stable")
    places = places[order]
    parts: list[tuple[np.ndarray, ...]] = []
    left = np.ones(len(places), bool)  # places whose cell is not settled
    for depth in range(coarsest, finest + 1):
        rows = np.flatnonzero(left)
        cell, first, held = np.unique(
            places[rows] >> 2 * (FINEST - depth), return_index=True, return_counts=True
        )
        done = (held <= largest) | (depth == finest)
        parts.append((np.full(done.sum(), depth), cell[done], rows[first[done]], held[done]))
        left[rows[np.repeat(done, held)]] = False
    level, index, start, count = (np.concatenate(part) for part in zip(*parts, strict=True))
    kept = count >= smallest
    if not kept.any():
        raise FMError(
            f"no cell holds {smallest} of {len(places)} training places (at most {count.max()}); "
            f"give a smaller number, or larger cells"
        )
    along = np.flatnonzero(kept)[np.argsort(start[kept])]  # in the order of the tree
    level, index, start, held = (part[along] for part in (level, index, start, count))
    middle = _middles(level, index)
    if centre == "mean":
        rows = np.concatenate([np.arange(s, s + n) for s, n in zip(start, held, strict=True)])
        owner = np.repeat(np.arange(len(level)), held)
        middle = mean_on_sphere(lonlat[order][rows], owner, middle)
    return Cells(
        level=level,
        index=index,
        counts=held,
        centres=middle,
        rest=rest,
        left_out=int(count[~kept].sum()),
        undivided=int((held > largest).sum()),
    )


def numbered(lonlat: np.ndarray) -> NDArray[np.int64]:
    """HEALPix number of each place `[n, 2]` at the finest level; longitudes wrap.

    Raises:
        FMError: a latitude beyond the poles, or the extra `geo` is not installed.
    """
    lon, lat = np.asarray(lonlat, np.float64).T
    if (np.abs(lat) > 90).any():
        raise FMError("a latitude lies beyond the poles; coordinates are (lon, lat) in degrees")
    found = _healpix().ang2pix(2**FINEST, np.mod(lon, 360.0), lat, nest=True, lonlat=True)
    return np.asarray(found, np.int64)


def mean_on_sphere(
    lonlat: np.ndarray,
    owner: np.ndarray,
    where_none: np.ndarray,
    weights: np.ndarray | None = None,
) -> NDArray[np.float64]:
    """Mean direction of the places of each owner: the sum of their unit vectors.

    Args:
        lonlat: `[n, 2]` degrees.
        owner: `[n]` numbers below K.
        where_none: `[K, 2]` what stands where the vectors cancel, or there are none.
        weights: `[n]`; all alike where None.

    Returns:
        `[K, 2]` degrees, longitudes from -180 to 180.
    """
    from shards.splits.continents import unit_vectors

    vectors = unit_vectors(np.asarray(lonlat, np.float64))
    sums = np.zeros((len(where_none), 3))
    np.add.at(sums, owner, vectors if weights is None else vectors * weights[:, None])
    total = np.bincount(owner, weights, len(where_none))
    return direction(sums, total, where_none)


def direction(sums: np.ndarray, total: np.ndarray, where_none: np.ndarray) -> NDArray[np.float64]:
    """Turn sums `[K, 3]` of unit vectors of the weight `total` `[K]` into lon, lat `[K, 2]`."""
    x, y, z = sums.T
    long = np.sqrt((sums**2).sum(1)) > 1e-9 * np.maximum(total, 1e-300)
    made = np.degrees(np.stack([np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))], axis=1))
    return np.where(long[:, None], made, where_none)


def _middles(level: np.ndarray, index: np.ndarray) -> NDArray[np.float64]:
    """Middles of cells, lon, lat in degrees."""
    made = np.empty((len(level), 2))
    for one in np.unique(level).tolist():
        rows = level == one
        lon, lat = _healpix().pix2ang(2**one, index[rows], nest=True, lonlat=True)
        made[rows] = np.stack([(lon + 180) % 360 - 180, lat], axis=1)
    return made


def _healpix() -> Any:
    try:
        import healpix
    except ImportError:
        raise FMError(
            "healpix is not installed; it numbers the cells: pip install 'eofm[geo]'"
        ) from None
    return healpix
