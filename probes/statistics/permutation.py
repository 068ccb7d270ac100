"""Tests of the difference between two results on the same test samples.

`sign_flip` takes the unit of the benchmark (block, image, scene) as what may be exchanged: under
the hypothesis that two models are the same, their answers in any unit could have been swapped.
`mcnemar` is exact for single samples; in blocked benchmarks neighbours repeat each other and its p
is too small, which results say.
"""

from functools import singledispatch
from typing import Any

import numpy as np

from probes.statistics.answers import ClassAnswers, LabelAnswers, QueryAnswers, Scored, ValueAnswers
from probes.statistics.places import PlaceAnswers
from probes.statistics.tries import TryAnswers

FLIPS = 999
FEWER_FLIPS = 199
"""Where ranking all pairs of samples and labels takes long."""
MANY = 200_000
"""Pairs of samples and labels from which on `FEWER_FLIPS` are taken."""
EXACT_UNITS = 9
"""Up to so many units all 2^units exchanges are tried."""


def mcnemar(first: np.ndarray, second: np.ndarray) -> dict[str, float | int]:
    """McNemar's exact test (Psychometrika 12, 1947; binomial form).

    Args:
        first: [N] bool, where the first model is right.
        second: [N] bool, where the second is.

    Returns:
        `first_only` and `second_only`, numbers of samples that one alone has right, and `p`, two
        sided, that the split between them is even; 1 where there are none.
    """
    one = int((first & ~second).sum())
    other = int((second & ~first).sum())
    total, term, tail = one + other, 1, 0
    for k in range(min(one, other) + 1):
        tail += term
        term = term * (total - k) // (k + 1)
    return {"first_only": one, "second_only": other, "p": min(1.0, 2 * tail / 2**total)}


def sign_flip(
    first: Scored, second: Scored, metric: str, seed: int
) -> dict[str, float | int] | None:
    """Exchange the two models' answers in random units and compare the difference with these.

    Args:
        first: answers of one model.
        second: of another, on the same units in the same order.
        metric: of both.
        seed: of the exchanges.

    Returns:
        `p`, two sided: the share of exchanges (none among them) whose difference is as large as
        the observed, and `flips`, how many were tried beside none: all 2^units - 1 of few units.
        None where the metric has no value, or the models were tried a different number of times.
    """
    if first.units != second.units:
        raise ValueError("paired answers must share their test units")
    if len({len(getattr(one, "tries", ())) for one in (first, second)}) > 1:
        return None
    joined = _joined(first, second, metric)
    units = first.units
    flips = FEWER_FLIPS if isinstance(first, LabelAnswers) and first.truth.size > MANY else FLIPS
    if units <= EXACT_UNITS:
        swap = (np.arange(2**units)[:, None] >> np.arange(units)) & 1
    else:
        generator = np.random.Generator(np.random.PCG64([seed, units, 4]))
        swap = generator.integers(0, 2, (flips + 1, units))
        swap[0] = 0
    own = np.concatenate([1 - swap, swap], 1)
    other = np.concatenate([swap, 1 - swap], 1)
    gap = np.mean([one.metrics(own)[metric] - one.metrics(other)[metric] for one in joined], 0)
    if not np.isfinite(gap[0]):
        return None
    kept = gap[np.isfinite(gap)]
    # the same sums in another order differ in their last digits
    as_large = np.abs(kept) >= np.abs(gap[0]) * (1 - 1e-9) - 1e-12
    return {"p": float(as_large.mean()), "flips": len(swap) - 1}


def _joined(first: Any, second: Any, metric: str) -> list[Scored]:
    """Both models' answers as one with twice the units; several for several tries."""
    if isinstance(first, TryAnswers):
        pairs = zip(first.tries, second.tries, strict=True)
        return [join(one, other, metric) for one, other in pairs]
    return [join(first, second, metric)]


@singledispatch
def join(first: Any, second: Any, metric: str) -> Scored:
    """Put the units of the second after those of the first."""
    raise TypeError(f"answers of {type(first).__name__} cannot be exchanged")


@join.register
def _(first: ClassAnswers, second: ClassAnswers, metric: str) -> Scored:
    return ClassAnswers(np.concatenate([first.sums, second.sums]), (metric,))


@join.register
def _(first: ValueAnswers, second: ValueAnswers, metric: str) -> Scored:
    return ValueAnswers(np.concatenate([first.sums, second.sums]))


@join.register
def _(first: QueryAnswers, second: QueryAnswers, metric: str) -> Scored:
    values = {metric: np.concatenate([first.values[metric], second.values[metric]])}
    return QueryAnswers(values, np.concatenate([first.unit, second.unit + first.units]))


@join.register
def _(first: PlaceAnswers, second: PlaceAnswers, metric: str) -> Scored:
    ways = min(first.km.shape[1], second.km.shape[1])
    km = np.concatenate([one.km[:, :ways] for one in (first, second)])
    return PlaceAnswers(km, np.concatenate([first.unit, second.unit + first.units]))


@join.register
def _(first: LabelAnswers, second: LabelAnswers, metric: str) -> Scored:
    # only the order of scores enters average precision: the models' own scales must not meet
    whole = metric == "map_micro"
    scores = [_order(one.scores, whole) for one in (first, second)]
    return LabelAnswers(
        np.concatenate([first.truth, second.truth]),
        np.concatenate(scores),
        np.concatenate([first.unit, second.unit + first.units]),
    )


def _order(scores: np.ndarray, whole: bool) -> np.ndarray:
    """Replace scores [N, K] by their mean ranks: among all, or in each column."""
    columns = [scores.ravel()] if whole else list(scores.T)
    places = []
    for column in columns:
        ranked = np.sort(column)
        low, high = (np.searchsorted(ranked, column, side=side) for side in ("left", "right"))
        places.append((low + high) / 2)
    return places[0].reshape(scores.shape) if whole else np.stack(places, 1)
