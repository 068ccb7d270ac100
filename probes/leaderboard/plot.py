"""A bar plot with intervals as inline SVG, in bytes that depend on nothing but the scores.

Positions along the score axis are percentages, so the plot follows the width of a phone or a
desk screen while its text keeps its size. Colours are classes of the page's style sheet.
"""

import math
from html import escape

from probes.leaderboard import metrics
from probes.leaderboard.table import Group

ROW = 40
"""Height of one bar with its label, in CSS pixels."""
_TOP, _FOOT, _BAR = 4, 26, 10


def _nice_step(span: float) -> float:
    """Return 1, 2, 2.5 or 5 times a power of ten that cuts `span` into four or five parts."""
    power = 10.0 ** math.floor(math.log10(span / 4))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if span / (m * power) <= 5)


def axis(group: Group) -> list[float]:
    """Choose the ticks: always with zero, to 1 for scores that are fractions.

    Returns:
        ascending ticks; the first and last are the ends of the axis.
    """
    values = [0.0]
    for row in group.rows:
        score = row.record.metrics[group.primary]
        values += [v for v in (score.value, score.low, score.high) if v is not None]
    low, high = min(values), max(values)
    if group.higher and low >= 0 and high <= 1:
        return [0.0, 0.25, 0.5, 0.75, 1.0]
    if high == low:
        high = low + 1.0
    step = _nice_step(high - low)
    start, stop = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [at * step for at in range(start, stop + 1)]


def bars(group: Group) -> str:
    """Draw one bar a result, best first, with its interval as a whisker.

    Args:
        group: the rows to draw.

    Returns:
        an `<svg>` element; a dashed line marks the random-initialised backbone when the group
        has exactly one.
    """
    ticks = axis(group)
    height = _TOP + ROW * len(group.rows) + _FOOT

    def at(value: float) -> str:
        return f"{100 * (value - ticks[0]) / (ticks[-1] - ticks[0]):.2f}%"

    def width(a: float, b: float) -> str:
        return f"{100 * abs(b - a) / (ticks[-1] - ticks[0]):.2f}%"

    foot = height - _FOOT
    name = metrics.label(group.primary)
    words = f"Bar plot of {name} for {group.title}; the table below holds the same numbers."
    parts = [
        f'<svg class="bars" role="img" aria-label="{escape(words)}" width="100%" '
        f'height="{height}" xmlns="http://www.w3.org/2000/svg">'
    ]
    for index, tick in enumerate(ticks):
        anchor = {0: "start", len(ticks) - 1: "end"}.get(index, "middle")
        parts.append(
            f'<line class="grid" x1="{at(tick)}" x2="{at(tick)}" y1="{_TOP}" y2="{foot}"/>'
            f'<text class="tick" x="{at(tick)}" y="{height - 8}" text-anchor="{anchor}">'
            f"{metrics.number(tick, 2)}</text>"
        )
    baseline = [row.value for row in group.rows if row.record.model.kind == "random-init"]
    reference = baseline[0] if len(baseline) == 1 else None
    for index, row in enumerate(group.rows):
        score = row.record.metrics[group.primary]
        top = _TOP + index * ROW
        bar = top + 20
        middle = bar + _BAR // 2
        kind = row.record.model.kind
        shown = f"{metrics.number(score.value)} {metrics.interval(score.low, score.high)}".strip()
        parts.append(
            f'<g class="{kind}"><text class="name" x="0" y="{top + 14}">{escape(row.name)}</text>'
            f'<text class="score" x="100%" y="{top + 14}" text-anchor="end">{shown}</text>'
            f'<rect class="bar" x="{at(min(0.0, score.value))}" y="{bar}" '
            f'width="{width(0.0, score.value)}" height="{_BAR}"/>'
        )
        if score.low is not None and score.high is not None:
            low, high = at(score.low), at(score.high)
            parts.append(
                f'<line class="whisker" x1="{low}" x2="{high}" y1="{middle}" y2="{middle}"/>'
            )
            parts += [
                f'<line class="whisker" x1="{end}" x2="{end}" y1="{middle - 4}" y2="{middle + 4}"/>'
                for end in (low, high)
            ]
        if reference is not None:
            x = at(reference)
            parts.append(
                f'<line class="reference" x1="{x}" x2="{x}" y1="{bar - 2}" y2="{bar + _BAR + 8}"/>'
            )
        parts.append("</g>")
    parts.append("</svg>")
    return "".join(parts)
