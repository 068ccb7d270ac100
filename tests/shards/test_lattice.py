"""Grids of several pixel sizes on one lattice; numbers worked out by hand."""

import pytest

from fm.errors import FMError
from shards.sources.lattice import align, north_up
from shards.sources.raster_io import Header


def grid(west: float, north: float, pixel: float, size: int = 30, **changes: object) -> Header:
    values = {
        "path": f"{pixel:g}.tif",
        "count": 1,
        "height": size,
        "width": size,
        "dtypes": ("uint16",),
        "crs": "EPSG:32633",
        "transform": (pixel, 0.0, west, 0.0, -pixel, north),
        "nodata": (None,),
        "scales": (1.0,),
        "offsets": (0.0,),
        "units": (None,),
    }
    return Header(**(values | changes))


def test_patches_lie_on_the_coarsest_grid_inside_all() -> None:
    lattice = align(
        {
            "fine": grid(1030, 5000, 10, 30),
            "mid": grid(1000, 5020, 20, 20),
            "far": grid(940, 5080, 60),
        }
    )
    assert (lattice.step, lattice.fine) == (6, "fine")
    assert lattice.transform == (10, 0, 940, 0, -10, 5080)
    extent = lattice.extents["mid"]
    assert (extent.ratio, extent.left, extent.top) == (2, 6, 6)
    # the fine grid starts at column 9, row 8 of the lattice, so the first patch at 12, 12
    assert lattice.patches(12) == [(12, 12), (12, 24), (24, 12), (24, 24)]
    assert lattice.extents["fine"].window(12, 24, 12) == (4, 15, 12, 12)
    assert extent.window(12, 24, 12) == (3, 9, 6, 6)
    assert lattice.extents["far"].window(12, 24, 12) == (2, 4, 2, 2)
    assert lattice.patches(48) == []


def test_degrees_and_oblong_pixels_align_too() -> None:
    fine = grid(0, 0, 1, transform=(1e-4, 0, 73.0, 0, -2e-4, 30.0))
    coarse = grid(0, 0, 1, transform=(3e-4, 0, 73.0003, 0, -6e-4, 30.0012))
    lattice = align({"fine": fine, "coarse": coarse})
    assert (lattice.extents["fine"].left, lattice.extents["fine"].top) == (-3, 6)


@pytest.mark.parametrize(
    ("pixel", "width", "side", "columns"),
    [
        (1.0, 360, 60, 6),
        (1.0, 361, 19, 18),  # pixels' centres: the last column is the first one again
        (0.7, 515, 5, 102),  # 514.3 pixels a turn: the last column lies over the first one in part
        (1 / 3, 1080, 90, 12),  # a whole number but for rounding
    ],
)
def test_around_the_earth_no_ground_is_cut_twice(
    pixel: float, width: int, side: int, columns: int
) -> None:
    """Defect: the last patch of a row showed ground of the first one, a sample of another split."""
    about = {"crs": "EPSG:4326", "width": width, "height": 2 * side}
    fine = grid(-180.0, 90.0, pixel, **about)
    places = align({"fine": fine}).patches(side)
    assert places == [(r * side, c * side) for r in (0, 1) for c in range(columns)]
    in_metres = align({"fine": grid(-180.0, 90.0, pixel, **about | {"crs": "EPSG:32633"})})
    assert len(in_metres.patches(side)) == 2 * (width // side)


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (grid(1005, 5000, 20), "misaligned: its left edge"),
        (grid(1000, 5010, 20), "misaligned: its upper edge"),
        (grid(1000, 5000, 15), "no whole number"),
        (grid(1000, 5000, 20, transform=(20, 0, 1000, 0, -30, 5000)), "no whole number"),
    ],
)
def test_grids_that_do_not_fit_are_refused(other: Header, text: str) -> None:
    with pytest.raises(FMError, match=text):
        align({"fine": grid(1000, 5000, 10), "other": other, "far": grid(1000, 5000, 60)})


def test_pixels_that_do_not_tile_the_coarsest() -> None:
    grids = {f"{m}": grid(0, 0, m) for m in (10, 20, 30)}
    with pytest.raises(FMError, match="do not tile"):
        align(grids)


def test_rotation_and_missing_systems_are_said() -> None:
    assert north_up(grid(0, 0, 10)) is None
    assert "rotated" in str(north_up(grid(0, 0, 10, transform=(10, 1, 0, 0, -10, 0))))
    assert "upside down" in str(north_up(grid(0, 0, 10, transform=(10, 0, 0, 0, 10, 0))))
    assert "no coordinate system" in str(north_up(grid(0, 0, 10, crs=None)))
