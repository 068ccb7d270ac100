import numpy as np
import pytest
import torch
from sklearn import metrics as peer

from fm.torchvision_guard import install
from probes.statistics import metrics

install()


def test_class_metrics_are_those_of_sklearn():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 5, 400), rng.integers(0, 5, 400)
    p[:200] = y[:200]
    matrix = metrics.confusion(y, p, 5)
    np.testing.assert_array_equal(matrix, peer.confusion_matrix(y, p))
    found = metrics.class_metrics(matrix)
    assert found["oa"] == pytest.approx(peer.accuracy_score(y, p))
    assert found["aa"] == pytest.approx(peer.balanced_accuracy_score(y, p))
    assert found["kappa"] == pytest.approx(peer.cohen_kappa_score(y, p))
    rows = metrics.per_class(matrix)
    want = peer.precision_recall_fscore_support(y, p)
    for name, values in zip(("precision", "recall", "f1", "support"), want, strict=True):
        assert [row[name] for row in rows] == pytest.approx(values.tolist())


def test_average_accuracy_leaves_out_classes_that_are_absent():
    y, p = np.array([0, 0, 2, 2]), np.array([0, 1, 2, 2])
    found = metrics.class_metrics(metrics.confusion(y, p, 4))
    assert found["aa"] == pytest.approx((0.5 + 1.0) / 2)


def test_kappa_without_chance_disagreement_is_nan():
    found = metrics.class_metrics(np.diag([5, 0]))
    assert np.isnan(found["kappa"])
    assert found["oa"] == 1


@pytest.mark.parametrize("decimals", [None, 1], ids=["no ties", "ties"])
def test_map_is_that_of_sklearn_and_torchmetrics(decimals):
    from torchmetrics.functional.classification import multilabel_average_precision

    rng = np.random.default_rng(1)
    y = rng.random((60, 4)) < 0.3
    s = rng.random((60, 4)) + 0.3 * y
    if decimals:
        s = s.round(decimals)
    found = metrics.multilabel_metrics(y, s, np.ones(60))
    assert found["map"] == pytest.approx(peer.average_precision_score(y, s, average="macro"))
    assert found["map_micro"] == pytest.approx(peer.average_precision_score(y, s, average="micro"))
    each = multilabel_average_precision(
        torch.tensor(s), torch.tensor(y).long(), num_labels=4, average="none"
    )
    np.testing.assert_allclose(found["ap"], each.numpy(), atol=1e-6)  # torchmetrics is float32


def test_map_names_absent_classes_by_nan_and_leaves_them_out():
    y = np.array([[1, 0], [0, 0], [1, 0]], bool)
    s = np.array([[0.9, 0.5], [0.8, 0.1], [0.7, 0.2]])
    found = metrics.multilabel_metrics(y, s, np.ones(3))
    assert np.isnan(found["ap"][1])
    assert found["map"] == pytest.approx((1 + 2 / 3) / 2)


def test_weights_are_multiplicities():
    rng = np.random.default_rng(2)
    y, s = rng.random((30, 3)) < 0.4, rng.random((30, 3)).round(1)
    counts = rng.multinomial(30, np.full(30, 1 / 30), size=5)
    found = metrics.multilabel_metrics(y, s, counts)
    for i, count in enumerate(counts):
        again = metrics.multilabel_metrics(y.repeat(count, 0), s.repeat(count, 0), np.ones(30))
        assert found["map"][i] == pytest.approx(again["map"])
        assert found["map_micro"][i] == pytest.approx(again["map_micro"])
