"""What benchmarks said while the run went: scores of online probes, with their intervals."""

from typing import Any

import numpy as np

from fm.page.html import Markup
from pretrain.report.charts import Chart, Line, draw
from pretrain.report.curves import marks
from pretrain.report.read import Record

PREFIX = "probe/"
_NAMES = ("benchmark", "protocol", "metric")


def probes(record: Record) -> dict[str, np.ndarray]:
    """Gather the probes of a run: lines of `probes.jsonl`, else figures `probe/NAME` of steps.

    Returns:
        name to `[n, 4]`: step, value, lower and upper end, NaN where there is no interval.
    """
    found: dict[str, dict[int, list[float]]] = {}
    for row in record.events.get("probes", []):
        if isinstance(row.get("step"), int) and isinstance(row.get("value"), int | float):
            name = " ".join(str(row[key]) for key in _NAMES if row.get(key))
            held = [_number(row.get(key)) for key in ("value", "low", "high")]
            found.setdefault(name, {})[row["step"]] = held
    logged = {name for name, _ in record.figures if name.startswith(PREFIX)} if not found else ()
    for name in logged:
        series = record.whole(name)
        assert series is not None
        nothing = [float("nan")] * 2
        found[name.removeprefix(PREFIX)] = {
            int(step): [float(value), *nothing]
            for step, value in zip(series.steps, series.values, strict=True)
        }
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
            "Scores of the weights of that step on the validation split, with 95 % intervals.",
            marks(record),
            linear=True,
            synced=True,
        )
        drawn.append(draw(chart))
    return drawn


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
