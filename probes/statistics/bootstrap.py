"""Bootstrap intervals whose unit is the block or the image, never the pixel.

Neighbouring pixels repeat each other, so resampling them one by one gives intervals that are far
too narrow. A resample draws whole units with replacement (Efron and Tibshirani, An Introduction
to the Bootstrap, chapters 8 and 13: percentile interval); differences between two models use the
same draws for both.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probes.statistics.answers import Scored
from probes.statistics.tries import TryAnswers

RESAMPLES = 1000
LEVEL = 0.95


def draws(units: int, seed: int, resamples: int = RESAMPLES) -> NDArray[np.int64]:
    """Draw multiplicities [resamples, units]; the same for every model with these arguments."""
    generator = np.random.Generator(np.random.PCG64([seed, units, resamples]))
    return generator.multinomial(units, np.full(units, 1 / units), size=resamples)


def percentile(values: np.ndarray, level: float = LEVEL) -> tuple[float | None, float | None]:
    """The central interval of resampled values; resamples without a value (NaN) are left out."""
    kept = values[np.isfinite(values)]
    if not len(kept):
        return None, None
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def intervals(answers: Scored, seed: int) -> dict[str, dict[str, float | None]]:
    """Each metric with its bootstrap interval.

    Returns:
        metric name -> `value`, `low`, `high`; None where a value does not exist.
    """
    point = answers.metrics(np.ones(answers.units, np.int64))
    spread = answers.metrics(draws(answers.units, seed))
    result = {}
    for name, value in point.items():
        low, high = percentile(spread[name])
        result[name] = {"value": _number(value), "low": low, "high": high}
    return result


def paired(first: Scored, second: Scored, metric: str, seed: int) -> dict[str, float | None]:
    """The difference `first - second` of one metric with its paired bootstrap interval.

    Both must hold the same test units in the same order.
    """
    if first.units != second.units:
        raise ValueError("paired answers must share their test units")
    one = np.ones(first.units, np.int64)
    counts = draws(first.units, seed)
    low, high = percentile(first.metrics(counts)[metric] - second.metrics(counts)[metric])
    value = first.metrics(one)[metric] - second.metrics(one)[metric]
    return {"difference": _number(value), "low": low, "high": high}


def over_seeds(answers: Sequence[Scored], seed: int) -> dict[str, dict[str, float | None]]:
    """Each metric of several runs that differ in their seed alone, with one interval for both.

    A resample draws test units and runs together, each with replacement, so the interval holds
    other test units and other seeds.

    Args:
        answers: of each run, on the same test units in the same order.
        seed: of the resamples.

    Returns:
        metric name -> `value` (mean over the runs), `low`, `high`, `between` (deviation between
        the runs, n - 1; None of a single run) and `runs`.
    """
    _same_units(answers)
    found = intervals(TryAnswers(list(answers)), seed)
    one = np.ones(answers[0].units, np.int64)
    each = [run.metrics(one) for run in answers]
    for name, entry in found.items():
        values = np.array([float(run[name]) for run in each])
        entry["between"] = _number(values.std(ddof=1)) if len(values) > 1 else None
        entry["runs"] = len(values)
    return found


def paired_over_seeds(
    first: Sequence[Scored], second: Sequence[Scored], metric: str, seed: int
) -> dict[str, float | None]:
    """The difference of the means over seeds with its interval over units and seeds together.

    As many runs of both; runs are paired in the order given.
    """
    if len(first) != len(second):
        raise ValueError("give as many runs of the first as of the second")
    _same_units([*first, *second])
    return paired(TryAnswers(list(first)), TryAnswers(list(second)), metric, seed)


def _same_units(answers: Sequence[Scored]) -> None:
    if len({one.units for one in answers}) != 1:
        raise ValueError("answers over seeds must share their test units")


def _number(value: np.ndarray | float) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None
