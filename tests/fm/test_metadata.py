"""Metadata tokens: closed forms, no seams, and a missing value stays with its sample."""

import math

import pytest
import torch

from fm.errors import UsageError
from fm.models.metadata import YEAR_S, MetadataTokens, place_features, time_features


def places(*lonlat: tuple[float, float]) -> torch.Tensor:
    return place_features(torch.tensor(lonlat, dtype=torch.float64))


def test_place_features_equal_the_closed_form() -> None:
    lon, lat = math.radians(30.0), math.radians(-40.0)
    x, y, z = math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)
    want = [3**0.5 * v for v in (x, y, z)]
    want += [15**0.5 * v for v in (x * y, y * z, z * x, (x * x - y * y) / 2)]
    want += [5**0.5 / 2 * (3 * z * z - 1)]
    assert torch.allclose(places((30.0, -40.0))[0], torch.tensor(want), atol=1e-6)


def test_place_features_have_no_seam() -> None:
    step = 1e-4
    for a, b in (
        ((180 - step, 17.0), (-180 + step, 17.0)),  # the date line
        ((-40.0, 90 - step), (140.0, 90 - step)),  # across the pole
        ((0.0, -90.0), (77.0, -90.0)),  # the pole has every longitude
        ((370.0, 5.0), (10.0, 5.0)),
    ):
        assert torch.allclose(*places(a, b), atol=2e-5)
    assert (places((0.0, 50.0)) - places((10.0, 50.0))).abs().max() > 0.1


def test_place_features_are_orthonormal_over_the_globe() -> None:
    # equal areas: sin(lat) and lon on midpoints
    lon = (torch.arange(200, dtype=torch.float64) + 0.5) / 200 * 360 - 180
    lat = torch.rad2deg(((torch.arange(200, dtype=torch.float64) + 0.5) / 100 - 1).asin())
    grid = torch.cartesian_prod(lon, lat)
    features = place_features(grid).double()
    assert features.mean(dim=0).abs().max() < 1e-4
    covariance = features.T @ features / len(features)
    assert torch.allclose(covariance, torch.eye(8, dtype=torch.float64), atol=1e-3)


def test_time_features_equal_the_closed_form() -> None:
    from datetime import UTC, datetime

    seconds = datetime(2021, 7, 15, 10, 30, tzinfo=UTC).timestamp()
    year, hour = 2 * math.pi * seconds / YEAR_S, 2 * math.pi * 10.5 / 24
    want = [math.sin(year), math.cos(year), math.sin(hour), math.cos(hour)]
    found = time_features(torch.tensor([seconds], dtype=torch.float64))[0]
    assert torch.allclose(found, torch.tensor([*want, 2.1537]), atol=1e-4)
    january = time_features(torch.tensor([datetime(2030, 1, 1, tzinfo=UTC).timestamp()]))[0]
    # the year turns within a day of the first of January
    assert january[1] > 0.9998
    assert abs(float(january[4]) - 3.0) < 0.001


def tokens_of(kind: str) -> MetadataTokens:
    torch.manual_seed(0)
    return MetadataTokens((kind,), 16)


@pytest.mark.parametrize("unknown", [float("nan"), float("-inf")])
@pytest.mark.parametrize("kind", ["lonlat", "time"])
def test_a_missing_value_touches_its_own_sample_only(kind: str, unknown: float) -> None:
    tokens = tokens_of(kind)
    value = torch.tensor([[7.0, 50.0], [8.0, 1.0], [9.0, -2.0]], dtype=torch.float64)
    value = value if kind == "lonlat" else 1e8 * value[:, 0]
    whole = tokens({kind: value}, 3)
    holed = value.clone()
    holed.view(3, -1)[1, -1] = unknown  # one of the two numbers is enough
    some = tokens({kind: holed}, 3)
    assert torch.equal(some[[0, 2]], whole[[0, 2]])
    assert torch.equal(some[1, 0], tokens.missing[kind])
    assert torch.equal(tokens({kind: None}, 3)[:, 0], tokens.missing[kind].expand(3, -1))
    assert torch.equal(tokens({}, 3), tokens({kind: None}, 3))


def test_missing_values_give_no_nan_gradient() -> None:
    tokens = tokens_of("lonlat")
    value = torch.tensor([[7.0, 50.0], [float("nan"), float("nan")]])
    tokens({"lonlat": value}, 2).square().sum().backward()
    for parameter in tokens.parameters():
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().sum() > 0


def test_whole_seconds_keep_their_hour() -> None:
    """Seconds since 1970 do not fit float32: 2^30 s are told to 128 s."""
    tokens = tokens_of("time")
    seconds = torch.tensor([1_600_000_050])
    exact = tokens({"time": seconds.double()}, 1)
    assert torch.equal(tokens({"time": seconds}, 1), exact)
    rounded = tokens({"time": seconds.float()}, 1)
    assert not torch.equal(rounded, exact)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no 'latlon'; valid names: lonlat, time"):
        MetadataTokens(("latlon",), 8)
