"""Sensor responses: rows of weights against closed forms, and refusals."""

import numpy as np
import pytest

from fm.errors import UsageError
from fm.sensors import Band, sensor
from fm.spectral import SIGMA, interpolation, observation, response, supported


def bands(centres: np.ndarray, width: float = 10.0) -> list[Band]:
    return [Band(f"b{c:g}", float(c), width, 30.0, "reflectance") for c in centres]


def test_response_is_the_normalised_gaussian_of_the_width() -> None:
    source = bands(np.arange(400.0, 1000.0, 2.0), 2.0)
    rows = response(source, bands(np.array([600.0]), 30.0))
    at = np.arange(400.0, 1000.0, 2.0)
    want = np.exp(-0.5 * ((at - 600.0) / (30.0 / 2.354820045)) ** 2)
    want[want < 1e-3] = 0
    assert np.allclose(rows[0], want / want.sum(), atol=1e-12)
    # half the peak at half the width on either side
    assert rows[0][at == 616.0] < rows[0].max() / 2 < rows[0][at == 614.0]
    assert pytest.approx(2.354820045) == SIGMA


def test_a_band_without_support_is_refused_by_name() -> None:
    source = bands(np.arange(400.0, 900.0, 10.0))
    with pytest.raises(UsageError, match="band b1500 at 1500 nm has no support") as error:
        response(source, bands(np.array([500.0, 1500.0])))
    assert "\n" not in str(error.value)
    assert supported(source, bands(np.array([500.0, 1500.0, 700.0]))) == [0, 2]
    with pytest.raises(UsageError, match="no fwhm_nm"):
        response(source, [Band("x", 500.0, None, 30.0, "reflectance")])
    with pytest.raises(UsageError, match="no wavelength"):
        response(source, list(sensor("sentinel1-grd").bands))


def test_interpolation_is_exact_on_lines_and_constant_outside() -> None:
    at = np.array([400.0, 410.0, 450.0])
    rows = interpolation(at, np.array([380.0, 405.0, 430.0, 500.0]))
    line = 3 * at + 7
    assert np.allclose(rows @ line, [line[0], 3 * 405 + 7, 3 * 430 + 7, line[2]])
    assert np.allclose(rows.sum(axis=1), 1)
    assert np.isfinite(interpolation(np.array([400.0, 400.0, 410.0]), np.array([400.0]))).all()


def test_observation_of_itself_is_the_identity_and_widens_other_bands() -> None:
    own = list(sensor("aviris-indian-pines").bands)
    assert np.array_equal(observation(own, own), np.eye(len(own)))
    shuffled = [own[i] for i in (5, 0, 100)]
    assert np.array_equal(observation(own, shuffled), np.eye(len(own))[[5, 0, 100]])
    wide = observation(own, bands(np.array([700.0]), 100.0))[0]
    at = np.array([band.wavelength_nm for band in own])
    spread = np.sqrt(wide @ (at - wide @ at) ** 2)
    # the width that is left beside the own 10 nm; interpolation adds a little
    assert spread == pytest.approx(np.sqrt(100.0**2 - 10.0**2) / SIGMA, rel=0.03)
    assert wide.sum() == pytest.approx(1.0)


def test_a_response_that_is_hardly_sampled_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    source = bands(np.arange(400.0, 900.0, 10.0))
    response(source, bands(np.array([500.0]), 30.0))
    assert capsys.readouterr().err == ""
    sparse = source[::4]
    response(sparse, bands(np.array([520.0, 700.0]), 20.0), quiet=True)
    assert capsys.readouterr().err == ""
    response(sparse, bands(np.array([520.0, 700.0]), 20.0))
    assert "fewer than 3 measured bands lie under b520" in capsys.readouterr().err
