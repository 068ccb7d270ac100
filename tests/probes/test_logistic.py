import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from fm.errors import FMError
from probes.solvers import hessian, logistic


def _data(classes, n=150, d=12, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    y[:classes] = np.arange(classes)
    x = rng.normal(size=(n, d)) * np.geomspace(1, 1e-2, d) + rng.normal(size=(classes, d))[y] * 0.6
    return x + 3.0, y


def _objective(x, y, w, b, c):
    """Softmax objective in float64, written out."""
    z = x @ w.T + b
    top = z.max(1, keepdims=True)
    log_sum = top[:, 0] + np.log(np.exp(z - top).sum(1))
    return c * (log_sum - z[np.arange(len(y)), y]).sum() + 0.5 * (w**2).sum()


@pytest.mark.parametrize("shape", [(150, 12), (40, 90)], ids=["tall", "wide"])
def test_softmax_optimum_is_that_of_sklearn_for_every_c(shape):
    x, y = _data(5, *shape)
    grid = [1e-3, 1.0, 1e2]
    found = logistic.fit(x, y, grid, tol=1e-9)
    assert found.converged.all()
    for i, c in enumerate(grid):
        peer = LogisticRegression(C=c, tol=1e-10, max_iter=20000).fit(x, y)
        want = _objective(x, y, peer.coef_, peer.intercept_, c)
        have = _objective(x, y, found.weights[i].numpy(), found.intercepts[i].numpy(), c)
        # both minimise the same convex function: neither may be below the other by more than tol
        assert have == pytest.approx(want, rel=1e-6)
        assert float(found.loss[i]) == pytest.approx(have, rel=1e-9)
        same = found.scores(x)[i].argmax(1) == peer.predict(x)
        assert same.mean() > 0.99


def test_two_classes_use_the_single_sigmoid_of_sklearn():
    x, y = _data(2)
    found = logistic.fit(x, y, [0.5], tol=1e-10)
    peer = LogisticRegression(C=0.5, tol=1e-10, max_iter=20000).fit(x, y)
    margin = found.scores(x)[0]
    np.testing.assert_allclose(
        margin[:, 1] - margin[:, 0], peer.decision_function(x), rtol=1e-3, atol=1e-4
    )


def test_multilabel_is_one_sklearn_problem_a_column():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(80, 6))
    y = (x[:, :3] + rng.normal(size=(80, 3)) > 0).astype(int)
    found = logistic.fit(x, y, [0.1, 10.0], tol=1e-10)
    for i, c in enumerate((0.1, 10.0)):
        for k in range(3):
            peer = LogisticRegression(C=c, tol=1e-10, max_iter=20000).fit(x, y[:, k])
            np.testing.assert_allclose(
                found.scores(x)[i, :, k], peer.decision_function(x), rtol=1e-3, atol=1e-4
            )


def test_a_column_without_both_outcomes_gets_a_constant_score():
    x = np.random.default_rng(0).normal(size=(20, 3))
    y = np.zeros((20, 3), int)
    y[:, 1] = 1
    y[::2, 2] = 1
    scores = logistic.fit(x, y, [1.0]).scores(x)[0]
    assert (scores[:, 0] == scores[0, 0]).all()
    assert scores[0, 0] < 0 < scores[0, 1]
    assert np.ptp(scores[:, 2]) > 0


def test_a_class_without_training_samples_is_never_predicted():
    x, y = _data(3)
    y = y * 2  # classes 0, 2, 4 of 6
    scores = logistic.fit(x, y, [1.0], classes=6).scores(x)[0]
    assert set(scores.argmax(1)) <= {0, 2, 4}
    assert np.isneginf(scores[:, [1, 3, 5]]).all()


def test_one_batched_solve_equals_single_solves():
    x, y = _data(4)
    grid = np.geomspace(1e-4, 1e3, 9)
    together = logistic.fit(x, y, grid, tol=1e-10)
    for i, c in enumerate(grid):
        alone = logistic.fit(x, y, [c], tol=1e-10)
        assert float(together.loss[i]) == pytest.approx(float(alone.loss[0]), rel=1e-8)


def test_float32_finds_the_same_loss():
    x, y = _data(4)
    exact = logistic.fit(x, y, [1e-2, 1.0, 100.0], tol=1e-9)
    fast = logistic.fit(x, y, [1e-2, 1.0, 100.0], tol=1e-5, dtype=torch.float32)
    # float32 sums of 150 losses carry about 1e-6, the tolerance 1e-5
    np.testing.assert_allclose(fast.loss.numpy(), exact.loss.numpy(), rtol=1e-4)


def test_separable_data_stay_finite():
    x = np.vstack([np.full((10, 2), -1.0), np.full((10, 2), 1.0)])
    y = np.repeat([0, 1], 10)
    found = logistic.fit(x, y, [1e5])
    assert torch.isfinite(found.weights).all()
    assert (found.scores(x)[0].argmax(1) == y).all()


@pytest.mark.parametrize(
    ("x", "y"),
    [(np.full((4, 2), np.nan), [0, 1, 0, 1]), (np.zeros((0, 2)), []), (np.ones((3, 2)), [1, 1, 1])],
    ids=["nan", "empty", "one class"],
)
def test_unusable_input_is_one_line(x, y):
    with pytest.raises(FMError) as error:
        logistic.fit(x, np.array(y, int), [1.0])
    assert "\n" not in str(error.value)


