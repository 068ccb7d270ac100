import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from fm.errors import FMError, UsageError
from fm.geo import (
    EARTH_RADIUS_M,
    block_bounds,
    block_id,
    great_circle_m,
    lonlat_of,
    mgrs_tile_origin,
)

QUARTER = np.pi / 2 * EARTH_RADIUS_M


def test_great_circles_in_closed_form():
    pairs = [
        ((0, 0), (0, 0), 0),
        ((0, 0), (90, 0), QUARTER),
        ((17, 0), (-123, 90), QUARTER),  # any point of the equator to a pole
        ((0, 0), (180, 0), 2 * QUARTER),
        ((10, 50), (-170, -50), 2 * QUARTER),  # antipodes
        ((179.5, 0), (-179.5, 0), QUARTER / 90),  # across the date line
        ((0, 0), (45, 45), QUARTER * 2 / 3),  # cos d = cos 45 cos 45 = 1/2: 60 degrees
    ]
    a, b, expected = (np.array(column, float) for column in zip(*pairs, strict=True))
    # A micrometre: near antipodes the haversine loses half the digits.
    np.testing.assert_allclose(great_circle_m(a, b), expected, rtol=1e-9, atol=1e-6)
    np.testing.assert_array_equal(great_circle_m(a, b), great_circle_m(b, a))


def test_great_circles_keep_metres_and_broadcast():
    # One metre north: the spherical law of cosines would give 0 or a metre and a half.
    step = np.degrees(1.0 / EARTH_RADIUS_M)
    assert great_circle_m([12.0, 48.0], [12.0, 48.0 + step]) == pytest.approx(1.0, rel=1e-6)
    points = np.array([[0.0, 0.0], [90.0, 0.0], [0.0, 90.0]])
    matrix = great_circle_m(points[:, None], points[None])
    np.testing.assert_allclose(matrix, QUARTER * (1 - np.eye(3)), rtol=1e-12, atol=1e-6)


