import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from probes import knn


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


def test_chunks_do_not_change_the_answer():
    x, y, q = _data()
    whole = knn.scores(x, y, q, (3, 7), classes=3)
    parts = knn.scores(x, y, q, (3, 7), classes=3, chunk=4)
    np.testing.assert_allclose(whole, parts, atol=1e-12)


def test_multilabel_vote_is_the_weighted_mean_of_the_labels():
    x, y, q = _data()
    labels = np.stack([y == 0, y > 0], 1)
    found = knn.scores(x, labels, q, (5,), classes=2)
    single = knn.scores(x, y, q, (5,), classes=3)
    np.testing.assert_allclose(found[0, :, 0], single[0, :, 0])
    np.testing.assert_allclose(found[0, :, 1], single[0, :, 1:].sum(1))


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