GRID45 = 10 ** np.linspace(-6, 5, 45)


def _sklearn(x, y, c):
    peer = LogisticRegression(C=c, tol=1e-9, max_iter=100_000).fit(x, y)
    return _objective(x, y, peer.coef_, peer.intercept_, c)


def test_all_45_values_of_dinov2s_grid_reach_the_optimum_of_sklearn():
    x, y = _data(4, 90, 6)
    found = logistic.fit(x, y, GRID45)
    assert found.converged.all()
    want = [_sklearn(x, y, c) for c in GRID45]
    np.testing.assert_allclose(found.loss.numpy(), want, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(2000, 64, 10), (400, 300, 6)], ids=["tall", "nearly square"])
def test_all_45_values_reach_the_optimum_of_sklearn_at_size(size):
    rows, width, classes = size
    x, y = _data(classes, rows, width)
    x = (x - x.mean(0)) / x.std(0)
    found = logistic.fit(x, y, GRID45)
    assert found.converged.all()
    for i, c in enumerate(GRID45):
        want = _sklearn(x, y, c)
        # a convex function: sklearn may stop above the optimum, neither can be below it
        have = _objective(x, y, found.weights[i].numpy(), found.intercepts[i].numpy(), c)
        assert have <= want * (1 + 1e-6)


def test_products_in_float32_end_where_float64_ends(monkeypatch):
    x, y = _data(5, 300, 20)
    exact = logistic.fit(x, y, GRID45[::4], tol=1e-10)
    monkeypatch.setattr(logistic, "LITTLE", 0)
    mixed = logistic.fit(x, y, GRID45[::4], tol=1e-10)
    assert mixed.converged.all()
    np.testing.assert_allclose(mixed.loss.numpy(), exact.loss.numpy(), rtol=1e-9)
    for i, c in enumerate(GRID45[::4]):
        have = _objective(x, y, mixed.weights[i].numpy(), mixed.intercepts[i].numpy(), c)
        assert float(mixed.loss[i]) == pytest.approx(have, rel=1e-9)


@pytest.mark.parametrize(
    "changed",
    [
        {"PATIENCE": 0.0},  # a block at every step
        {"BLOCKS": 0},  # none ever
        {"SPARED": 1e-2, "FEW": 0.0},  # some samples left out of nearly every product
    ],
    ids=["blocks", "no blocks", "spared"],
)
@pytest.mark.parametrize("columns", [False, True])
def test_what_only_saves_time_changes_no_solution(changed, columns, monkeypatch):
    x, y = _data(6, 400, 12)
    if columns:
        y = np.stack([y == 0, (y == 1) | (x[:, 0] > 0)], axis=1).astype(np.int64)
    grid = GRID45[4::8]
    plain = logistic.fit(x, y, grid, tol=1e-10)
    for name, value in changed.items():
        monkeypatch.setattr(hessian, name, value)
    found = logistic.fit(x, y, grid, tol=1e-10)
    assert found.converged.all()
    np.testing.assert_allclose(found.loss.numpy(), plain.loss.numpy(), rtol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_gradient_that_sklearn_bounds_is_bounded(dtype):
    x, y = _data(4)
    grid = [1e-4, 1.0, 1e3]
    for gtol in (1e-2, 1e-5):
        found = logistic.fit(x, y, grid, gtol=gtol, dtype=dtype)
        assert found.converged.all()
        for i, c in enumerate(grid):
            w = found.weights[i].double().requires_grad_(True)
            b = found.intercepts[i].double().requires_grad_(True)
            z = torch.as_tensor(x) @ w.T + b
            loss = torch.nn.functional.cross_entropy(z, torch.as_tensor(y))
            (loss + 0.5 / (c * len(x)) * (w**2).sum()).backward()
            assert max(w.grad.abs().max(), b.grad.abs().max()) < 1.2 * gtol


def test_columns_solved_in_parts_are_those_solved_together(monkeypatch):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(80, 6))
    y = (x[:, :5] + rng.normal(size=(80, 5)) > 0).astype(int)
    whole = logistic.fit(x, y, [0.1, 1.0, 10.0], tol=1e-10)
    monkeypatch.setattr(logistic, "CELLS", 80 * 3 * 2)
    parts = logistic.fit(x, y, [0.1, 1.0, 10.0], tol=1e-10)
    np.testing.assert_allclose(parts.weights.numpy(), whole.weights.numpy(), rtol=1e-4, atol=1e-6)


def test_the_order_of_the_grid_and_repeats_do_not_matter():
    x, y = _data(3)
    found = logistic.fit(x, y, [10.0, 0.1, 10.0], tol=1e-10)
    ordered = logistic.fit(x, y, [0.1, 10.0], tol=1e-10)
    np.testing.assert_allclose(found.loss.numpy(), ordered.loss.numpy()[[1, 0, 1]], rtol=1e-9)


def test_features_may_be_a_tensor_where_they_lie():
    x, y = _data(3)
    found = logistic.fit(torch.as_tensor(x), y, [1.0])
    assert found.weights.device.type == "cpu"
    np.testing.assert_allclose(found.scores(torch.as_tensor(x)), found.scores(x))
