"""Are predicted probabilities those at which a prediction is right?

The gap between confidence and accuracy in bins of equal width (Naeini et al., AAAI 2015; Guo et
al., On calibration of modern neural networks, ICML 2017, which also has the temperature), the Brier
score (Monthly Weather Review 78, 1950) and the negative log-likelihood.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Scale = Literal["logits", "probabilities"]
BINS = 15
SMALLEST = 1e-7
"""Probabilities enter logarithms as at least this: a neighbour vote may be 0."""
TEMPERATURES = (0.05, 20.0)
"""Bounds of the temperature; a fit that ends at one says so."""


def calibration(
    test: np.ndarray,
    truth: np.ndarray,
    scale: Scale,
    val: np.ndarray | None = None,
    val_truth: np.ndarray | None = None,
) -> dict[str, Any]:
    """Calibration before and after temperature scaling.

    Args:
        test: predictions [n, K] of the test samples.
        truth: [n] class numbers, or [n, K] bool of labels.
        scale: what the predictions are.
        val: predictions of the val samples; None where there are none.
        val_truth: their truth.

    Returns:
        `before` and `after`, each as `errors`; `temperature`, fitted on val, `fitted_on` and
        `at_bound`; the last four None without val.
    """
    logits = to_logits(test, scale, truth.ndim == 2)
    found: dict[str, Any] = {
        "bins": BINS,
        "before": errors(logits, truth),
        **dict.fromkeys(("after", "temperature", "fitted_on", "at_bound")),
    }
    if val is None or val_truth is None or not len(val):
        return found
    t = temperature(to_logits(val, scale, val_truth.ndim == 2), val_truth)
    edge = bool(np.isclose(t, TEMPERATURES, rtol=1e-3).any())
    after = errors(logits / t, truth)
    return found | {"after": after, "temperature": t, "fitted_on": "val", "at_bound": edge}


def to_logits(predictions: np.ndarray, scale: Scale, labels: bool) -> Array:
    """Turn predictions into what softmax (or, of labels, sigmoid) makes probabilities."""
    x = np.asarray(predictions, np.float64)
    if scale == "logits":
        # a class without training samples scores -inf
        return np.maximum(x, -1e3)
    p = np.clip(x, SMALLEST, 1 - SMALLEST if labels else 1.0)
    return np.asarray(np.log(p) - np.log1p(-p) if labels else np.log(p))


def errors(logits: Array, truth: np.ndarray) -> dict[str, float]:
    """Calibration errors of logits [n, K].

    Returns:
        `ece`, `rms_ce` and `mce`: mean, root mean square and largest gap between confidence and
        accuracy over `BINS` bins of equal width, weighed by their samples (the largest over those
        that have any); of the winning class, or of all pairs of sample and label, whose confidence
        is the probability itself. `brier`: mean over samples of the sum over classes of the
        squared error of probabilities (of labels, the mean over pairs). `nll`: mean of minus the
        log-probability of the truth.
    """
    if truth.ndim == 2:
        p = _sigmoid(logits).ravel()
        right = truth.ravel().astype(np.float64)
        confidence, accuracy = p, right
        brier = float(((p - right) ** 2).mean())
    else:
        p = _softmax(logits)
        rows = np.arange(len(truth))
        confidence, accuracy = p.max(1), (p.argmax(1) == truth).astype(np.float64)
        target = np.zeros_like(p)
        target[rows, truth] = 1
        brier = float(((p - target) ** 2).sum(1).mean())
    gaps, share = _bins(confidence, accuracy)
    return {
        "ece": float((share * gaps).sum()),
        "rms_ce": float(np.sqrt((share * gaps**2).sum())),
        "mce": float(gaps.max()),
        "brier": brier,
        "nll": nll(logits, truth),
    }


def nll(logits: Array, truth: np.ndarray) -> float:
    """Mean of minus the log-probability of the truth; of labels, over all pairs."""
    if truth.ndim == 2:
        return float(np.logaddexp(0, np.where(truth, -logits, logits)).mean())
    shifted = logits - logits.max(1, keepdims=True)
    total = np.log(np.exp(shifted).sum(1))
    return float((total - shifted[np.arange(len(truth)), truth]).mean())


def temperature(logits: Array, truth: np.ndarray) -> float:
    """Find T that makes the likelihood of logits / T largest, within `TEMPERATURES`.

    The negative log-likelihood is convex in 1 / T; golden-section search.
    """
    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    ratio = (np.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    values = nll(logits * left, truth), nll(logits * right, truth)
    while high - low > 1e-6 * high:
        if values[0] <= values[1]:
            high, right = right, left
            left = high - ratio * (high - low)
            values = nll(logits * left, truth), values[0]
        else:
            low, left = left, right
            right = low + ratio * (high - low)
            values = values[1], nll(logits * right, truth)
    return float(2 / (low + high))


def _bins(confidence: Array, accuracy: Array) -> tuple[Array, Array]:
    """Gap and share of the samples of each bin that has any; [a, b), the last one closed."""
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    count = np.bincount(place, minlength=BINS)
    used = count > 0
    mean = [
        np.bincount(place, x, minlength=BINS)[used] / count[used] for x in (confidence, accuracy)
    ]
    return np.abs(mean[0] - mean[1]), count[used] / len(place)


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


def _sigmoid(x: Array) -> Array:
    return np.asarray(np.exp(-np.logaddexp(0, -x)))
