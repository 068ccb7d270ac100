"""What every backbone must hold about bands: their order, their wavelengths, their number.

T numbers are those of the conformance list; each docstring names the published defect it catches.
"""

import pytest
import torch
from torch import Tensor

from fm.errors import UsageError
from fm.models import Backbone
from fm.normalize import Normalisation
from fm.sensors import Band
from tests.conformance.backbones import BACKBONES, Case

COUNTS = (1, 2, 3, 10, 13, 60, 74, 75, 120, 202, 235)
FLEXIBLE = {name: case for name, case in BACKBONES.items() if case.flexible}
UNTIED = {name: case for name, case in FLEXIBLE.items() if "basis" not in case.options}
"""Those whose weights do not depend on which bands they were built with."""
LOCKED = {name: case for name, case in BACKBONES.items() if not case.flexible}


def spread(model: Backbone, case: Case, count: int, first: float, last: float) -> tuple[Band, ...]:
    """Make bands evenly spread in wavelength, on the grid of the case's first modality."""
    gsd_m = model.bands[case.modality][0].gsd_m
    step = (last - first) / max(count - 1, 1)
    return tuple(
        Band(f"x{i}", first + i * step, 20.0, gsd_m, "reflectance", modality=case.modality)
        for i in range(count)
    )


def image(case: Case, model: Backbone, count: int, batch: int = 2) -> Tensor:
    shape = case.pixels(model)[case.modality].shape
    generator = torch.Generator().manual_seed(count)
    return torch.rand((batch, *shape[1:-3], count, *shape[-2:]), generator=generator)


def tokens(model: Backbone, case: Case, x: Tensor, bands: tuple[Band, ...]) -> Tensor:
    """Encode given bands as they are: normalised by mean 0 and deviation 1."""
    count = len(bands)
    as_is = Normalisation("zscore", (0.0,) * count, (1.0,) * count)
    return case.encode(
        model,
        {case.modality: x},
        bands={case.modality: bands},
        normalisation={case.modality: as_is},
    ).tokens


@pytest.mark.parametrize("case", BACKBONES.values(), ids=BACKBONES)
def test_t3_shuffled_bands_with_names_give_the_same_features(case: Case) -> None:
    """T3. Defect: channels read by place, such as EuroSAT's B8A last (SatMAE's loader)."""
    model = case.build()
    pixels = case.pixels(model)
    want = case.encode(model, pixels).pooled
    shuffled, names, masks, orders = {}, {}, {}, {}
    torch.manual_seed(3)
    valid = {m: torch.rand_like(x) > 0.2 for m, x in pixels.items()}
    for modality, x in pixels.items():
        order = torch.randperm(x.shape[-3], generator=torch.Generator().manual_seed(2)).tolist()
        order = order[::-1] if order == sorted(order) else order
        orders[modality] = order
        shuffled[modality] = x[..., order, :, :]
        masks[modality] = valid[modality][..., order, :, :]
        names[modality] = [model.bands[modality][i].name for i in order]
    assert torch.equal(case.encode(model, shuffled, bands=names).pooled, want)
    assert not torch.allclose(case.encode(model, shuffled).pooled, want, atol=1e-4)
    masked = case.encode(model, pixels, valid=valid).pooled
    assert torch.equal(case.encode(model, shuffled, bands=names, valid=masks).pooled, masked)
    own = {m: [model.bands[m][i] for i in order] for m, order in orders.items()}
    assert torch.equal(case.encode(model, shuffled, bands=own).pooled, want)


@pytest.mark.parametrize("case", FLEXIBLE.values(), ids=FLEXIBLE)
def test_t3_unknown_bands_may_come_in_any_order(case: Case) -> None:
    """T3. Defect: an embedding that is told wavelengths and still goes by place."""
    model = case.build()
    bands, x = spread(model, case, 7, 450, 2300), image(case, model, 7)
    order = [3, 6, 0, 2, 5, 1, 4]
    want = tokens(model, case, x, bands)
    got = tokens(model, case, x[..., order, :, :], tuple(bands[i] for i in order))
    # sums in another order: float32 rounding only
    assert torch.allclose(got, want, atol=1e-5)
    assert not torch.allclose(tokens(model, case, x[..., order, :, :], bands), want, atol=1e-4)


@pytest.mark.parametrize("case", UNTIED.values(), ids=UNTIED)
def test_t4_a_wavelength_means_the_same_for_every_sensor(case: Case) -> None:
    """T4. Defect: wavelengths scaled by each dataset's own minimum and maximum (LESS ViT v2)."""
    reference = case.build()
    narrow = case.build({case.modality: spread(reference, case, 5, 402.0, 998.7)})
    wide = case.build({case.modality: spread(reference, case, 9, 418.24, 2445.53)})
    wide.load_state_dict(narrow.state_dict())
    given = spread(reference, case, 3, 700.0, 900.0)
    x = image(case, narrow, 3)
    want = tokens(narrow, case, x, given)
    assert torch.equal(tokens(wide, case, x, given), want)
    moved = tuple(
        Band(b.name, (b.wavelength_nm or 0.0) + 80, b.fwhm_nm, b.gsd_m, b.unit, None, b.modality)
        for b in given
    )
    assert not torch.allclose(tokens(wide, case, x, moved), want, atol=1e-4)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("case", FLEXIBLE.values(), ids=FLEXIBLE)
def test_t5_any_number_of_bands_runs(case: Case, count: int) -> None:
    """T5. Defect: an adapter that fails in a convolution, or takes any count for its own."""
    model = case.build()
    bands = spread(model, case, count, 420.0, 2400.0)
    made = tokens(model, case, image(case, model, count), bands)
    assert made.shape[0] == 2
    assert torch.isfinite(made).all()
    assert not torch.equal(made[0], made[1])
    built = case.build({case.modality: bands})
    assert torch.isfinite(tokens(built, case, image(case, model, count), bands)).all()


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("case", LOCKED.values(), ids=LOCKED)
def test_t5_an_index_locked_one_refuses_in_words(case: Case, count: int) -> None:
    """T5. Defect: fewer than 75 bands end in an error of a convolution (SpectralEarth)."""
    reference = case.build()
    bands = spread(reference, case, count, 420.0, 2400.0)
    if case.named:
        with pytest.raises(UsageError, match=f"has no band {bands[0].name}") as error:
            case.build({case.modality: bands})
        assert "\n" not in str(error.value)
    elif case.token_groups is None:
        if count < case.minimum_bands:
            with pytest.raises(UsageError, match=f"at least {case.minimum_bands} bands") as error:
                case.build({case.modality: bands})
            assert "\n" not in str(error.value)
        else:
            built = case.build({case.modality: bands})
            assert torch.isfinite(tokens(built, case, image(case, built, count), bands)).all()
    with pytest.raises(UsageError, match=f"{case.modality}: the bands do not match") as refused:
        tokens(reference, case, image(case, reference, count), bands)
    assert "\n" not in str(refused.value)
