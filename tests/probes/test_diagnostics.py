import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.neighbors import NearestNeighbors

from probes.judging import diagnostics as d


def test_effective_rank_of_known_spectra():
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.normal(size=(60, 5)) - 0.0)
    q, _ = np.linalg.qr(q - q.mean(0))
    even = q[:, :4] - q[:, :4].mean(0)
    assert d.effective_rank(even) == pytest.approx(4, rel=1e-6)
    values = np.array([4.0, 2.0, 1.0, 1.0])
    p = values / values.sum()
    want = np.exp(-(p * np.log(p)).sum())
    assert d.effective_rank(even * values) == pytest.approx(want, rel=1e-6)
    assert d.effective_rank(even * values + 100) == pytest.approx(want, rel=1e-6)
    # more dimensions than samples: the other way of computing, the same numbers
    wide = np.concatenate([even * values, np.zeros((60, 80))], 1)
    assert d.effective_rank(wide) == pytest.approx(want, rel=1e-6)
    assert d.effective_rank(even[:, :1] @ np.ones((1, 6))) == pytest.approx(1, rel=1e-6)
    assert np.isnan(d.effective_rank(np.ones((5, 3))))


def test_uniformity_is_its_formula():
    x = np.random.default_rng(0).normal(size=(700, 6))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    want = np.log(np.exp(-2 * pdist(unit, "sqeuclidean")).mean())
    assert d.uniformity(x) == pytest.approx(want)
    assert d.uniformity(np.ones((5, 3))) == pytest.approx(0)


def test_deviations_are_one_where_directions_are_even():
    x = np.random.default_rng(0).normal(size=(20000, 8))
    np.testing.assert_allclose(d.deviations(x), 1, atol=0.03)
    assert d.deviations(np.tile([1.0, 2.0], (5, 1))).max() < 1e-12


def test_neighbours_are_scikit_learns_and_copies_count_once():
    x = np.random.default_rng(0).normal(size=(600, 4)) + 1000
    found = d.neighbours(np.concatenate([x, x[:50]]), 3)
    want = NearestNeighbors(n_neighbors=4, algorithm="brute").fit(x - 1000)
    want = want.kneighbors(x - 1000)[0][:, 1:]
    assert found.shape == (600, 3)
    np.testing.assert_allclose(np.sort(found, 0), np.sort(want, 0), rtol=1e-9)


@pytest.mark.parametrize("dimension", [1, 3, 6])
def test_intrinsic_dimension_of_a_cube_in_a_wider_space(dimension):
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(12, 12)))
    x = rng.random((1500, dimension)) @ turn[:dimension]
    found = d.describe(x, seed=0)
    assert found["two_nn"] == pytest.approx(dimension, rel=0.12)
    assert found["mle"] == pytest.approx(dimension, rel=0.2)  # borders of the cube bias it low
    assert (found["dimensions"], found["samples"]) == (12, 1500)


def test_estimates_by_hand():
    near = np.array([[1.0, 2.0, 4.0], [1.0, 3.0, 3.0], [2.0, 2.5, 8.0], [1.0, 1.5, 2.0]])
    inverse = [np.mean([np.log(row[-1] / value) for value in row[:-1]]) for row in near]
    assert d.mle(near) == pytest.approx(1 / np.mean(inverse))
    mu = np.sort(np.log(near[:, 1] / near[:, 0]))[:3]  # a tenth of four: the last one
    y = -np.log(1 - np.array([0.25, 0.5, 0.75]))
    assert d.two_nn(near) == pytest.approx((mu @ y) / (mu @ mu))


def test_features_without_a_value_have_none():
    found = d.describe(np.ones((4, 3)), seed=0)
    assert found["effective_rank"] is None
    assert found["two_nn"] is None
    assert found["mle"] is None
    assert found["std_mean"] == pytest.approx(0)
