"""What every backbone must hold about pixel values: units, precision, validity.

T numbers are those of the conformance list; each docstring names the published defect it catches.
"""

import pytest
import torch

from fm.models import Backbone
from fm.normalize import Normalisation
from tests.conformance.backbones import BACKBONES, Case


@pytest.fixture(scope="module", params=BACKBONES, ids=str)
def built(request: pytest.FixtureRequest) -> tuple[Case, Backbone]:
    case = BACKBONES[request.param]
    model = case.build()
    model.normalisation = {
        m: Normalisation.fit("zscore", {"mean": [0.4] * len(b), "std": [0.2] * len(b)})
        for m, b in model.bands.items()
    }
    return case, model


def test_t7_stored_integers_and_physical_values_are_the_same(
    built: tuple[Case, Backbone],
) -> None:
    """T7. Defect: inputs off by a scale, 105 result cells of a benchmark (torchgeo-bench)."""
    case, model = built
    stored = {m: (x * 10000).to(torch.int32) for m, x in case.pixels(model).items()}
    physical = {m: x.to(torch.float32) * 2e-4 - 0.1 for m, x in stored.items()}
    scaling = dict.fromkeys(stored, (2e-4, -0.1))
    want = case.encode(model, physical).pooled
    assert torch.allclose(case.encode(model, stored, scaling=scaling).pooled, want, atol=1e-5)
    wrong = dict.fromkeys(stored, (1e-4, 0.0))
    assert not torch.allclose(case.encode(model, stored, scaling=wrong).pooled, want, atol=1e-3)


def test_t7_values_are_not_quantised_to_8_bits(built: tuple[Case, Backbone]) -> None:
    """T7. Defect: normalised values cut to 8-bit integers on the way in (SatMAE, SatMAE++)."""
    case, model = built
    pixels = case.pixels(model)
    torch.manual_seed(2)
    # within one of 256 levels of [mean - 2 std, mean + 2 std]
    level = 4 * 0.2 / 256
    base = {m: (x / level).floor() * level + 0.1 * level for m, x in pixels.items()}
    near = {m: x + 0.8 * level * torch.rand_like(x) for m, x in base.items()}
    a, b = case.encode(model, base).tokens, case.encode(model, near).tokens
    assert (a - b).abs().amax(dim=(1, 2)).min() > 1e-6


def test_t7_zero_is_a_value_and_invalid_is_not(built: tuple[Case, Backbone]) -> None:
    """T7. Defect: a value of 0 taken for no data, so dark pixels go (LESS ViT v2)."""
    case, model = built
    pixels = case.pixels(model)
    torch.manual_seed(3)
    holes = {m: torch.rand_like(x[..., 0, :, :]) < 0.3 for m, x in pixels.items()}
    dark = {m: torch.where(holes[m].unsqueeze(-3), 0.0, x) for m, x in pixels.items()}
    light = {m: torch.where(holes[m].unsqueeze(-3), 7.0, x) for m, x in pixels.items()}
    everything = {m: torch.ones_like(h) for m, h in holes.items()}
    plain = case.encode(model, dark).pooled
    assert torch.allclose(case.encode(model, dark, valid=everything).pooled, plain, atol=1e-5)
    valid = {m: ~h for m, h in holes.items()}
    hidden = case.encode(model, dark, valid=valid).pooled
    assert not torch.allclose(hidden, plain, atol=1e-4)
    assert torch.equal(case.encode(model, light, valid=valid).pooled, hidden)
    nan = {m: torch.where(holes[m].unsqueeze(-3), float("nan"), x) for m, x in pixels.items()}
    assert torch.equal(case.encode(model, nan, valid=valid).pooled, hidden)
