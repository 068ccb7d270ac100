"""What is measured beside a score: the features as a set, and the calibration of predictions.

Numbers of features are of the test samples as the protocol reads them, before it scales them.
"""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fm.collapse import deviations, effective_rank, unit
from probes.families.job import REFIT, Job, Outcome
from probes.statistics.calibration import calibration

Array = NDArray[np.float64]
MOST = 2000
"""Samples that distances are taken between, drawn by the seed where there are more: with 5000 of
2000 numbers each they took longer than most probes."""
NEIGHBOURS = 20
"""k of the maximum likelihood estimate."""
DISCARDED = 0.1
"""Share of the largest ratios that TwoNN leaves out, as its authors do."""


def measure(
    job: Job, outcome: Outcome, known: dict[str, dict[str, Any]] | None = None
) -> dict[str, Any] | None:
    """Diagnostics of one protocol that has run.

    Args:
        job: what ran.
        outcome: what came of it.
        known: features that were described before, by their hash; is added to.

    Returns:
        `features` (see `describe`) where it works on one vector a sample, and `calibration` (see
        `probes.statistics.calibration`) where its predictions are probabilities or can be made
        so; None where neither is the case.
    """
    found: dict[str, Any] = {}
    _, val, test = job.splits
    if outcome.features is not None:
        features = np.ascontiguousarray(outcome.features[test])
        held = known if known is not None else {}
        name = f"{job.seed} {features.shape} {hashlib.sha256(features.tobytes()).hexdigest()}"
        if name not in held:
            held[name] = describe(features, job.seed)
        found["features"] = held[name]
    if outcome.scale is not None and job.benchmark.task in ("class", "multilabel"):
        on_val = outcome.val
        if (outcome.selection or {}).get("refit") == REFIT:
            on_val = None  # the scored model has seen the answers of val: no temperature fits there
        elif on_val is None and outcome.predict is not None and outcome.features is not None:
            on_val = outcome.predict(outcome.features[val]) if len(val) else None
        truth, val_truth = (job.data.targets[rows] for rows in (test, val))
        found["calibration"] = calibration(
            outcome.predictions, truth, outcome.scale, on_val, val_truth
        )
    return found or None


def describe(features: np.ndarray, seed: int) -> dict[str, float | int | None]:
    """Describe features [N, D].

    Args:
        features: finite numbers.
        seed: of the draw of samples where there are more than `MOST`.

    Returns:
        `effective_rank`, `uniformity`, `std_mean` and `std_min`, `two_nn`, `mle` (see the
        functions of these names), `dimensions` D and `samples` N that distances were taken of;
        None where a number does not exist.
    """
    x = np.asarray(features, np.float64)
    order = np.random.Generator(np.random.PCG64([seed, 5])).permutation(len(x))
    some = x[np.sort(order[:MOST])]
    spread = deviations(x)
    near = neighbours(some, min(NEIGHBOURS, len(some) - 1))
    values = {
        "effective_rank": effective_rank(x),
        "uniformity": uniformity(some),
        "std_mean": float(spread.mean()),
        "std_min": float(spread.min()),
        "two_nn": two_nn(near),
        "mle": mle(near),
    }
    kept = {k: v if np.isfinite(v) else None for k, v in values.items()}
    return {**kept, "dimensions": x.shape[1], "samples": len(some)}


def uniformity(features: Array) -> float:
    """Log of the mean of exp(-2 d^2) over all pairs of different samples, features of length 1.

    Wang and Isola, ICML 2020, section 4.1.2; 0 where all vectors are the same, lower is more even.
    """
    x = unit(features)
    total, count = 0.0, len(x)
    if count < 2:
        return float("nan")
    for start in range(0, count, 512):
        part = x[start : start + 512]
        squares = np.maximum(2 - 2 * part @ x.T, 0)
        total += float(np.exp(-2 * squares).sum())
    return float(np.log((total - count) / (count * (count - 1))))


def neighbours(features: Array, k: int) -> Array:
    """Distances [n, k] of each sample to its k nearest others, copies of a sample left out.

    Euclidean, ascending. Of samples that are the same to the last digit only one stays, for
    neither estimate below has a value at distance 0.
    """
    x = np.unique(features, axis=0)
    x = x - x.mean(0)
    k = min(k, len(x) - 1)
    if k < 1:
        return np.empty((0, 0))
    squares = (x**2).sum(1)
    found = np.empty((len(x), k))
    for start in range(0, len(x), 512):
        part = slice(start, start + 512)
        near = squares[part, None] - 2 * x[part] @ x.T + squares
        np.fill_diagonal(near[:, start:], np.inf)
        index = np.argpartition(near, k - 1, 1)[:, :k]
        # the product's rounding is as large as small distances: these again, exactly
        exact = np.sqrt(((x[part, None] - x[index]) ** 2).sum(-1))
        found[part] = np.sort(exact, 1)
    return found


def two_nn(near: Array) -> float:
    """Intrinsic dimension from the ratio of the second to the first neighbour's distance.

    Facco et al., Scientific Reports 7, 2017: slope through the origin of -log(1 - F) on log mu,
    F the empirical distribution of mu, its largest tenth left out.

    Args:
        near: as `neighbours` with k of at least 2.
    """
    if near.shape[0] < 3 or near.shape[1] < 2:
        return float("nan")
    mu = np.sort(np.log(near[:, 1] / near[:, 0]))
    share = np.arange(1, len(mu) + 1) / len(mu)
    kept = slice(0, int(len(mu) * (1 - DISCARDED)))
    x, y = mu[kept], -np.log(1 - share[kept])
    return float((x @ y) / (x @ x)) if (x @ x) > 0 else float("nan")


def mle(near: Array) -> float:
    """Intrinsic dimension by maximum likelihood over k neighbours.

    Levina and Bickel, NIPS 2004, equation 8 at each point; the points' inverse estimates are
    averaged, and that inverted, as MacKay and Ghahramani (2005) correct them.

    Args:
        near: as `neighbours`, k of at least 2.
    """
    if near.shape[0] < 2 or near.shape[1] < 2:
        return float("nan")
    inverse = np.log(near[:, -1:] / near[:, :-1]).mean(1)
    return float(1 / inverse.mean()) if inverse.mean() > 0 else float("nan")
