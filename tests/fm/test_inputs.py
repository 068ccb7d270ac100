"""Inputs: normalisation of bands a model does not know, and choosing channels."""

import pytest
import torch

from fm.errors import UsageError
from fm.models.inputs import REACH_NM, Inputs, normalisation_at
from fm.normalize import Normalisation
from fm.sensors import Band


def band(name: str, centre: float | None, width: float | None = 20.0) -> Band:
    return Band(name, centre, width, 30.0, "reflectance", modality="x_30")


OWN = (band("c", 800.0), band("a", 400.0), band("b", 600.0))
NORMALISATION = Normalisation("zscore", (0.3, 0.1, 0.2), (3.0, 1.0, 2.0))


def at(*bands: Band) -> tuple[list[float], list[float], bool]:
    found, exact = normalisation_at(NORMALISATION, OWN, bands, "x_30")
    assert found.kind == "zscore"
    return list(found.shift), list(found.scale), exact


def test_own_bands_keep_their_numbers_whatever_their_order() -> None:
    assert at(OWN[1], OWN[0]) == ([0.1, 0.3], [1.0, 3.0], True)


def test_new_bands_are_interpolated_in_wavelength() -> None:
    shift, scale, exact = at(band("new", 450.0), OWN[0], band("other", 800.0), band("half", 700.0))
    assert shift == pytest.approx([0.125, 0.3, 0.3, 0.25])
    assert scale == pytest.approx([1.25, 3.0, 3.0, 2.5])
    assert not exact


def test_a_known_band_beside_new_ones_keeps_its_own_numbers() -> None:
    """Two bands at one wavelength (overlapping detectors): each keeps its own."""
    own = (band("first", 500.0), band("second", 500.0), band("last", 900.0))
    normalisation = Normalisation("zscore", (0.1, 0.5, 0.9), (1.0, 5.0, 9.0))
    wanted = (own[1], band("new", 700.0), own[0])
    found, _ = normalisation_at(normalisation, own, wanted, "x_30")
    assert (found.shift[0], found.scale[0]) == (0.5, 5.0)
    assert (found.shift[2], found.scale[2]) == (0.1, 1.0)


def test_ends_are_continued_a_little_and_not_farther() -> None:
    shift, _, _ = at(band("low", 400.0 - REACH_NM), band("high", 800.0 + REACH_NM))
    assert shift == [0.1, 0.3]
    for centre in (400.0 - REACH_NM - 1, 800.0 + REACH_NM + 1):
        with pytest.raises(UsageError, match=r"x_30: band far at .* lies outside") as error:
            at(band("far", centre))
        assert "\n" not in str(error.value)


def test_a_band_without_wavelength_is_refused() -> None:
    with pytest.raises(UsageError, match="'VV' of x_30 has no wavelength"):
        at(band("VV", None, None))


def test_one_known_band_serves_its_neighbourhood() -> None:
    one = Normalisation("zscore", (0.4,), (2.0,))
    found, exact = normalisation_at(one, OWN[:1], [band("near", 820.0)], "x_30")
    assert (found.shift, found.scale, exact) == ((0.4,), (2.0,), False)


def test_select_takes_pixels_bands_normalisation_and_validity_together() -> None:
    pixels = {"x_30": torch.arange(24.0).view(1, 3, 2, 4), "y_10": torch.zeros(1, 1, 6, 12)}
    valid = {"x_30": torch.rand(1, 3, 2, 4) > 0.5, "y_10": torch.ones(1, 6, 12, dtype=torch.bool)}
    inputs = Inputs(
        pixels=pixels,
        bands={"x_30": OWN, "y_10": OWN[:1]},
        scaling={},
        normalisation={"x_30": NORMALISATION, "y_10": NORMALISATION.select([0])},
        valid=valid,
    )
    chosen = inputs.select({"x_30": [2, 0]})
    assert torch.equal(chosen.pixels["x_30"], pixels["x_30"][:, [2, 0]])
    assert chosen.bands["x_30"] == (OWN[2], OWN[0])
    assert chosen.normalisation["x_30"].shift == (0.2, 0.3)
    assert torch.equal(chosen.valid["x_30"], valid["x_30"][:, [2, 0]])
    assert chosen.pixels["y_10"] is pixels["y_10"]
    assert inputs.bands["x_30"] == OWN
    assert inputs.size == 1
    plane = inputs.select({"y_10": [0]})
    assert torch.equal(plane.valid["y_10"], valid["y_10"])
