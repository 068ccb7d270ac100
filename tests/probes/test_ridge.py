import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeClassifier

from fm.errors import FMError
from probes.solvers import ridge

ALPHAS = [1e-3, 1.0, 30.0, 1e4]


def _data(n, d, t=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * np.geomspace(3, 0.1, d) + 2.0
    return x, x @ rng.normal(size=(d, t)) + rng.normal(size=(n, t)) + 5.0


@pytest.mark.parametrize("shape", [(120, 15), (30, 70), (40, 40)], ids=["tall", "wide", "square"])
def test_every_alpha_and_target_is_sklearn_ridge(shape):
    x, y = _data(*shape)
    found = ridge.fit(x, y, ALPHAS)
    query = x[:7] + 0.5
    assert found.decompositions == 1
    for i, alpha in enumerate(ALPHAS):
        peer = Ridge(alpha=alpha, solver="svd").fit(x, y)
        np.testing.assert_allclose(found.weights[i].numpy(), peer.coef_, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(found.predict(query)[i], peer.predict(query), rtol=1e-8)


def test_a_target_is_fitted_on_the_samples_that_know_it():
    x, y = _data(90, 8)
    y[:20, 1] = np.nan
    y[50:, 2] = np.nan
    found = ridge.fit(x, y, ALPHAS)
    assert found.decompositions == 3
    for t in range(3):
        rows = ~np.isnan(y[:, t])
        for i, alpha in enumerate(ALPHAS):
            peer = Ridge(alpha=alpha, solver="svd").fit(x[rows], y[rows, t])
            np.testing.assert_allclose(found.weights[i, t].numpy(), peer.coef_, rtol=1e-8)
            assert float(found.intercepts[i, t]) == pytest.approx(peer.intercept_, rel=1e-8)


def test_signs_give_the_ridge_classifier():
    x, _ = _data(200, 10)
    labels = np.random.default_rng(2).integers(0, 4, 200)
    found = ridge.fit(x, np.where(np.eye(4, dtype=bool)[labels], 1.0, -1.0), [2.0])
    peer = RidgeClassifier(alpha=2.0, solver="svd").fit(x, labels)
    np.testing.assert_allclose(found.predict(x)[0], peer.decision_function(x), rtol=1e-8, atol=1e-9)


def test_a_large_offset_of_the_features_costs_no_digits():
    x, y = _data(120, 15)
    near, far = ridge.fit(x, y, [1.0]), ridge.fit(x + 1e4, y, [1.0])
    np.testing.assert_allclose(far.weights.numpy(), near.weights.numpy(), rtol=1e-7, atol=1e-9)


def test_unusable_input_is_one_line():
    x, y = _data(10, 3)
    unknown = y.copy()
    unknown[:, 1] = np.nan
    for call in (
        lambda: ridge.fit(x * np.nan, y, [1.0]),
        lambda: ridge.fit(x[:0], y[:0], [1.0]),
        lambda: ridge.fit(x, y, [0.0]),
        lambda: ridge.fit(x, unknown, [1.0]),
        lambda: ridge.fit(x, y * np.inf, [1.0]),
    ):
        with pytest.raises(FMError) as error:
            call()
        assert "\n" not in str(error.value)
