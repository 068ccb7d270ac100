"""One number a model over several benchmarks: mean rank, IQM and normalised means.

Three rules keep such numbers honest. Only complete tables are summed up: a row that lacks a cell is
left out and named, because a mean over other benchmarks is another mean. Copies of one dataset
(version 1 and 2 of a set, its spatial split) form a group that counts once. Scores are normalised
to 0 at the random-initialised backbones and 1 at the best row before they are averaged, so that
a benchmark with a wide range does not decide alone.

Everything here is a pure function of the scores; nothing reads results.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fm.errors import UsageError

Array = NDArray[np.float64]
Runs = Mapping[str, Mapping[str, Sequence[float]]]
"""Row to benchmark to the scores of its runs (one a seed)."""
STATISTICS = ("mean_rank", "mean", "iqm")


@dataclass(frozen=True)
class Spread:
    """A value with its interval; both ends are None where nothing was repeated."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Aggregate:
    """What `aggregate` found.

    Attributes:
        rows: name to `mean_rank` (1 is best), `mean` and `iqm` of the normalised scores, in the
            order given.
        benchmarks: that entered, in the order given.
        groups: of them, in the order of first appearance; each counts once.
        left_out: what did not enter, and why in a few words: rows, or benchmarks.
    """

    rows: dict[str, dict[str, Spread]]
    benchmarks: tuple[str, ...]
    groups: tuple[str, ...]
    left_out: dict[str, str]


def aggregate(
    runs: Runs,
    *,
    reference: Iterable[str],
    groups: Mapping[str, str] | None = None,
    lower_is_better: Iterable[str] = (),
    drop: Literal["rows", "benchmarks"] = "rows",
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> Aggregate:
    """Sum up a table of rows and benchmarks.

    Args:
        runs: row to benchmark to the scores of its runs.
        reference: the rows of random-initialised backbones; their mean in a benchmark is 0.
        groups: benchmark to the dataset it is a copy of; its own name where it is missing.
        lower_is_better: benchmarks whose score is an error.
        drop: what leaves when a cell is empty: its row, or its benchmark.
        seed: of the bootstrap.
        resamples: of the bootstrap.
        level: of the intervals.

    Returns:
        the table's sums. Intervals are the percentile bootstrap stratified by cell: every resample
        draws the runs of each cell with replacement (Agarwal et al., arXiv 2108.13264, section 4),
        the zero and the one of the normalisation staying where they are. They say what other
        seeds would change, not other benchmarks; None where no cell that counts has two runs.

    Raises:
        UsageError: no reference row with scores, or nothing complete is left.
    """
    names = tuple(dict.fromkeys(b for cells in runs.values() for b in cells))
    rows, columns, left_out = complete(runs, names, drop)
    zero_rows = [name for name in reference if name in rows]
    if not zero_rows:
        raise UsageError(
            "no row of a random-initialised backbone is complete: there is no zero to normalise "
            "by; probe one on the same benchmarks"
        )
    sign = {b: -1.0 if b in set(lower_is_better) else 1.0 for b in columns}
    cells = [[sign[b] * np.asarray(runs[r][b], np.float64) for b in columns] for r in rows]
    means = np.array([[cell.mean() for cell in row] for row in cells])
    low = means[[rows.index(r) for r in zero_rows]].mean(0)
    high = means.max(0)
    flat = [b for b, width in zip(columns, high - low, strict=True) if width <= 0]
    if flat:
        # nothing is better than random weights: there is no scale on which to place a row
        left_out |= dict.fromkeys(flat, "no row is above the random-initialised backbones")
        kept = [i for i, b in enumerate(columns) if b not in flat]
        columns = tuple(columns[i] for i in kept)
        cells, low, high = [[row[i] for i in kept] for row in cells], low[kept], high[kept]
    if not columns:
        raise UsageError("no benchmark is left on which a row is above the random initialisation")
    label = [(groups or {}).get(b, b) for b in columns]
    point = _statistics(cells, label, low, high)
    spread = _bootstrap(cells, label, low, high, seed, resamples)
    found: dict[str, dict[str, Spread]] = {}
    for i, row in enumerate(rows):
        repeated = any(len(cell) > 1 for cell in cells[i])
        found[row] = {}
        for name in STATISTICS:
            # other rows' seeds move a rank, a row's own seeds move its means
            moved = repeated or (
                name == "mean_rank" and any(len(c) > 1 for other in cells for c in other)
            )
            value, drawn = float(point[name][i]), spread[name][:, i]
            ends = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]).tolist()
            found[row][name] = Spread(value, *(ends if moved else (None, None)))
    return Aggregate(found, columns, tuple(dict.fromkeys(label)), left_out)


