"""Encoders: heads by their formulas, the season, intermediate layers, what is refused."""

import math

import pytest
import torch

from fm.errors import FMError, UsageError
from fm.location import create, on_grid
from fm.location.season import month_features, month_of

PLACES = torch.tensor([[12.0, 55.0], [-180.0, -90.0], [180.0, 90.0]], dtype=torch.float64)
SMALL = {"width": 16, "dim": 5, "L": 6}


def small(head: str = "siren", **options):
    torch.manual_seed(0)
    return create("sh", head=head, **(SMALL | options)).eval()


def weights(layer: torch.nn.Module):
    return lambda x: x @ layer.weight.T + layer.bias


def test_siren_by_its_formula() -> None:
    made = small(depth=3).double()
    features = made.encoding(PLACES)
    one = torch.sin(30 * weights(made.first)(features))
    two = torch.sin(weights(made.head.layers[0])(one))
    three = torch.sin(weights(made.head.layers[1])(two))
    found = made.features(PLACES)
    assert torch.allclose(found.embedding, weights(made.head.last)(three), atol=1e-12)
    for ours, expected in zip(found.hidden, (one, two, three), strict=True):
        assert torch.allclose(ours, expected, atol=1e-12)
    assert torch.equal(made(PLACES), found.embedding)


def test_residual_siren_by_its_formula() -> None:
    made = small("residual_siren", depth=3).double()
    z = weights(made.first)(made.encoding(PLACES))
    h = torch.sin(30 * torch.sinh(2 * z))
    for layer in made.head.layers:
        z = (weights(layer)(h) + z) / 2
        h = torch.sin(z)
    assert torch.allclose(made(PLACES), weights(made.head.last)(h), atol=1e-12)


def test_mlp_and_linear_by_their_formulas() -> None:
    made = small("mlp", depth=2).double()
    one = torch.relu(weights(made.first)(made.encoding(PLACES)))
    two = torch.relu(weights(made.head.layers[0])(one))
    assert torch.allclose(made(PLACES), weights(made.head.last)(two), atol=1e-12)
    line = small("linear").double()
    assert torch.allclose(line(PLACES), weights(line.first)(line.encoding(PLACES)), atol=1e-12)
    assert line.dim == 5


@pytest.mark.parametrize("head", ["siren", "residual_siren", "mlp"])
def test_every_layer_has_weights_of_its_own(head: str) -> None:
    """Defect: one layer in a list that is multiplied (SatCLIP's plain network)."""
    made = small(head, depth=4)
    each = 16 * 16 + 16
    count = sum(parameter.numel() for parameter in made.head.parameters())
    assert count == 3 * each + 16 * 5 + 5


def test_siren_starts_within_its_bounds() -> None:
    made = small(width=64, season=True)
    assert float(made.first.weight.detach().abs().max()) <= 1 / 38  # 36 harmonics and a month
    assert float(made.month.weight.detach().abs().max()) <= 1 / 38
    bound = math.sqrt(6 / 64)
    assert 0.9 * bound < float(made.head.last.weight.detach().abs().max()) <= bound


def test_dropout_is_on_pre_activations_in_training_only() -> None:
    made = small(dropout=0.5)
    exact = made(PLACES)
    made.train()
    torch.manual_seed(1)
    dropped = made.features(PLACES)
    assert not torch.allclose(dropped.embedding, exact)
    assert float((dropped.hidden[0] == 0).double().mean()) > 0.2  # sin 0
    assert torch.equal(made.eval()(PLACES), exact)


def test_the_season() -> None:
    made = small(season=True).double()
    month = torch.tensor([1.0, 7.0, 12.0])
    angle = 2 * math.pi * month.double() / 12
    circle = torch.stack([angle.sin(), angle.cos()], 1)
    first = weights(made.first)(made.encoding(PLACES)) + circle @ made.month.weight.T
    expected = made.from_first(first - circle @ made.month.weight.T, month=month)
    assert torch.allclose(made(PLACES, month=month), expected.embedding, atol=1e-12)
    assert torch.allclose(expected.hidden[0], torch.sin(30 * first), atol=1e-12)
    # December stands as near to January as February does
    near = month_features(torch.tensor([12.0, 1.0, 2.0]))
    assert torch.allclose((near[0] - near[1]).norm(), (near[2] - near[1]).norm())


def test_times_are_months() -> None:
    # 2021-01-16T12, 2021-07-16T12, 2021-12-31T23 UTC
    time = torch.tensor([1610798400, 1626436800, 1640991600])
    expected = month_features(torch.tensor([1.0, 7.0, 0.5]))
    assert torch.allclose(month_features(month_of(time)), expected, atol=0.03)
    made = small(season=True)
    assert torch.allclose(made(PLACES, time=time), made(PLACES, month=month_of(time)))


