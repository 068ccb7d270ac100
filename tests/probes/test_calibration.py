import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_calibration_error,
)

from probes.statistics.calibration import calibration, errors, nll, temperature, to_logits

NORMS = (("ece", "l1"), ("rms_ce", "l2"), ("mce", "max"))


def _classes(n=400, k=5, seed=0, sharp=3.0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), truth] += 1
    return sharp * logits, truth


def test_classes_equal_torchmetrics_and_scikit_learn():
    logits, truth = _classes()
    p = torch.softmax(torch.from_numpy(logits), 1)
    found = errors(logits, truth)
    for name, norm in NORMS:
        want = multiclass_calibration_error(
            p, torch.from_numpy(truth), num_classes=5, n_bins=15, norm=norm
        )
        assert found[name] == pytest.approx(float(want), abs=1e-6)
    assert found["nll"] == pytest.approx(log_loss(truth, p.numpy()))
    squared = (p.numpy() - np.eye(5)[truth]) ** 2
    assert found["brier"] == pytest.approx(squared.sum(1).mean())


def test_labels_equal_torchmetrics_and_scikit_learn():
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(300, 4))
    truth = rng.random((300, 4)) < 1 / (1 + np.exp(-logits / 2))
    p = 1 / (1 + np.exp(-logits))
    found = errors(logits, truth)
    for name, norm in NORMS:
        want = binary_calibration_error(
            torch.from_numpy(p.ravel()), torch.from_numpy(truth.ravel()).int(), n_bins=15, norm=norm
        )
        assert found[name] == pytest.approx(float(want), abs=1e-6)
    assert found["brier"] == pytest.approx(brier_score_loss(truth.ravel(), p.ravel()))
    assert found["nll"] == pytest.approx(log_loss(truth.ravel(), p.ravel()))


def test_the_temperature_is_the_likelihoods_best_and_is_fitted_on_val():
    test, truth = _classes(seed=0)
    val, val_truth = _classes(seed=1)
    found = calibration(test, truth, "logits", val, val_truth)
    t = found["temperature"]
    around = [nll(val / (t * f), val_truth) for f in (0.98, 1.0, 1.02)]
    assert around[1] == min(around)
    assert t > 2  # the scores are three times too sure
    assert found["after"] == errors(test / t, truth)
    assert found["after"]["ece"] < found["before"]["ece"] / 2
    flipped = calibration(test, (truth + 1) % 5, "logits", val, val_truth)
    assert flipped["temperature"] == t  # the truth of the test samples moves nothing
    assert (found["fitted_on"], found["at_bound"]) == ("val", False)
    without = calibration(test, truth, "logits")
    assert without["before"] == found["before"]
    assert without["after"] is None
    hopeless = temperature(val, (val_truth + 1) % 5)
    assert hopeless == pytest.approx(20, rel=1e-3)


def test_votes_are_probabilities():
    votes = np.array([[1.0, 0.0, 0.0], [0.2, 0.6, 0.2], [1 / 3, 1 / 3, 1 / 3]])
    logits = to_logits(votes, "probabilities", labels=False)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(p, votes, atol=1e-6)
    found = errors(logits, np.array([1, 1, 1]))
    # a vote of 0 for the truth costs the log of the bound, no infinity
    assert found["nll"] == pytest.approx(
        np.mean([-np.log(1e-7), -np.log(0.6), np.log(3)]), rel=1e-5
    )
    assert found["ece"] == pytest.approx((1 + 0.4 + 1 / 3) / 3, abs=1e-6)
    shares = np.array([[0.0, 1.0, 0.25]])
    back = 1 / (1 + np.exp(-to_logits(shares, "probabilities", labels=True)))
    np.testing.assert_allclose(back, shares, atol=1e-6)


def test_a_class_that_training_lacks_scores_minus_infinity():
    logits = np.array([[0.0, 1.0, -np.inf], [2.0, 0.0, -np.inf]])
    found = calibration(logits, np.array([1, 0]), "logits", logits, np.array([1, 0]))
    assert all(np.isfinite(value) for value in found["after"].values())
