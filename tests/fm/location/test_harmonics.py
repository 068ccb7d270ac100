"""Spherical harmonics against scipy, the recurrence, quadrature and what must hold of them."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from fm.errors import FMError, UsageError
from fm.location import SphericalHarmonics
from fm.location.legendre import fourier, legendre, pi


def columns(degrees: int) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(d, m) for d in range(degrees) for m in range(-d, d + 1)]
    degree, order = np.array(pairs).T
    return degree, order


def by_scipy(lonlat: torch.Tensor, degrees: int) -> np.ndarray:
    """Orthonormal, without the Condon-Shortley phase that scipy includes."""
    degree, order = columns(degrees)
    lon, lat = lonlat.detach().double().numpy().T
    value = sph_harm_y(degree, abs(order), np.radians(90 - lat)[:, None], np.radians(lon)[:, None])
    real = np.where(order < 0, value.imag, value.real)
    return real * np.where(order == 0, 1.0, (-1.0) ** order * math.sqrt(2))


def places() -> torch.Tensor:
    """All latitudes, both poles exactly and by steps down to 1e-9 degrees; the date line."""
    near = np.geomspace(1e-9, 1, 20)
    lat = np.concatenate([np.linspace(-90, 90, 181), 90 - near, near - 90])
    lon = np.random.default_rng(0).uniform(-180, 180, len(lat))
    lon[:6] = -180, 180, 0, 90, 179.999999, 360
    assert lat[0] == -90
    assert lat[180] == 90
    return torch.tensor(np.stack([lon, lat], 1))


@pytest.mark.parametrize("degrees", [1, 2, 10, 40, 64, 100])
def test_agrees_with_scipy_at_every_latitude(degrees: int) -> None:
    # at 100 degrees scipy's own rounding comes to 1e-12: see the next test
    single, double = (2e-6, 1e-12) if degrees <= 64 else (4e-6, 4e-12)
    found = places()[:: 1 if degrees <= 40 else 4]  # scipy takes its time
    expected = by_scipy(found, degrees)
    harmonics = SphericalHarmonics(degrees, "orthonormal")
    for dtype, bound in ((torch.float32, single), (torch.float64, double)):
        harmonics.to(dtype)
        for values in (harmonics(found), harmonics.encode_at_once(found)):
            assert values.dtype == dtype
            assert values.shape == (len(found), degrees**2)
            assert np.abs(values.double().numpy() - expected).max() <= bound


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="long double has no more digits")
def test_at_100_degrees_against_the_recurrence_in_more_digits() -> None:
    found = places()[::4]
    degree, order = columns(100)
    lon, lat = found.numpy().astype(np.longdouble).T
    turn = pi(np.longdouble) / 180
    polar = legendre(100, (90 - lat) * turn)[degree, abs(order)]
    angle = abs(order)[:, None] * lon * turn
    azimuth = np.where(order[:, None] < 0, np.sin(angle), np.cos(angle))
    root = np.where(order == 0, 1, np.sqrt(np.longdouble(2)))[:, None]
    made = SphericalHarmonics(100, "orthonormal").double()
    for values in (made(found), made.encode_at_once(found)):
        assert np.abs(values.numpy().T - polar * azimuth * root).max() <= 2e-13


def test_places_in_many_blocks_are_those_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    harmonics = SphericalHarmonics(12)
    whole = harmonics(places())
    monkeypatch.setattr("fm.location.harmonics.block_of", lambda encoding: 50)
    assert torch.allclose(harmonics(places()), whole, atol=1e-6)


def test_satclip_has_pi_at_order_0_and_counts_from_the_south() -> None:
    """By the definition: phi = lon + 180, theta = lat + 90, pi at m = 0, no Condon-Shortley."""
    found = places()
    degree, order = columns(8)
    lon, lat = found.numpy().T
    value = sph_harm_y(
        degree, abs(order), np.radians(lat + 90)[:, None], np.radians(lon + 180)[:, None]
    )
    real = np.where(order < 0, value.imag, value.real)
    expected = real * np.where(order == 0, math.pi, (-1.0) ** order * math.sqrt(2))
    made = SphericalHarmonics(8, "satclip").double()
    assert np.abs(made(found).numpy() - expected).max() < 1e-12


def test_closed_form_has_the_phase_and_no_pi() -> None:
    found = places()
    degree, order = columns(8)
    lon, lat = found.numpy().T
    value = sph_harm_y(
        degree, abs(order), np.radians(lat + 90)[:, None], np.radians(lon + 180)[:, None]
    )
    expected = np.where(order < 0, value.imag, value.real) * np.where(order == 0, 1, math.sqrt(2))
    made = SphericalHarmonics(8, "closed_form").double()
    assert np.abs(made(found).numpy() - expected).max() < 1e-12


def test_the_recurrence_gives_the_same() -> None:
    """Two derivations: products of trigonometric sums, and the recurrence in the degree."""
    found = places()
    degree, order = columns(40)
    lon, lat = found.numpy().T
    polar = legendre(40, np.radians(90 - lat))[degree, abs(order)]
    turn = np.radians(lon)
    azimuth = np.where(
        order[:, None] < 0, np.sin(-order[:, None] * turn), np.cos(order[:, None] * turn)
    )
    expected = (polar * azimuth * np.where(order == 0, 1, math.sqrt(2))[:, None]).T
    made = SphericalHarmonics(40, "orthonormal").double()
    assert np.abs(made(found).numpy() - expected).max() <= 1e-12


def test_coefficients_are_small() -> None:
    assert np.abs(fourier(100)).max() < 0.49


def test_a_turn_further_is_the_same_place() -> None:
    found = places()
    made = SphericalHarmonics(40, "orthonormal").double()
    for turns in (-360, 360, 720):
        moved = found + torch.tensor([turns, 0])
        assert float((made(moved) - made(found)).abs().max()) <= 1e-12


def test_the_longitude_does_not_matter_at_the_poles() -> None:
    for lat in (-90.0, 90.0):
        ring = torch.tensor([[lon, lat] for lon in (-180.0, -77.0, 0.0, 13.0, 180.0)])
        values = SphericalHarmonics(40).double()(ring)
        assert float((values - values[0]).abs().max()) <= 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_and_right(dtype: torch.dtype) -> None:
    made = SphericalHarmonics(40, "orthonormal").to(dtype)
    found = places().requires_grad_()
    weight = torch.randn(1600, generator=torch.Generator().manual_seed(0), dtype=dtype)
    (made(found) @ weight).sum().backward()
    assert found.grad is not None
    assert bool(torch.isfinite(found.grad).all())
    step = 1e-5  # central differences of the float64 values, both coordinates
    exact = SphericalHarmonics(40, "orthonormal").double()
    for axis in (0, 1):
        # beyond a pole the colatitude is negative: the harmonics go on smoothly
        moved = torch.tensor([step, 0.0] if axis == 0 else [0.0, step], dtype=torch.float64)
        ends = [exact.encode(found.detach() + s * moved) @ weight.double() for s in (1, -1)]
        numeric = (ends[0] - ends[1]) / (2 * step)
        scale = float(numeric.abs().max())
        assert float((numeric - found.grad[:, axis]).abs().max()) < 1e-5 * scale


def test_orthonormal_by_quadrature() -> None:
    """Gauss-Legendre in the sine of the latitude, equal steps in longitude: exact to degree 2L."""
    degrees = 16
    nodes, weights = np.polynomial.legendre.leggauss(degrees)
    lon = np.arange(2 * degrees) * 360 / (2 * degrees)
    grid = np.stack(np.meshgrid(lon, np.degrees(np.arcsin(nodes)), indexing="xy"), -1).reshape(
        -1, 2
    )
    area = np.repeat(weights, len(lon)) * 2 * np.pi / len(lon)
    values = SphericalHarmonics(degrees, "orthonormal").double()(torch.tensor(grid)).numpy()
    gram = (values * area[:, None]).T @ values
    assert np.abs(gram - np.eye(degrees**2)).max() < 1e-12


def test_addition_theorem() -> None:
    values = SphericalHarmonics(40, "orthonormal").double()(places())
    for degree in (0, 1, 7, 39):
        total = values[:, degree**2 : (degree + 1) ** 2].square().sum(1)
        expected = (2 * degree + 1) / (4 * math.pi)
        assert float((total - expected).abs().max()) < 1e-12 * max(1, expected)


def test_float32_under_autocast_and_in_bfloat16() -> None:
    found = places()
    made = SphericalHarmonics(40)
    expected = made(found)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(made(found), expected)
        assert torch.allclose(made(found.clone().requires_grad_()), expected, atol=2e-6)
    short = made.bfloat16()(found)
    assert short.dtype == torch.float32
    assert torch.equal(short, expected)


def test_to_double_and_back_loses_nothing() -> None:
    found = places()
    made = SphericalHarmonics(40, "orthonormal").double()
    assert np.abs(made(found).numpy() - by_scipy(found, 40)).max() <= 1e-12
    assert torch.equal(made.float()(found), SphericalHarmonics(40, "orthonormal")(found))


def test_compiles_to_the_same() -> None:
    made = SphericalHarmonics(6)
    assert torch.equal(
        torch.compile(made, backend="eager")(places()), made.encode_at_once(places())
    )


def test_refusals() -> None:
    with pytest.raises(UsageError, match="1 to 256"):
        SphericalHarmonics(0)
    with pytest.raises(UsageError, match="orthonormal"):
        SphericalHarmonics(4, "orthonorml")
    made = SphericalHarmonics(4)
    with pytest.raises(FMError, match=r"\(lon, lat\)"):
        made(torch.tensor([[48.0, 120.0]]))  # a swapped pair
    with pytest.raises(FMError, match=r"\[N, 2\]"):
        made(torch.zeros(2, 3))
    assert made(torch.zeros(0, 2)).shape == (0, 16)


def test_the_room_is_lazy() -> None:
    words = "import sys, fm; fm.location; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", words], check=True)
