"""What `Backbone.inputs` puts in order, and what it refuses, each in one line."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from fm.errors import UsageError
from fm.models import Backbone, create_model
from fm.normalize import Normalisation
from fm.sensors import Band, sensor

S2 = sensor("sentinel2-l1c").modalities
TWENTY = "s2l1c_20"
SMALL = {"width": 32, "depth": 1, "heads": 2, "token_m": 120}


def model_of(**options: Any) -> Backbone:
    torch.manual_seed(0)
    normalisation = {
        m: Normalisation("zscore", tuple(0.1 * i for i in range(len(b))), (0.3,) * len(b))
        for m, b in S2.items()
    }
    return create_model("vit_nano", bands=S2, normalisation=normalisation, **SMALL, **options)


@pytest.fixture(scope="module")
def fixed() -> Backbone:
    return model_of().eval()


@pytest.fixture(scope="module")
def flexible() -> Backbone:
    return model_of(tokenizer="tied").eval()


def twenty(channels: int = 6) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {TWENTY: torch.rand(2, channels, 12, 12, generator=generator)}


def names(bands: Sequence[Band]) -> list[str]:
    return [band.name for band in bands]


ORDER = [3, 0, 5, 1, 2, 4]


def test_channels_validity_and_normalisation_are_put_in_order_together(fixed: Backbone) -> None:
    own = names(fixed.bands[TWENTY])
    given = twenty()[TWENTY]
    valid = torch.rand(given.shape, generator=torch.Generator().manual_seed(2)) > 0.3
    used = Normalisation("zscore", tuple(float(i) for i in ORDER), (1.0,) * 6)
    inputs = fixed.inputs(
        {TWENTY: given[:, ORDER]},
        bands={TWENTY: [own[i] for i in ORDER]},
        valid={TWENTY: valid[:, ORDER]},
        normalisation={TWENTY: used},
    )
    assert torch.equal(inputs.pixels[TWENTY], given)
    assert torch.equal(inputs.valid[TWENTY], valid)
    assert inputs.normalisation[TWENTY].shift == (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    assert inputs.bands == {TWENTY: fixed.bands[TWENTY]}
    assert inputs.calibrated == {TWENTY}


def test_one_mask_for_all_bands_is_left_alone(fixed: Backbone) -> None:
    own = names(fixed.bands[TWENTY])
    valid = {TWENTY: torch.rand(2, 12, 12) > 0.5}
    inputs = fixed.inputs(twenty(), bands={TWENTY: [own[i] for i in ORDER]}, valid=valid)
    assert torch.equal(inputs.valid[TWENTY], valid[TWENTY])


def test_what_is_not_given_is_the_models(fixed: Backbone) -> None:
    inputs = fixed.inputs(twenty())
    assert inputs.bands == {TWENTY: fixed.bands[TWENTY]}
    assert inputs.scaling == {TWENTY: fixed.scaling[TWENTY]}
    assert inputs.normalisation == {TWENTY: fixed.normalisation[TWENTY]}
    assert (inputs.valid, inputs.gsd, inputs.lonlat, inputs.time) == (None, None, None, None)


def test_the_given_arguments_are_not_changed(fixed: Backbone) -> None:
    pixels, valid = twenty(), {TWENTY: torch.ones(2, 6, 12, 12, dtype=torch.bool)}
    before = pixels[TWENTY].clone()
    own = names(fixed.bands[TWENTY])
    fixed.encode(pixels, valid=valid, bands={TWENTY: [own[i] for i in ORDER]})
    assert torch.equal(pixels[TWENTY], before)
    assert valid[TWENTY].all()


def test_other_bands_are_for_models_that_know_wavelengths(
    fixed: Backbone, flexible: Backbone
) -> None:
    new = tuple(
        Band(f"n{i}", 700.0 + 100 * i, 30.0, 20.0, "reflectance", modality=TWENTY) for i in range(3)
    )
    assert not fixed.takes_other_bands(TWENTY)
    with pytest.raises(UsageError, match=r"missing B05, .* not known n0, n1, n2; give the model's"):
        fixed.inputs(twenty(3), bands={TWENTY: new})
    assert flexible.takes_other_bands(TWENTY)
    inputs = flexible.inputs(twenty(3), bands={TWENTY: new})
    assert inputs.bands[TWENTY] == new
    assert inputs.calibrated == frozenset()
    # 700 nm lies between B05 (704) and nothing below it; 800 between B07 and B8A
    assert inputs.normalisation[TWENTY].shift[0] == 0.0
    assert 0.2 < inputs.normalisation[TWENTY].shift[1] < 0.3
    with pytest.raises(UsageError, match="not known n0; give them as Bands with wavelengths"):
        flexible.inputs(twenty(2), bands={TWENTY: ["n0", "B05"]})


def test_some_of_the_models_bands_by_name(fixed: Backbone, flexible: Backbone) -> None:
    some = ["B11", "B05"]
    inputs = flexible.inputs(twenty(2), bands={TWENTY: some})
    own = {band.name: i for i, band in enumerate(flexible.bands[TWENTY])}
    assert names(inputs.bands[TWENTY]) == some
    want = tuple(flexible.normalisation[TWENTY].shift[own[name]] for name in some)
    assert inputs.normalisation[TWENTY].shift == want
    assert inputs.calibrated == {TWENTY}
    with pytest.raises(UsageError, match=r"missing B06, .*; not known none"):
        fixed.inputs(twenty(2), bands={TWENTY: some})


def test_the_models_bands_given_as_bands_in_another_order(flexible: Backbone) -> None:
    own = flexible.bands[TWENTY]
    want = flexible.encode(twenty()).pooled
    shuffled = {TWENTY: twenty()[TWENTY][:, ORDER]}
    found = flexible.encode(shuffled, bands={TWENTY: [own[i] for i in ORDER]}).pooled
    assert torch.equal(found, want)


WRONG: list[tuple[Mapping[str, Any], str]] = [
    ({"pixels": {"s2_20": torch.rand(2, 6, 12, 12)}}, "the model does not take s2_20"),
    ({"pixels": {}}, "no pixels given"),
    ({"pixels": {TWENTY: torch.rand(6, 12, 12)}}, r"expected \[B, 6, H, W\] .*got \[6, 12, 12\]"),
    ({"pixels": twenty(5)}, r"expected \[B, 6, H, W\]"),
    ({"bands": {TWENTY: ["B05", "B05", "B06", "B07", "B8A", "B11"]}}, "name each channel once"),
    ({"bands": {TWENTY: ["B05"]}}, "6 channels with the band list B05"),
    ({"valid": {TWENTY: torch.ones(2, 12, 12)}}, "expected bool .*got float32"),
    (
        {"valid": {TWENTY: torch.ones(2, 6, 6, 12, dtype=torch.bool)}},
        r"expected bool \[2, 12, 12\] or \[2, 6, 12, 12\], got bool \[2, 6, 6, 12\]",
    ),
    (
        {"normalisation": {TWENTY: Normalisation.identity(5)}},
        "is of 5 bands, the pixels have 6",
    ),
    ({"gsd": {TWENTY: 10.0}}, "pixels of 10 m, the model takes 20 m"),
    ({"lonlat": torch.zeros(2, 3)}, r"lonlat: expected \[2, 2\] for 2 samples, got \[2, 3\]"),
    ({"time": torch.zeros(3)}, r"time: expected \[2\] for 2 samples, got \[3\]"),
    (
        {"valid": {"s2l1c_2": torch.ones(2, 12, 12, dtype=torch.bool)}},
        "valid names s2l1c_2, which the model does not take; did you mean 's2l1c_20'",
    ),
    ({"bands": {"s2": ["B05"]}}, "bands names s2, which"),
    ({"gsd": {"s2": 10.0}}, "gsd names s2, which"),
    ({"scaling": {"s2": (1.0, 0.0)}}, "scaling names s2, which"),
    ({"normalisation": {"s2": Normalisation.identity(6)}}, "normalisation names s2, which"),
]


@pytest.mark.parametrize(("given", "text"), WRONG)
def test_what_does_not_fit_is_refused_in_one_line(
    fixed: Backbone, given: Mapping[str, Any], text: str
) -> None:
    with pytest.raises(UsageError, match=text) as error:
        fixed.inputs(**{"pixels": twenty(), **given})
    assert "\n" not in str(error.value)


def test_statements_for_an_absent_modality_are_no_error(fixed: Backbone) -> None:
    """A dataset may say how all its modalities are stored while some are left out."""
    inputs = fixed.inputs(twenty(), scaling={"s2l1c_10": (1.0, 0.0), TWENTY: (2.0, 0.0)})
    assert inputs.scaling == {TWENTY: (2.0, 0.0)}


def test_grids_need_a_present_modality(fixed: Backbone) -> None:
    assert fixed.grids(twenty()) == {"s2l1c": (2, 2)}
    with pytest.raises(UsageError, match="no pixels given"):
        fixed.grids({})


def test_bands_of_the_models_names_must_lie_where_the_models_lie(fixed: Backbone) -> None:
    own = fixed.bands[TWENTY]

    def shifted(by: float) -> dict[str, list[Band]]:
        return {TWENTY: [replace(b, wavelength_nm=(b.wavelength_nm or 0.0) + by) for b in own]}

    near = fixed.encode(twenty(), bands=shifted(5.0)).pooled
    assert torch.equal(near, fixed.encode(twenty()).pooled)
    with pytest.raises(UsageError, match=r"band B05 is given at 1504.* check the band list"):
        fixed.encode(twenty(), bands=shifted(800.0))
    unknown = [replace(b, wavelength_nm=None) for b in own]
    assert torch.equal(near, fixed.encode(twenty(), bands={TWENTY: unknown}).pooled)


def test_the_sampling_distance_of_given_bands_counts(flexible: Backbone) -> None:
    other = [replace(b, name=f"x{b.name}", gsd_m=10.0) for b in flexible.bands[TWENTY]]
    with pytest.raises(UsageError, match="pixels of 10 m, the model takes 20 m"):
        flexible.encode(twenty(), bands={TWENTY: other})
    mixed = [*other[:3], *(replace(b, gsd_m=20.0) for b in other[3:])]
    with pytest.raises(UsageError, match="bands on different grids"):
        flexible.encode(twenty(), bands={TWENTY: mixed})
    metric = model_of(tokenizer="tied", positions="metres").eval()
    said = metric.inputs(twenty(), bands={TWENTY: other}).gsd
    assert said == {TWENTY: 10.0}
    same = [replace(b, gsd_m=20.0) for b in other]
    stated = metric.encode(twenty(), bands={TWENTY: same}, gsd={TWENTY: 10.0}).pooled
    assert torch.equal(metric.encode(twenty(), bands={TWENTY: other}).pooled, stated)
    assert not torch.equal(metric.encode(twenty(), bands={TWENTY: same}).pooled, stated)


def test_what_is_no_image_place_or_time_is_refused(fixed: Backbone) -> None:
    ten = torch.rand(3, 4, 24, 24)
    for pixels, told, text in (
        (twenty()[TWENTY], {}, "a dict of modality to tensor, got Tensor"),
        ({TWENTY: twenty()[TWENTY].numpy()}, {}, f"{TWENTY}: expected a torch tensor, got ndarray"),
        ({TWENTY: twenty()[TWENTY] > 0.5}, {}, "torch.bool is no pixel"),
        ({TWENTY: twenty()[TWENTY].to(torch.complex64)}, {}, "torch.complex64 is no pixel"),
        ({**twenty(), "s2l1c_10": ten}, {}, "s2l1c_10: 3 samples, s2l1c_20 has 2"),
        (twenty(), {"lonlat": [[1.0, 2.0]] * 2}, "are torch tensors, not list"),
        (twenty(), {"lonlat": torch.tensor([[50.0, 120.0], [1.0, 2.0]])}, "no place on Earth"),
        (twenty(), {"time": torch.tensor([1.6e12, 1.6e12])}, "not milliseconds"),
        (twenty(), {"scaling": {TWENTY: (0, 0)}}, "no scale and offset"),
        (twenty(), {"scaling": {TWENTY: (float("nan"), 0)}}, "no scale and offset"),
    ):
        with pytest.raises(UsageError, match=text) as error:
            fixed.encode(pixels, **told)
        assert "\n" not in str(error.value)
    unknown = torch.tensor([[torch.nan, torch.nan], [-180.0, 90.0]])
    fixed.encode(twenty(), lonlat=unknown, time=torch.tensor([torch.nan, -1e9]))
