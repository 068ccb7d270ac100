"""What benchmarks said while the run went: scores of online probes, with their intervals."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fm.page.html import Markup
from pretrain.report.charts import Chart, Line, draw
from pretrain.report.curves import marks
from pretrain.report.read import Record, leaves

_PREFIX = "probe/"
_NAMES = ("probe", "name", "benchmark", "protocol", "metric")


def probes(record: Record) -> dict[str, np.ndarray]:
    """Gather the probes of a run.

    They are lines of `probes.jsonl`, each with a step and a `value` (`low`, `high` of its
    interval), or figures `probe/NAME` among the metrics (`probe/NAME/low`, `probe/NAME/high`).

    Returns:
        name to `[n, 4]`: step, value, lower and upper end, NaN where there is no interval.
    """
    found: dict[str, dict[int, list[float]]] = {}
    for row in record.events.get("probes", []):
        step = row.get("step")
        if isinstance(step, int):
            for name, values in _scores(row):
                found.setdefault(name, {})[step] = values
    for name in sorted({n for n, _ in record.figures if n.startswith(_PREFIX)}):
        short = name.removeprefix(_PREFIX)
        if short.endswith(("/low", "/high")) or short in found:
            continue
        series = record.whole(name)
        ends = [record.whole(f"{name}/{end}") for end in ("low", "high")]
        for step, value in zip(*_pair(series), strict=True):
            held = [value, *(_value_at(end, step) for end in ends)]
            found.setdefault(short, {})[int(step)] = held
    return {
        name: np.array([(step, *values) for step, values in sorted(held.items())])
        for name, held in sorted(found.items())
    }


def charts(record: Record) -> list[Markup]:
    """Draw the probes, those of one metric in one chart, on the axis of the loss."""
    found = probes(record)
    groups: dict[str, list[str]] = {}
    for name in found:
        groups.setdefault(name.rpartition(" ")[2] if " " in name else "", []).append(name)
    drawn = []
    for metric, names in groups.items():
        lines = []
        for colour, name in enumerate(names):
            x, y, low, high = found[name].T
            label = name.removesuffix(f" {metric}") if metric else name
            lines.append(Line(label, x, y, low, high, colour, points=True))
        chart = Chart(
            f"Online probes: {metric}" if metric else "Online probes",
            lines,
            (0.0, float(max(record.done, 1))),
            "step",
            "Scores of the model as it was at that step; intervals as the probe gives them.",
            marks(record),
            linear=True,
            synced=True,
        )
        drawn.append(draw(chart))
    return drawn


def _scores(row: Mapping[str, Any]) -> list[tuple[str, list[float]]]:
    """Read the scores of a line: its own, or those of several probes nested in it."""
    value = row.get("value", row.get("score"))
    if isinstance(value, int | float) and not isinstance(value, bool):
        words = [str(row[key]) for key in _NAMES if row.get(key)]
        interval = row.get("interval")
        pair = interval if isinstance(interval, list) and len(interval) == 2 else [None, None]
        ends = [row.get("low", pair[0]), row.get("high", pair[1])]
        return [(" ".join(words) or "probe", [float(value), *map(_number, ends)])]
    held = dict(leaves(row))
    found = []
    for name, item in held.items():
        head, _, last = name.rpartition("/")
        if last in ("value", "score") and isinstance(item, int | float):
            ends = [held.get(f"{head}/low"), held.get(f"{head}/high")]
            found.append((head.removeprefix(_PREFIX), [float(item), *map(_number, ends)]))
    return found


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _pair(series: Any) -> tuple[np.ndarray, np.ndarray]:
    empty = np.array([])
    return (empty, empty) if series is None else (series.steps, series.values)


def _value_at(series: Any, step: int) -> float:
    if series is None:
        return float("nan")
    at = np.flatnonzero(series.steps == step)
    return float(series.values[at[-1]]) if len(at) else float("nan")
