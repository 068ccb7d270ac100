"""The published form of our bench, against scipy where it is exact."""

import math

import numpy as np
import torch
from scipy.special import sph_harm_y

from bench.location import operations
from bench.location_published import encode, polynomial
from fm.location import SphericalHarmonics


def test_polynomials_are_derivatives_of_legendres() -> None:
    for degree, order in ((3, 0), (5, 2), (6, 6), (9, 3)):
        coefficients = np.zeros(degree - order + 1)
        for power, whole in polynomial(degree, order):
            coefficients[power] = whole / 2**degree
        series = np.polynomial.Legendre.basis(degree)
        expected = series.deriv(order) if order else series
        x = np.linspace(-1, 1, 7)
        assert np.allclose(np.polynomial.Polynomial(coefficients)(x), expected(x), rtol=1e-10)


def test_is_the_satclip_convention_at_low_degrees() -> None:
    lonlat = torch.tensor([[10.0, 50.0], [-170.0, -85.0], [0.0, 0.0]], dtype=torch.float64)
    phi, theta = np.radians(lonlat.numpy() + np.array([180, 90])).T
    values, at = encode(lonlat, 10).numpy(), 0
    for degree in range(10):
        for m in range(-degree, degree + 1):
            value = sph_harm_y(degree, abs(m), theta, phi)
            part = value.imag if m < 0 else value.real
            expected = part * (math.pi if m == 0 else (-1) ** m * math.sqrt(2))
            assert np.abs(values[:, at] - expected).max() < 1e-11
            at += 1


def test_fails_near_the_poles_at_40_degrees_as_theirs_does() -> None:
    """The error the issue is about: ours is exact where the published form is off by tenths."""
    lon = torch.linspace(-180, 179, 40, dtype=torch.float64)
    ours = SphericalHarmonics(40, "satclip").double()
    apart = {}
    for lat in (30.0, 88.0):
        lonlat = torch.stack([lon, torch.full_like(lon, lat)], 1)
        apart[lat] = float((encode(lonlat, 40) - ours(lonlat)).abs().max())
    assert apart[30.0] < 1e-6
    assert apart[88.0] > 0.1


def test_counts_of_operations() -> None:
    """Counted with views, the file that is published needs 54,824."""
    lonlat = torch.zeros(2, 2, dtype=torch.float64)
    assert 54_700 < operations(lambda x: encode(x, 40), lonlat) < 54_900
    for degrees in (10, 40):
        assert operations(SphericalHarmonics(degrees).encode_at_once, lonlat) <= 40
