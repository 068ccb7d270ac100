"""TorchSpatial's Geo-Bias scores against their formulas written out."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from fm.errors import FMError
from fm.geo import great_circle_m
from probes.location import surprise
from probes.location.points import on_sphere


def test_moments_of_two_and_three_values_written_out() -> None:
    # 5 places of value 1 among 25 of value 0: mean of the values 1/6
    values = np.repeat([1.0, 0.0], [5, 25])
    high, low = 5 / 6, -1 / 6
    mean = high**2 * (4 * 5 * 4 / 30 - 1) + low**2 * (4 * 25 * 24 / 30 - 1)
    mean += 2 * high * low * 4 * 5 * 25 / 30
    deviation = math.sqrt(2 * 4 * 4 * 5 / 30 * (1 - 4 * 9 / (3 * 30))) + 1
    assert surprise.moments(values) == pytest.approx((mean, deviation))
    # 2 right, 3 wrong, 25 of background
    values = np.repeat([1.0, -1.0, 0.0], [2, 3, 25])
    centre = -1 / 30
    kinds = {1.0: 2, -1.0: 3, 0.0: 25}
    mean = variance = 0.0
    for a, n in kinds.items():
        for b, m in kinds.items():
            product = (a - centre) * (b - centre)
            mean += product * (4 * n * (n - 1) / 30 - 1 if a == b else 4 * n * m / 30)
            if 0.0 in (a, b):
                continue
            if a == b:
                variance += 8 * n * (n - 1) / 30 * (1 - 4 * (2 * n - 1) / 90) * a**4
            else:
                odd = product - 2 * (a - centre) * -centre + centre**2
                variance += 4 * n * m / 30 * (1 - 4 * max(n, m) / 30) * odd**2
    assert surprise.moments(values) == pytest.approx((mean, math.sqrt(variance) + 1))


def test_surprisal_is_the_tail_of_a_normal_distribution() -> None:
    rng = np.random.default_rng(0)
    values = np.repeat([1.0, 0.0], [6, 30])
    near = np.stack([rng.permutation(36)[:4] for _ in range(36)])
    weights = np.zeros((36, 36))
    weights[np.arange(36)[:, None], near] = 1
    apart = values - values.mean()
    product = apart @ weights @ apart
    mean, deviation = surprise.moments(values)
    low = min(product, 2 * mean - product)
    assert surprise.surprisal(values, near) == pytest.approx(
        -np.log(2 * norm.cdf(low, mean, deviation))
    )


def test_rings_lie_around_their_place_about_five_points_a_place() -> None:
    for centre in ([10.0, 50.0], [-179.9, -20.0], [0.0, 90.0]):
        radius = 100 / 6371.0088
        points = surprise.background(np.array(centre), radius, 12)
        assert np.allclose(np.linalg.norm(points, axis=1), 1)
        lon, lat = np.arctan2(points[:, 1], points[:, 0]), np.arcsin(points[:, 2])
        lonlat = np.degrees(np.stack([lon, lat], 1))
        km = great_circle_m(lonlat, np.array(centre)) / 1000
        step = 1 / math.sqrt(math.ceil(60 / (np.pi * radius**2))) * 6371.0088
        rings = np.unique(np.round(km / step, 6))
        assert rings.tolist() == [1, 2, 3, 4, 5]
        assert 60 < len(points) < 120


def test_errors_in_one_place_surprise_more_than_errors_everywhere() -> None:
    rng = np.random.default_rng(1)
    lonlat = np.array([12.0, 45.0]) + rng.uniform(-2, 2, (500, 2))
    wrong = np.zeros((2, 500), bool)
    wrong[0, np.argsort(np.abs(lonlat - [12.5, 45.5]).max(1))[:60]] = True
    wrong[1, rng.permutation(500)[:60]] = True
    clumped, spread = (surprise.scores(~one, lonlat) for one in wrong)
    assert clumped["marked"] > 1.5 * spread["marked"]
    # where on the globe makes no difference, the date line neither
    moved = np.stack([(lonlat[:, 0] + 168 + 180) % 360 - 180, lonlat[:, 1]], 1)
    again = surprise.scores(~wrong[0], moved)
    assert again == pytest.approx(clumped, rel=0.02)


def test_places_alone_and_places_without_errors() -> None:
    lonlat = on_sphere(30, 1)
    assert surprise.scores(np.ones(30, bool), lonlat) == {}
    alone = surprise.scores(np.arange(30) > 3, lonlat, radius_km=1.0)
    # one place among its rings: all neighbourhoods are alike
    near = surprise.scores(np.arange(30) > 8, lonlat, radius_km=1.0)
    assert alone == pytest.approx(near, rel=0.05)
    with pytest.raises(FMError, match="less than a quarter turn"):
        surprise.scores(np.zeros(3, bool), on_sphere(3, 1), radius_km=20_000)