def complete(
    runs: Runs, benchmarks: Sequence[str], drop: Literal["rows", "benchmarks"]
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, str]]:
    """Find the part of a table without a gap.

    Args:
        runs: row to benchmark to scores; an absent or empty cell is a gap, and so is NaN.
        benchmarks: the columns.
        drop: `rows` leaves out each row with a gap, `benchmarks` each benchmark with one.

    Returns:
        the rows and the benchmarks that stay, and what left with the reason.
    """
    gaps = {
        row: [b for b in benchmarks if not len(cells.get(b, ())) or not _finite(cells[b])]
        for row, cells in runs.items()
    }
    if drop == "rows":
        left = {
            row: f"no score on {', '.join(missing)}" for row, missing in gaps.items() if missing
        }
        return tuple(r for r in runs if r not in left), tuple(benchmarks), left
    lacking = {b: [row for row in runs if b in gaps[row]] for b in benchmarks}
    left = {b: f"no score of {', '.join(names)}" for b, names in lacking.items() if names}
    return tuple(runs), tuple(b for b in benchmarks if b not in left), left


def ranks(scores: Array) -> Array:
    """Rank rows within each column, 1 the best; equal scores share their mean rank.

    Args:
        scores: [..., R, B], larger is better.

    Returns:
        [..., R, B].
    """
    one, other = scores[..., :, None, :], scores[..., None, :, :]
    better = (other > one).sum(-2)
    equal = (other == one).sum(-2)  # itself too
    return np.asarray(1 + better + (equal - 1) / 2, np.float64)


def by_group(values: Array, groups: Sequence[str]) -> Array:
    """Average the columns [..., B] of each group; [..., G] in the order of first appearance."""
    names = list(dict.fromkeys(groups))
    share = np.zeros((len(groups), len(names)))
    for i, name in enumerate(groups):
        share[i, names.index(name)] = 1 / list(groups).count(name)
    return np.asarray(values @ share)


def trimmed_mean(values: Array, weights: Array, cut: float = 0.25) -> Array:
    """Weighted mean of what is left after `cut` of the weight is taken off each end.

    The interquartile mean for `cut = 0.25`: the value at a border counts by the share of its weight
    that lies inside. With equal weights and a number of values that 4 divides this is
    `scipy.stats.trim_mean(values, 0.25)`.

    Args:
        values: [..., n].
        weights: [n] positive.
        cut: share of the weight that each end loses, below 0.5.

    Returns:
        [...].
    """
    order = np.argsort(values, -1, kind="stable")
    ranked = np.take_along_axis(values, order, -1)
    share = (weights / weights.sum())[order]
    upper = np.cumsum(share, -1)
    inside = np.minimum(upper, 1 - cut) - np.maximum(upper - share, cut)
    inside = np.maximum(inside, 0)
    return np.asarray((ranked * inside).sum(-1) / inside.sum(-1))


def _statistics(
    cells: list[list[Array]], label: Sequence[str], low: Array, high: Array
) -> dict[str, Array]:
    """Statistics [..., R] of cells `[row][benchmark]` of runs [..., S]; S may differ."""
    means = np.stack([np.stack([cell.mean(-1) for cell in row], -1) for row in cells], -2)
    scaled = (means - low) / (high - low)
    iqm = []
    for row in cells:
        values = [(c - low[j]) / (high[j] - low[j]) for j, c in enumerate(row)]
        # a group weighs 1 whatever the number of its copies and of their runs
        weights = [
            np.full(v.shape[-1], 1 / (list(label).count(label[j]) * v.shape[-1]))
            for j, v in enumerate(values)
        ]
        iqm.append(trimmed_mean(np.concatenate(values, -1), np.concatenate(weights)))
    return {
        "mean_rank": by_group(ranks(means), label).mean(-1),
        "mean": by_group(scaled, label).mean(-1),
        "iqm": np.stack(iqm, -1),
    }


def _bootstrap(
    cells: list[list[Array]],
    label: Sequence[str],
    low: Array,
    high: Array,
    seed: int,
    resamples: int,
) -> dict[str, Array]:
    generator = np.random.Generator(np.random.PCG64([seed, resamples]))
    drawn = [
        [cell[generator.integers(0, len(cell), (resamples, len(cell)))] for cell in row]
        for row in cells
    ]
    return _statistics(drawn, label, low, high)


def _finite(values: Sequence[float]) -> bool:
    return bool(np.isfinite(np.asarray(values, np.float64)).all())
