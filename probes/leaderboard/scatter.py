"""Score against cost: parameters, operations or throughput, on a logarithmic axis."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from fm.page.axis import Scale, scale
from fm.page.html import Markup, el
from probes.leaderboard import metrics
from probes.leaderboard.records import Record
from probes.leaderboard.table import Group

WIDTH, TALL = 340, 264
LEFT, RIGHT, TOP, FOOT = 46, 14, 26, 40
RADIUS = 9


def _cost(record: Record, key: str) -> float | None:
    value = (record.cost or {}).get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return None
    return float(value)


def parameters(record: Record) -> float | None:
    """Number of parameters, from the cost or the model; None for a floor."""
    held = _cost(record, "parameters") or record.model.parameters
    return float(held) if held else None


@dataclass(frozen=True)
class Cost:
    """One kind of cost: its name on the axis and where a result holds it."""

    name: str
    better: str
    of: Callable[[Record], float | None]


COSTS = (
    Cost("parameters", "fewer is cheaper", parameters),
    Cost("FLOPs a sample", "fewer is cheaper", lambda r: _cost(r, "flops")),
    Cost("samples a second", "more is cheaper", lambda r: _cost(r, "samples_per_second")),
)


def _decades(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis that hold all values: 1, 2 and 5 when it is short."""
    start, stop = math.floor(math.log10(low)), math.ceil(math.log10(high) + 1e-9)
    if stop - start > 2:
        return [10.0**e for e in range(start, stop + 1)]
    steps = [m * 10.0**e for e in range(start, stop + 1) for m in (1, 2, 5)]
    first = max((s for s in steps if s <= low * (1 + 1e-9)), default=steps[0])
    last = min((s for s in steps if s >= high * (1 - 1e-9)), default=steps[-1])
    if first == last:
        first, last = first / 2, last * 2
        return [first, last]
    return [s for s in steps if first <= s <= last]


def _aside(x: float, y: float, others: list[tuple[float, float]]) -> float:
    """Move a point to the right, or left at the border, until it covers no other."""
    step = 2 * RADIUS - 1
    for shift in (0, 1, -1, 2, -2, 3, -3):
        at = round(x + shift * step, 1)
        inside = LEFT + RADIUS <= at <= WIDTH - RIGHT + RADIUS
        if inside and all(abs(at - a) >= step or abs(y - b) >= step for a, b in others):
            return at
    return x


def _plot(group: Group, cost: Cost, on: Scale) -> Markup | None:
    found = [
        (number, row, held)
        for number, row in enumerate(group.rows, 1)
        if (held := cost.of(row.record)) is not None
    ]
    if len(found) < 2:
        return None
    ticks = _decades(min(x for *_, x in found), max(x for *_, x in found))
    across, up = math.log(ticks[-1] / ticks[0]), on.ticks[-1] - on.ticks[0]
    foot = TALL - FOOT

    def x(value: float) -> float:
        share = math.log(value / ticks[0]) / across
        return round(LEFT + 10 + share * (WIDTH - LEFT - RIGHT - 20), 1)

    def y(value: float) -> float:
        return round(foot - (value - on.ticks[0]) / up * (foot - TOP), 1)

    parts: list[Markup] = []
    ys: list[float] = []
    for tick in on.ticks:
        parts.append(el("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y(tick), y2=y(tick)))
        text = metrics.number(tick, on.digits)
        parts.append(el("text", text, x=LEFT - 6, y=y(tick) + 4, text_anchor="end"))
    for tick in ticks:
        parts.append(el("line", class_="grid", x1=x(tick), x2=x(tick), y1=TOP, y2=foot))
        parts.append(
            el("text", metrics.compact(tick), x=x(tick), y=foot + 16, text_anchor="middle")
        )
    score_name = metrics.label(group.primary) + ("" if group.higher else " (lower is better)")
    parts.append(el("text", score_name, class_="name", x=0, y=12))
    middle = (LEFT + WIDTH - RIGHT) / 2
    axis_name = f"{cost.name} ({cost.better})"
    parts.append(el("text", axis_name, class_="name", x=middle, y=TALL - 6, text_anchor="middle"))
    # the best are placed first and drawn last
    placed: dict[int, float] = {}
    for number, row, held in found:
        placed[number] = _aside(x(held), y(row.value), list(zip(placed.values(), ys, strict=True)))
        ys.append(y(row.value))
    for number, row, held in sorted(found, key=lambda item: -item[0]):
        score, across_at = row.record.metrics[group.primary], placed[number]
        said = f"{row.name}: {metrics.number(score.value)}, {metrics.compact(held)} {cost.name}"
        inner = [el("title", said)]
        if score.low is not None and score.high is not None:
            inner.append(
                el(
                    "line", class_="whisker", x1=across_at, x2=across_at, y1=y(score.low),
                    y2=y(score.high),
                )
            )  # fmt: skip
        inner.append(el("circle", class_="mark", cx=across_at, cy=y(score.value), r=RADIUS))
        inner.append(
            el(
                "text", str(number), class_="number", x=across_at, y=y(score.value) + 4,
                text_anchor="middle",
            )
        )  # fmt: skip
        parts.append(el("g", *inner, class_=row.record.model.kind))
    words = f"{metrics.label(group.primary)} against {cost.name} for {group.title}"
    return el(
        "svg", *parts, role="img", aria_label=words, class_="scatter",
        viewBox=f"0 0 {WIDTH} {TALL}",
    )  # fmt: skip


def against_cost(group: Group) -> Markup | None:
    """Draw the score against each cost that at least two results of a group tell.

    Points carry their place in the group's table; one that would cover another is moved aside.

    Returns:
        None when no cost is known of two results.
    """
    scores = [row.record.metrics[group.primary] for row in group.rows]
    on = scale([v for s in scores for v in (s.value, s.low, s.high)])
    plots = [drawn for cost in COSTS if (drawn := _plot(group, cost, on)) is not None]
    if not plots:
        return None
    unknown = sum(all(cost.of(row.record) is None for cost in COSTS) for row in group.rows)
    note = (
        "The numbers are the places in the table above; a point that would cover another is "
        "moved aside."
    )
    if unknown:
        note += f" Not drawn: {unknown} without a known cost, such as floors that run no model."
    return el("figure", el("div", *plots, class_="plots"), el("figcaption", note))
