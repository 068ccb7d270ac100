"""How metrics are named, which way is better, and how their numbers are written."""

import math

from fm.errors import FMError, suggest

# the word before the first "_" or "@" of a metric's name decides: map_micro, recall@10
HIGHER = {
    "aa": "average accuracy",
    "acc": "accuracy",
    "accuracy": "accuracy",
    "ap": "average precision",
    "auc": "area under the ROC curve",
    "auroc": "area under the ROC curve",
    "balanced": "balanced accuracy",
    "dice": "Dice coefficient",
    "f1": "F1 score",
    "iou": "intersection over union",
    "jaccard": "Jaccard index",
    "kappa": "Cohen's kappa",
    "map": "mean average precision",
    "miou": "mean intersection over union",
    "mrr": "mean reciprocal rank",
    "ndcg": "normalised discounted cumulative gain",
    "oa": "overall accuracy",
    "pearson": "Pearson correlation",
    "precision": "precision",
    "r2": "coefficient of determination",
    "recall": "recall",
    "spearman": "Spearman correlation",
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
}
LOWER = {
    "brier": "Brier score",
    "ece": "expected calibration error",
    "error": "error rate",
    "km": "distance in kilometres",
    "loss": "loss",
    "mae": "mean absolute error",
    "mse": "mean squared error",
    "nll": "negative log-likelihood",
    "rmse": "root mean squared error",
}
_CAPITALS = {
    "aa", "ap", "auc", "auroc", "ece", "f1", "iou", "mae", "mrr", "mse", "ndcg", "nll", "oa",
    "r2", "rmse",
}  # fmt: skip
_SPECIAL = {"map": "mAP", "miou": "mIoU", "iou": "IoU", "r2": "R²", "ndcg": "nDCG"}


def _head(name: str) -> str:
    return name.lower().replace("@", "_").split("_")[0]


def higher_is_better(name: str, stated: str | None) -> bool:
    """Say whether a larger value of a metric is the better one.

    Args:
        name: the metric, such as `"f1_macro"`.
        stated: the result's own word, `"higher"` or `"lower"`, if it gives one.

    Raises:
        FMError: the metric is unknown and the result does not say.
    """
    if stated is not None:
        return stated == "higher"
    head = _head(name)
    if head in HIGHER:
        return True
    if head in LOWER:
        return False
    raise FMError(
        f"metric {name!r} is unknown, so better and worse cannot be told apart; give it "
        f"'better': 'higher' or 'lower' in the result ({suggest(head, HIGHER | LOWER)})"
    )


def label(name: str) -> str:
    """Write a metric's name as a column heading: `f1_macro` becomes `F1 macro`."""
    head, rest = _head(name), name[len(_head(name)) :]
    shown = _SPECIAL.get(head) or (head.upper() if head in _CAPITALS else head.capitalize())
    return (shown + rest).replace("_", " ")


def describe(name: str) -> str:
    """Return the metric's full name, or its label when we know no longer one."""
    return HIGHER.get(_head(name)) or LOWER.get(_head(name)) or label(name)


def number(value: float, digits: int = 3) -> str:
    """Write a score: three decimals below 100, fewer above; a true minus sign."""
    digits = digits if abs(value) < 100 else 1
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def interval(low: float | None, high: float | None) -> str:
    """Write `[low, high]`, or nothing when there is none."""
    return "" if low is None or high is None else f"[{number(low)}, {number(high)}]"


def change(difference: float, low: float | None, high: float | None) -> str:
    """Write a signed difference with its interval: `+0.042 [+0.011, +0.073]`.

    Decimals grow from three to at most six until no end that is not zero reads as zero, so that
    an interval never seems to touch zero when it does not.
    """
    ends = [value for value in (difference, low, high) if value]
    smallest = min((abs(value) for value in ends), default=1.0)
    digits = min(6, max(3, math.ceil(-math.log10(smallest)))) if smallest else 3

    def signed(value: float) -> str:
        text = number(value, digits)
        return text if text.startswith("−") or float(text) == 0 else "+" + text

    if low is None or high is None:
        return signed(difference)
    return f"{signed(difference)} [{signed(low)}, {signed(high)}]"


def compact(value: float) -> str:
    """Write a count in three figures for an axis or a cell: `5.53 M`, `200 k`, `12`."""
    for power, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= power * 0.9995:
            return f"{value / power:.3g}\u00a0{unit}"
    return f"{value:.3g}"


def fraction(name: str) -> bool:
    """Say whether a metric is a score of which 1 is the best: all that we know as higher."""
    return _head(name) in HIGHER