def test_lonlat_of_utm():
    # The central meridian of zone 33 is 15 E; the equator has northing 0.
    np.testing.assert_allclose(lonlat_of(500_000, 0, 32633), [15.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(lonlat_of(500_000, 10_000_000, "EPSG:32733"), [15, 0], atol=1e-9)
    grid = lonlat_of(np.full((2, 3), 500_000.0), np.full((2, 3), 5e6), 32633)
    assert grid.shape == (2, 3, 2)
    np.testing.assert_allclose(grid[..., 0], 15.0, atol=1e-9)
    assert (grid[..., 1] > 44).all()
    np.testing.assert_allclose(lonlat_of(12.5, 48.25, 4326), [12.5, 48.25], atol=1e-12)


def test_lonlat_of_refuses_nonsense():
    with pytest.raises(FMError, match="does not know"):
        lonlat_of(0, 0, "EPSG:1")
    with pytest.raises(FMError, match="outside"):
        lonlat_of(1e30, 0, 32633)


@pytest.mark.parametrize(
    ("tile", "origin"),
    [
        # Corners of real products: BigEarthNet (T33UUP) and S2-100K rasters, product metadata.
        ("33UUP", (32633, 300000, 5400000)),
        ("T31TDJ", (32631, 399960, 4900020)),
        ("12UXB", (32612, 600000, 5700000)),
        ("32SNE", (32632, 499980, 4000020)),
        # South of the equator the 60 m lattice counts from the equator.
        ("35LLF", (32735, 300000, 8600020)),
        ("19FEA", (32719, 499980, 4100020)),
        ("34NCF", (32634, 300000, 100020)),
        ("34MCE", (32734, 300000, 10000000)),
    ],
)
def test_tile_origins(tile, origin):
    assert mgrs_tile_origin(tile) == origin


@pytest.mark.parametrize(
    ("patch", "corner"),
    [((75, 43), (390000, 5348400)), ((26, 57), (331200, 5331600)), ((70, 48), (384000, 5342400))],
)
def test_bigearthnet_patches_count_1200_m_from_the_origin(patch, corner):
    # Corners of the GeoTIFFs ..._T33UUP_75_43, ..._T33UUP_26_57 and ..._33UUP_70_48.
    _, x, y = mgrs_tile_origin("33UUP")
    assert (x + 1200 * patch[0], y - 1200 * patch[1]) == corner


@pytest.mark.parametrize("tile", ["33UUI", "61UUP", "0UUP", "33UAP", "33UUH", "33UU", "", "EPSG:1"])
def test_what_is_no_tile(tile):
    with pytest.raises(UsageError, match="no Sentinel-2 tile"):
        mgrs_tile_origin(tile)


def area_m2(west, south, east, north):
    """Area on the ellipsoid, by pyproj; parallels are followed by many short geodesics."""
    along = np.linspace(west, east, 400)
    lon = np.concatenate([along, along[::-1]])
    lat = np.concatenate([np.full(400, south), np.full(400, north)])
    return abs(Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)[0])


@pytest.mark.parametrize("size_km", [50, 300, 1000])
def test_blocks_have_equal_areas(size_km):
    last = int(block_id([[179.999, 90.0]], size_km)[0])
    globe = 510_065_621.7e6  # WGS84
    blocks = np.unique(np.linspace(0, last, 60).astype(int))
    areas = np.array([area_m2(*block_bounds(int(b), size_km)) for b in blocks])
    # Exact by design; the residue is the polygon's (geodesics bulge off the parallels at the caps).
    np.testing.assert_allclose(areas, globe / (last + 1), rtol=2e-3)
    assert globe / (last + 1) == pytest.approx((size_km * 1e3) ** 2, rel=0.05)


@settings(max_examples=200, deadline=None)
@given(
    lon=st.floats(-180, 179.999999),
    lat=st.floats(-90, 90),
    size=st.sampled_from([1.0, 25.0, 700.0]),
)
def test_a_point_lies_in_its_block(lon, lat, size):
    block = int(block_id([lon, lat], size))
    west, south, east, north = block_bounds(block, size)
    assert west - 1e-9 <= lon <= east + 1e-9
    # Near a pole one rounding of the sine is 1e-6 degrees.
    assert south - 2e-6 <= lat <= north + 2e-6


def test_blocks_are_near_squares_and_separate_far_points():
    west, south, east, north = block_bounds(int(block_id([11.0, 48.0], 20.0)), 20.0)
    width = great_circle_m([west, 48.0], [east, 48.0])
    assert 0.9 < width / 20_000 < 1.1
    assert 0.9 < great_circle_m([west, south], [west, north]) / 20_000 < 1.1
    rng = np.random.default_rng(0)
    lonlat = np.stack(
        [rng.uniform(-180, 180, 20_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 20_000)))], axis=-1
    )
    counts = np.bincount(block_id(lonlat, 2000.0))
    # Uniform points fall evenly: chi-squared per degree of freedom is 1 +- 5 standard deviations.
    chi2 = ((counts - counts.mean()) ** 2 / counts.mean()).sum() / (counts.size - 1)
    assert abs(chi2 - 1) < 5 * np.sqrt(2 / counts.size)


def test_unknown_places_and_wrapping():
    points = np.array([[[np.nan, 0.0], [10.0, np.nan]], [[190.0, 5.0], [-170.0, 5.0]]])
    ids = block_id(points, 100.0)
    assert ids.shape == (2, 2)
    assert ids.dtype == np.int64
    assert (ids[0] == -1).all()
    assert ids[1, 0] == ids[1, 1] >= 0
    with pytest.raises(FMError, match="beyond the poles"):
        block_id([48.0, 111.0], 100.0)
    with pytest.raises(UsageError, match="out of range"):
        block_id([0.0, 0.0], 0.0)
    with pytest.raises(UsageError, match="no block -1"):
        block_bounds(-1, 100.0)
