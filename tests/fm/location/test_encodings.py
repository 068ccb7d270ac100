"""The other encodings, against their formulas written out."""

import math

import numpy as np
import pytest
import torch

from fm.errors import FMError, UsageError
from fm.location import create_encoding, list_encodings
from fm.location.fourier_features import equal_earth

LON, LAT = 12.5, -33.0


def one(name: str, lon: float = LON, lat: float = LAT, **options) -> np.ndarray:
    made = create_encoding(name, **options).double()
    return made(torch.tensor([[lon, lat]], dtype=torch.float64))[0].numpy()


def test_wrap_cartesian_degrees() -> None:
    p, q = math.radians(LON), math.radians(LAT)
    wrap = [math.cos(p), math.sin(p), math.cos(q), math.sin(q)]
    xyz = [math.cos(q) * math.cos(p), math.cos(q) * math.sin(p), math.sin(q)]
    assert np.allclose(one("wrap"), wrap, atol=1e-15)
    assert np.allclose(one("cartesian"), xyz, atol=1e-15)
    assert np.allclose(one("degrees"), [LON / 180, LAT / 90], atol=1e-15)


RADII = {"scales": 3, "min_radius": 1.0, "max_radius": 100.0}
SCALES = (1.0, 10.0, 100.0)


def test_grid_is_by_coordinate_then_scale() -> None:
    expected = [f(x / r) for x in (LON, LAT) for r in SCALES for f in (math.sin, math.cos)]
    assert np.allclose(one("grid", **RADII), expected, atol=1e-12)


def test_theory_projects_on_three_directions() -> None:
    expected = []
    for r in SCALES:
        for turn in (0, 120, 240):
            a, b = math.cos(math.radians(turn)), math.sin(math.radians(turn))
            expected += [math.sin((a * LON + b * LAT) / r), math.cos((a * LON + b * LAT) / r)]
    assert np.allclose(one("theory", **RADII), expected, atol=1e-12)


def test_sphere2vec() -> None:
    sin, cos = math.sin, math.cos
    lon, lat = math.radians(LON), math.radians(LAT)
    parts: dict[str, list[float]] = {"sphere_c": [], "sphere_c_plus": []}
    parts |= {"sphere_m": [], "sphere_m_plus": []}
    for r in SCALES:
        p, q = LON / r, LAT / r
        c = [sin(q), cos(q) * cos(p), cos(q) * sin(p)]
        m = [sin(q), cos(q) * cos(lon), cos(lat) * cos(p), cos(q) * sin(lon), cos(lat) * sin(p)]
        grid = [cos(q), sin(p), cos(p)]
        parts["sphere_c"] += c
        parts["sphere_c_plus"] += c + grid
        parts["sphere_m"] += m
        parts["sphere_m_plus"] += m + grid
    for name, expected in parts.items():
        assert np.allclose(one(name, **RADII), expected, atol=1e-12), name


def test_equal_earth_has_equal_areas() -> None:
    """The determinant of the projection over that of the sphere is one number everywhere."""
    lonlat = torch.tensor([[0, 0], [50, 20], [-120, -60], [179, 85.0]], dtype=torch.float64)
    shares = []
    for place in lonlat:
        rows = torch.autograd.functional.jacobian(lambda x: equal_earth(x[None])[0], place)
        shares.append(float(torch.det(rows)) / math.cos(math.radians(float(place[1]))))
    assert np.ptp(shares) < 1e-5 * shares[0]


def test_equal_earth_known_corner() -> None:
    """Widths of the published map: the equator is 2.7066 radii from the middle, the pole 1.3174."""
    ends = equal_earth(torch.tensor([[180.0, 0.0], [0.0, 90.0]], dtype=torch.float64))
    assert np.allclose(ends.numpy() / (66.50336 / 180), [[2.70663, 0], [0, 1.31736]], atol=1e-5)


def test_random_features_are_cosines_then_sines() -> None:
    made = create_encoding("rff", sigma=3.0, count=4, projection="xyz", seed=5).double()
    lonlat = torch.tensor([[LON, LAT]], dtype=torch.float64)
    turns = (made.project(lonlat) @ made.frequencies.T)[0]
    expected = torch.cat([torch.cos(2 * math.pi * turns), torch.sin(2 * math.pi * turns)])
    assert torch.allclose(made(lonlat)[0], expected, atol=1e-14)
    drawn = create_encoding("rff", sigma=3.0, count=4000, seed=5).frequencies
    assert abs(float(drawn.std()) - 3) < 0.1


def test_frequencies_stay_exact_in_bfloat16() -> None:
    made = create_encoding("rff", sigma=16.0, count=4)
    before = made.frequencies.clone()
    assert torch.equal(made.bfloat16().frequencies, before)


@pytest.mark.parametrize("name", list_encodings())
def test_every_encoding_is_sound(name: str) -> None:
    made = create_encoding(name)
    ends = [[0, 90], [0, -90], [180, 0], [-180, 10], [7, 50.0]]
    found = torch.tensor(ends, dtype=torch.float64, requires_grad=True)
    values = made(found)
    assert values.shape == (5, made.dim)
    assert values.dtype == torch.float32
    values.sum().backward()
    assert bool(torch.isfinite(values).all())
    assert found.grad is not None
    assert bool(torch.isfinite(found.grad).all())
    # a turn further is the same place, but on the seam itself
    moved = made(found.detach()[[0, 1, 4]] + torch.tensor([360.0, 0.0]))
    assert torch.allclose(moved, values.detach()[[0, 1, 4]], atol=1e-5)
    expected = made(found.detach())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(made(found.detach()), expected)


@pytest.mark.parametrize("name", list_encodings())
def test_coordinates_of_the_caller_stay_as_they_are(name: str) -> None:
    """Defect: places are scaled where they lie (rshf), so that the next encoder sees others."""
    found = torch.tensor([[190.0, 50.0], [-200.0, -10.0]], dtype=torch.float64)
    before = found.clone()
    create_encoding(name)(found)
    assert torch.equal(found, before)


@pytest.mark.parametrize("name", ["cartesian", "wrap", "sh"])
def test_no_seam_at_the_date_line(name: str) -> None:
    west, east = one(name, lon=-180.0), one(name, lon=180.0)
    assert np.abs(west - east).max() < 1e-12


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="cartesian"):
        create_encoding("cartesien")
    with pytest.raises(UsageError, match="did you mean 'scales'"):
        create_encoding("grid", scale=3)
    with pytest.raises(UsageError, match="sigma is finite"):
        create_encoding("rff", sigma=math.inf)
    with pytest.raises(UsageError, match=r"below 2\^64"):
        create_encoding("rff", seed=10**20)
    with pytest.raises(UsageError, match="radii in degrees"):
        create_encoding("theory", max_radius=math.inf)
    with pytest.raises(UsageError, match="sigma='a'"):
        create_encoding("rff", sigma="a")
    with pytest.raises(UsageError, match="two"):
        create_encoding("grid", scales=1)
    with pytest.raises(UsageError, match="equal_earth"):
        create_encoding("rff", projection="equal")


def test_an_unknown_place_does_not_hide_one_that_cannot_be() -> None:
    """The largest latitude of a batch with a NaN is NaN, and was above nothing."""
    unknown, swapped = [float("nan")] * 2, [48.0, 151.0]
    made = create_encoding("cartesian")
    assert made(torch.tensor([unknown, [151.0, 48.0]]))[1].isfinite().all()
    with pytest.raises(FMError, match=r"coordinates are \(lon, lat\)"):
        made(torch.tensor([unknown, swapped]))
