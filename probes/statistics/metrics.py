"""Metrics over a whole set, from counts that can be summed and reweighted.

Everything takes leading batch axes where stated, so a thousand bootstrap resamples are one call.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> NDArray[np.int64]:
    """Count (true class, predicted class) pairs.

    Args:
        truth: [N] class numbers.
        predicted: [N] class numbers.
        classes: number of classes K.

    Returns:
        [K, K], rows are the truth.
    """
    flat = truth.astype(np.int64) * classes + predicted.astype(np.int64)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def class_metrics(matrix: np.ndarray) -> dict[str, Array]:
    """Accuracies, kappa, macro F1 and mean IoU of confusion matrices [..., K, K].

    Average accuracy is the mean recall over the classes that occur in the truth; absent classes
    have no recall and do not enter. Kappa is Cohen's (Educ. Psychol. Meas. 20, 1960); it is NaN
    when chance agreement is certain. F1 and IoU (Jaccard index) are means over the classes that
    occur in the truth or among the predictions.

    Returns:
        `oa`, `aa`, `kappa`, `f1`, `miou`, each of shape [...]; NaN for an empty matrix. With two
        classes also `f1_positive` and `iou_positive`, those of the second class alone; NaN where
        it does not occur.
    """
    m = np.asarray(matrix, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = m.sum((-1, -2))
        truth, guess = m.sum(-1), m.sum(-2)
        hits = np.diagonal(m, axis1=-2, axis2=-1)
        oa = hits.sum(-1) / total
        present = truth > 0
        recall = np.where(present, hits / np.where(present, truth, 1), 0)
        aa = recall.sum(-1) / present.sum(-1)
        chance = (truth * guess).sum(-1) / total**2
        kappa = (oa - chance) / (1 - chance)
        either = truth + guess
        f1, iou = 2 * hits / either, hits / (either - hits)
        occurs = either > 0
        found = {
            "oa": oa,
            "aa": aa,
            "kappa": np.where(chance < 1, kappa, np.nan),
            "f1": np.where(occurs, f1, 0).sum(-1) / occurs.sum(-1),
            "miou": np.where(occurs, iou, 0).sum(-1) / occurs.sum(-1),
        }
    if m.shape[-1] == 2:
        found |= {"f1_positive": f1[..., 1], "iou_positive": iou[..., 1]}
    return found


def per_class(matrix: np.ndarray) -> list[dict[str, float | int | None]]:
    """Support, recall, precision, F1 and IoU of each class of a confusion matrix [K, K].

    A recall without true samples, or a precision without predicted ones, is None.
    """
    truth, guess, hits = matrix.sum(1), matrix.sum(0), np.diagonal(matrix)
    rows: list[dict[str, float | int | None]] = []
    for t, g, h in zip(truth.tolist(), guess.tolist(), hits.tolist(), strict=True):
        rows.append(
            {
                "support": int(t),
                "recall": h / t if t else None,
                "precision": h / g if g else None,
                "f1": 2 * h / (t + g) if t + g else None,
                "iou": h / (t + g - h) if t + g else None,
            }
        )
    return rows


def average_precision(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> Array:
    """Average precision under one or many weightings of the samples.

    The step-wise sum of scikit-learn's `average_precision_score`, equal scores forming one
    threshold: sum over thresholds of (recall_t - recall_{t-1}) * precision_t.

    Args:
        truth: [N] bool.
        scores: [N], larger means more likely.
        weights: [..., N] nonnegative sample weights (multiplicities in a resample).

    Returns:
        [...]; NaN where no positive sample has weight.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    w = np.asarray(weights, np.float64)[..., order]
    hits = np.cumsum(w * truth[order], -1)[..., ends]
    seen = np.cumsum(w, -1)[..., ends]
    gained = np.diff(hits, axis=-1, prepend=0)
    precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
    positives = hits[..., -1]
    total = (gained * precision).sum(-1)
    return np.where(positives > 0, total / np.where(positives > 0, positives, 1), np.nan)


def multilabel_metrics(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> dict:
    """Mean average precision, macro and micro, under many weightings.

    Macro averages the classes with a positive sample of nonzero weight; micro ranks all
    (sample, class) pairs together, so scores must be comparable between classes.

    Args:
        truth: [N, K] bool.
        scores: [N, K].
        weights: [..., N].

    Returns:
        `map` and `map_micro`, each [...], and `ap`, [..., K] with NaN for absent classes.
    """
    ap = np.stack(
        [average_precision(truth[:, k], scores[:, k], weights) for k in range(truth.shape[1])], -1
    )
    counted = ~np.isnan(ap)
    with np.errstate(invalid="ignore"):
        macro = np.where(counted, ap, 0).sum(-1) / counted.sum(-1)
    spread = np.repeat(weights, truth.shape[1], -1)
    micro = average_precision(truth.ravel(), scores.ravel(), spread)
    return {"map": macro, "map_micro": micro, "ap": ap}