def test_exact_first_layer_and_float32_out_under_autocast() -> None:
    made = small()
    expected = made.features(PLACES)
    with torch.autocast("cpu", torch.bfloat16):
        found = made.features(PLACES)
    assert torch.equal(found.hidden[0], expected.hidden[0])
    assert found.embedding.dtype == torch.float32
    assert torch.allclose(found.embedding, expected.embedding, atol=0.05)


@pytest.mark.parametrize("head", ["siren", "residual_siren", "mlp", "linear"])
def test_pure_bfloat16_runs(head: str) -> None:
    made = small(head, season=True).bfloat16()
    out = made(PLACES, month=torch.ones(3))
    assert out.dtype == torch.float32
    out.sum().backward()
    assert made.first.weight.grad.dtype == torch.bfloat16


def test_a_place_does_not_depend_on_its_batch_mates() -> None:
    made = small().double()
    assert torch.allclose(made(PLACES)[1:2], made(PLACES[1:2]), atol=1e-13)


def test_config_makes_the_same_again() -> None:
    made = small(head="mlp", season=True, convention="orthonormal")
    again = create(**made.config)
    again.load_state_dict(made.state_dict())
    month = torch.ones(3)
    assert torch.equal(again.eval()(PLACES, month=month), made(PLACES, month=month))


@pytest.mark.parametrize("season", [False, True])
def test_the_grid_is_the_same_taken_apart(season: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fm.location.grids._POINTS", 64)
    made = small(season=season).double()
    lon = torch.arange(-180, 180, 15.0)
    lat = torch.linspace(90, -90, 13)
    month = 7.0 if season else None
    apart = list(on_grid(made, lon, lat, month=month))
    whole = torch.cat(list(on_grid(made, lon, lat, month=month, separable=False)))
    assert torch.cat(apart).shape == (13, 24, 5)
    assert len(apart) == 7  # two rows at a time, and the last
    assert float((torch.cat(apart) - whole).abs().max()) < 1e-12
    place = torch.stack([lon[3], lat[2]])[None]
    given = {} if month is None else {"month": torch.tensor([month])}
    assert torch.allclose(whole[2, 3], made(place.double(), **given)[0], atol=1e-12)


def test_grid_of_an_encoding_that_does_not_separate() -> None:
    made = create("wrap", width=8, dim=3).eval()
    lon, lat = torch.arange(0, 40, 10.0), torch.tensor([0.0, 50.0])
    found = torch.cat(list(on_grid(made, lon, lat)))
    assert torch.allclose(found[1, 2], made(torch.tensor([[20.0, 50.0]]))[0], atol=1e-6)


def test_refusals() -> None:
    with pytest.raises(UsageError, match="did you mean 'siren'"):
        create("sh", head="sirn")
    with pytest.raises(UsageError, match="dropout"):
        create("sh", dropout=1.0)
    with pytest.raises(FMError, match="has a season"):
        small(season=True)(PLACES)
    with pytest.raises(FMError, match="has no season"):
        small()(PLACES, month=torch.ones(3))
    with pytest.raises(FMError, match="beyond the poles"):
        next(on_grid(small(), torch.zeros(1), torch.tensor([120.0])))


def test_months_are_counted_from_one() -> None:
    """Defect: 0 to 11 are December to November, a month off without a word."""
    made = small(season=True)
    for month in (torch.arange(12)[:3], torch.tensor([1.0, 12.6, 3.0])):
        with pytest.raises(FMError, match="months are 1 to 12"):
            made(PLACES, month=month)
    assert made(PLACES, month=torch.tensor([0.5, 12.5, math.nan])).isfinite()[:2].all()


def test_one_month_or_time_is_of_all_places() -> None:
    made = small(season=True)
    for key, one in (("month", 6.0), ("time", 1.6e9)):
        told = made(PLACES, **{key: torch.full((len(PLACES),), one, dtype=torch.float64)})
        for shape in ((), (1,), (1, 1)):
            found = made(PLACES, **{key: torch.full(shape, one, dtype=torch.float64)})
            assert torch.allclose(found, told, atol=1e-6)  # one sine, or one a place


def test_what_is_no_place_month_or_size_is_refused() -> None:
    made = small(season=True)
    month = torch.ones(len(PLACES))
    for places, told, text in (
        (PLACES.tolist(), {"month": month}, "a torch tensor .*, not list"),
        (PLACES.numpy(), {"month": month}, "a torch tensor .*, not ndarray"),
        (PLACES, {"month": 6.0}, "months are a torch tensor"),
        (PLACES, {"month": month[:2]}, r"3 places and months of the shape \[2\]"),
        (PLACES, {"month": month[:, None]}, r"3 places and months of the shape \[3, 1\]"),
        (PLACES, {"time": [1.6e9] * 3}, "times are a torch tensor .*, not list"),
        (PLACES, {"time": 1.6e12 * month.double()}, "not milliseconds"),
    ):
        with pytest.raises(FMError, match=text):
            made(places, **told)
    for given in ({"dim": 2.5}, {"first_w": math.inf}):
        with pytest.raises(UsageError, match="whole numbers above 0"):
            small(**given)
