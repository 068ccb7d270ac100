"""Rasters of several pixel sizes cut into patches of the same ground.

The grids of a clipped scene rarely start at the same corner. A patch is a rectangle of ground on
the lattice of the coarsest grid's own pixels, and each band is read where its geotransform puts
that rectangle, never at the same array index. All arithmetic is in whole pixels of the finest grid,
counted from the coarsest grid's upper left corner.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor

from fm.errors import FMError
from shards.sources.raster_io import Header, Transform, whole_turn

TOLERANCE = 1e-3
"""Share of a pixel by which corners may miss each other (rounding in the files)."""


@dataclass(frozen=True)
class Extent:
    """Where a grid lies on the lattice.

    Attributes:
        ratio: its pixel, in pixels of the finest grid.
        left: column of its left edge, in finest pixels from the lattice's origin.
        top: row of its upper edge.
        height: rows of its own.
        width: columns of its own.
    """

    ratio: int
    left: int
    top: int
    height: int
    width: int

    @property
    def right(self) -> int:
        """Column of the right edge, in finest pixels."""
        return self.left + self.ratio * self.width

    @property
    def bottom(self) -> int:
        """Row of the lower edge, in finest pixels."""
        return self.top + self.ratio * self.height

    def window(self, row: int, column: int, side: int) -> tuple[int, int, int, int]:
        """`(row, column, height, width)` in its own pixels of a patch on the lattice."""
        return (
            (row - self.top) // self.ratio,
            (column - self.left) // self.ratio,
            side // self.ratio,
            side // self.ratio,
        )


@dataclass(frozen=True)
class Lattice:
    """The grids of one item on a common lattice.

    Attributes:
        extents: by name of the grid.
        fine: name of a grid of the smallest pixels.
        transform: of the lattice in finest pixels (pixel to CRS).
        step: pixels of the finest grid in one of the coarsest.
        turn: pixels of the finest grid in a whole turn of longitude, so many as are whole; None
            where the coordinates are no angles.
    """

    extents: Mapping[str, Extent]
    fine: str
    transform: Transform
    step: int
    turn: int | None = None

    def patches(self, side: int) -> list[tuple[int, int]]:
        """Patches inside the ground that all grids cover: (row, column), row by row.

        No two of them show the same ground: of a raster around the whole Earth, columns that lie a
        turn from the first ones or over them in part are left out.

        Args:
            side: in pixels of the finest grid, a multiple of `step`.
        """
        every = self.extents.values()
        top = ceil(max(e.top for e in every) / self.step) * self.step
        left = ceil(max(e.left for e in every) / self.step) * self.step
        rows = (min(e.bottom for e in every) - top) // side
        right = min(e.right for e in every)
        if self.turn is not None:
            right = min(right, left + self.turn)
        columns = (right - left) // side
        return [
            (top + r * side, left + c * side)
            for r in range(max(rows, 0))
            for c in range(max(columns, 0))
        ]


def north_up(header: Header) -> str | None:
    """What keeps a raster from being cut along its rows and columns; None when nothing does."""
    a, b, _, d, e, _ = header.transform
    if header.crs is None:
        return "no coordinate system, so it cannot be placed"
    if b or d or a <= 0 or e >= 0:
        return "rotated or upside down; warp it (--reproject) first"
    return None


def align(grids: Mapping[str, Header]) -> Lattice:
    """Put grids of one coordinate system onto a lattice.

    Args:
        grids: north-up rasters by name.

    Raises:
        FMError: pixels that are no whole number of the finest ones, or that straddle those of the
            coarsest grid; the text names the grid.
    """
    fine = min(grids, key=lambda name: grids[name].transform[0])
    coarse = max(grids, key=lambda name: grids[name].transform[0])
    width, _, _, _, down, _ = grids[fine].transform
    west, north = grids[coarse].transform[2], grids[coarse].transform[5]
    extents = {}
    for name, grid in grids.items():
        a, _, c, _, e, f = grid.transform
        ratio = round(a / width)
        if abs(a / width - ratio) > TOLERANCE / 10 or abs(e / down - ratio) > TOLERANCE / 10:
            raise FMError(
                f"{grid.path}: pixels of {a:g} x {-e:g} are no whole number of the "
                f"{width:g} x {-down:g} of {grids[fine].path}"
            )
        left, top = (c - west) / width, (f - north) / down
        for what, value in (("left", left), ("upper", top)):
            if abs(value / ratio - round(value / ratio)) > TOLERANCE:
                raise FMError(
                    f"{grid.path}: misaligned: its {what} edge is no whole number of its pixels "
                    f"from that of {grids[coarse].path}, so its pixels straddle those of the other"
                )
        extents[name] = Extent(ratio, round(left), round(top), grid.height, grid.width)
    step = extents[coarse].ratio
    if odd := [name for name, extent in extents.items() if step % extent.ratio]:
        raise FMError(
            f"{grids[odd[0]].path}: its pixels do not tile those of {grids[coarse].path}; build "
            "them as two datasets, or warp them to one grid with --reproject"
        )
    turn = whole_turn(str(grids[fine].crs)) if grids[fine].crs else None
    most = None if turn is None else floor(turn / width + TOLERANCE)
    return Lattice(extents, fine, (width, 0.0, west, 0.0, down, north), step, most)
