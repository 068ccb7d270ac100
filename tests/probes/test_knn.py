import numpy as np
import pytest
import torch
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestNeighbors

from fm.errors import FMError
from probes.solvers import knn


def _data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 90)
    x = rng.normal(size=(90, 7)) + rng.normal(size=(3, 7))[y] + 20
    return x[:60], y[:60], x[60:]


def test_votes_are_those_of_sklearn_with_the_same_weights():
    x, y, q = _data()
    ks = (1, 5, 20)
    found = knn.scores(x, y, q, ks, classes=3, temperature=0.1)
    for i, k in enumerate(ks):
        peer = KNeighborsClassifier(
            k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.1)
        ).fit(x - x.mean(0), y)
        np.testing.assert_allclose(found[i], peer.predict_proba(q - x.mean(0)), atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_seed_papers_votes_are_those_of_sklearn_to_the_last_digit(dtype):
    rng = np.random.default_rng(1)
    x, q = rng.normal(3, 2, (400, 24)), rng.normal(3, 2, (150, 24))
    y = rng.integers(0, 10, 400)
    labels = rng.random((400, 4)) < 0.3
    settings = {"metric": "euclidean", "temperature": None, "dtype": dtype}
    peer = KNeighborsClassifier(5, algorithm="brute").fit(x, y)
    found = knn.scores(x, y, q, [5], classes=10, **settings)[0]
    assert (found == peer.predict_proba(q)).all()
    assert (found.argmax(1) == peer.predict(q)).all()
    many = MultiOutputClassifier(KNeighborsClassifier(5, algorithm="brute")).fit(x, labels)
    want = np.stack([p[:, 1] for p in many.predict_proba(q)], 1)
    assert (knn.scores(x, labels, q, [5], **settings)[0] == want).all()


def test_numbers_are_the_mean_of_the_neighbours_as_in_sklearn():
    x, _, q = _data()
    values = np.random.default_rng(2).normal(size=(60, 2))
    settings = {"metric": "euclidean", "temperature": None}
    peer = KNeighborsRegressor(7, algorithm="brute").fit(x, values)
    np.testing.assert_allclose(
        knn.scores(x, values, q, [7], **settings)[0], peer.predict(q), rtol=1e-12
    )
    weighted = KNeighborsRegressor(
        7, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07)
    ).fit(x, values)
    np.testing.assert_allclose(
        knn.scores(x, values, q, [7], center=False)[0], weighted.predict(q), rtol=1e-9
    )


def test_a_neighbour_whose_number_is_unknown_does_not_count():
    x = np.arange(6.0)[:, None]
    values = np.array([[0.0, 5], [10, np.nan], [20, np.nan], [30, 7], [np.nan, 8], [50, 9]])
    found = knn.scores(x, values, np.array([[1.1]]), [1, 3], metric="euclidean", temperature=None)
    np.testing.assert_allclose(found[:, 0, 0], [10, 10])
    # the one neighbour does not know the second target: mean of the training set; of three, one
    np.testing.assert_allclose(found[:, 0, 1], [(5 + 7 + 8 + 9) / 4, 5])


def _crowded():
    """Many samples that are the same, or nearly: their order is not in a float32 product."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(900, 40))
    x[300:400] = x[:100]
    x[600:720] = x[5]
    x[720:800] = x[6] + 1e-7 * rng.normal(size=(80, 40))
    q = rng.normal(size=(120, 40))
    q[:30] = x[:30]
    return x, q


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_rounding_does_not_decide_who_is_a_neighbour(metric):
    x, q = _crowded()
    ks = (1, 5, 20, 50)
    settings = {"boundaries": ks, "metric": metric, "center": False}
    exact = knn.neighbours(x, q, 50, **settings)
    fast = knn.neighbours(x, q, 50, dtype=torch.float32, **settings)
    cut = knn.neighbours(x, q, 50, dtype=torch.float32, chunk=7, **settings)
    direct = x @ q.T if metric == "cosine" else -((x[:, None] - q[None]) ** 2).sum(2)
    if metric == "cosine":
        direct /= np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(q, axis=1)
    for k in ks:
        sets = [n.index[:, :k].sort(1).values for n in (exact, fast, cut)]
        assert (sets[0] == sets[1]).all()
        assert (sets[0] == sets[2]).all()
        worst = np.take_along_axis(direct.T, sets[0].numpy(), 1).min(1)
        np.testing.assert_allclose(worst, np.sort(direct.T, 1)[:, -k], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_equal_neighbours_are_taken_in_the_order_of_the_training_set(metric, dtype):
    rng = np.random.default_rng(4)
    row = rng.normal(size=(1, 33))
    x = np.concatenate([rng.normal(size=(40, 33)) + 5, row.repeat(100, 0)])
    x = x[rng.permutation(140)]
    same = np.flatnonzero((x == row).all(1))
    settings = {"metric": metric, "center": False, "dtype": dtype}
    for k in (1, 3, 60):
        found = knn.neighbours(x, row, k, boundaries=(1, 3), **settings)
        assert found.index[0, :k].sort().values.tolist() == same[:k].tolist()


def test_neighbours_are_those_of_sklearn():
    x, _, q = _data()
    for metric in ("cosine", "euclidean"):
        found = knn.neighbours(x, q, 9, metric=metric, center=False, dtype=torch.float32)
        peer = NearestNeighbors(n_neighbors=9, metric=metric, algorithm="brute").fit(x)
        want = peer.kneighbors(q, return_distance=False)
        assert (np.sort(found.index.numpy(), 1) == np.sort(want, 1)).all()


def test_float32_scores_are_close():
    x, q = _crowded()
    y = np.arange(len(x)) % 7
    exact = knn.scores(x, y, q, (10, 100), classes=7)
    fast = knn.scores(x, y, q, (10, 100), classes=7, dtype=torch.float32)
    np.testing.assert_allclose(fast, exact, atol=1e-4)


def test_chunks_do_not_change_the_answer():
    x, y, q = _data()
    whole = knn.scores(x, y, q, (3, 7), classes=3)
    parts = knn.scores(x, y, q, (3, 7), classes=3, chunk=4)
    np.testing.assert_allclose(whole, parts, atol=1e-12)


def test_multilabel_vote_is_the_weighted_mean_of_the_labels():
    x, y, q = _data()
    labels = np.stack([y == 0, y > 0], 1)
    found = knn.scores(x, labels, q, (5,))
    single = knn.scores(x, y, q, (5,), classes=3)
    np.testing.assert_allclose(found[0, :, 0], single[0, :, 0])
    np.testing.assert_allclose(found[0, :, 1], single[0, :, 1:].sum(1))


def test_softmax_over_the_largest_k_cut_and_renormalised_is_the_rule():
    """DINOv2's softmax over the largest k, cut to each k, then made to sum to 1."""
    x, y, q = _data()
    ks = (3, 10, 40)
    found = knn.scores(x, y, q, ks, classes=3, center=False)
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, q))
    similar = b @ a.T
    order = np.argsort(-similar, 1)[:, : max(ks)]
    top = np.take_along_axis(similar, order, 1) / 0.07
    weight = np.exp(top - top.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    for i, k in enumerate(ks):
        cut = (weight[:, :k, None] * np.eye(3)[y[order[:, :k]]]).sum(1)
        assert (found[i].argmax(1) == cut.argmax(1)).all()
        np.testing.assert_allclose(found[i], cut / weight[:, :k].sum(1)[:, None], rtol=1e-7)


def test_a_tiny_temperature_does_not_overflow():
    x, y, q = _data()
    found = knn.scores(x, y, q, (60,), classes=3, temperature=1e-4)
    assert np.isfinite(found).all()
    nearest = knn.scores(x, y, q, (1,), classes=3)
    assert (found.argmax(2) == nearest.argmax(2)).all()


def test_centring_removes_a_shared_offset():
    x, y, q = _data()
    moved = knn.scores(x + 100, y, q + 100, (5,), classes=3)
    assert moved == pytest.approx(knn.scores(x, y, q, (5,), classes=3))
    plain = knn.scores(x, y, q, (5,), classes=3, center=False)
    shifted = knn.scores(x + 100, y, q + 100, (5,), classes=3, center=False)
    assert not np.allclose(plain, shifted)


def test_unusable_input_is_one_line():
    x, y, q = _data()
    for call in (
        lambda: knn.scores(x, y, q * np.nan, [1], classes=3),
        lambda: knn.scores(x[:0], y[:0], q, [1], classes=3),
        lambda: knn.scores(x, y, q, [1], classes=3, metric="euclidean"),
    ):
        with pytest.raises(FMError) as error:
            call()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_copies_by_the_hundred_are_taken_in_the_order_of_the_training_set(metric):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(3000, 24)).astype(np.float32)
    cloud = rng.random(3000) < 0.3
    x[cloud] = x[0]
    q = np.concatenate([x[:1], x[:1], x[[7]], rng.normal(size=(3, 24)).astype(np.float32)])
    told = {"metric": metric, "center": False, "boundaries": (3,)}
    low = knn.neighbours(x, q, 20, dtype=torch.float32, **told)
    exact = knn.neighbours(x, q, 20, dtype=torch.float64, **told)
    same = np.flatnonzero((x == x[0]).all(1))[:20]
    assert low.index[0].tolist() == low.index[1].tolist() == same.tolist()
    assert torch.equal(low.index, exact.index)


@pytest.mark.parametrize(("columns", "count"), [(1000, 5), (997, 7), (4096, 31), (50, 20)])
def test_the_largest_by_groups_are_the_largest(columns, count):
    table = torch.from_numpy(np.random.default_rng(columns).normal(size=(9, columns)))
    value, place = knn._largest(table, count)
    assert torch.equal(value, torch.topk(table, count, dim=1).values)
    assert torch.equal(table.gather(1, place), value)
