"""Line charts as inline SVG that follows the width of the page.

The plot's ground is stretched (`preserveAspectRatio="none"`) while lines keep their width, and
texts are placed in percent, so that they keep their size on a phone. Colours are classes of the
page's style; dashes differ too, so colour is never the only sign. What the pointer or the arrow
keys read out lies in `data-` attributes (`report.js`).
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fm.page.axis import scale
from fm.page.html import Markup, el, join
from pretrain.report.names import short

HEIGHT = 190
_GROUND = 1000
COLOURS = 8


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        name: in the legend.
        x: `[n]`, rising; NaN breaks the line.
        y: `[n]`.
        low: `[n]` lower end of the band around it, or of the points' intervals.
        high: `[n]` upper end.
        colour: number of its colour; lines of one thing share it over the charts of a page.
        dashed: draw it dashed.
        points: draw points (with their intervals) too.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    colour: int = 0
    dashed: bool = False
    points: bool = False


@dataclass(frozen=True)
class Chart:
    """A plot with its axes.

    Attributes:
        title: what is drawn, with its unit.
        lines: at least one with a point.
        span: ends of the horizontal axis.
        across: what the horizontal axis is.
        note: below the plot.
        marks: places on the horizontal axis with a word each, such as resumes.
        height: of the plot in CSS pixels.
        include: values that the vertical axis must reach.
        linear: never choose a logarithmic axis.
        synced: the reading line moves with that of the page's other synced charts.
    """

    title: str
    lines: Sequence[Line]
    span: tuple[float, float]
    across: str
    note: str = ""
    marks: Sequence[tuple[float, str]] = ()
    height: int = HEIGHT
    include: Sequence[float] = ()
    linear: bool = False
    synced: bool = False
    unit: str = field(default="")


@dataclass(frozen=True)
class _Axis:
    ticks: tuple[float, ...]
    logarithmic: bool

    def share(self, value: np.ndarray) -> np.ndarray:
        """Place values from 0 (the lowest tick) to 1."""
        ends = np.array([self.ticks[0], self.ticks[-1]])
        if self.logarithmic:
            value, ends = np.log(np.maximum(value, ends[0])), np.log(ends)
        return np.clip((value - ends[0]) / (ends[1] - ends[0]), 0, 1)


def draw(chart: Chart) -> Markup:
    """Draw a chart as a figure with title, legend, plot and note."""
    up = _upright(chart)
    ground = [_path(line, chart, up) for line in chart.lines]
    legend = _legend(chart.lines)
    plot = el(
        "div",
        _left(up, chart.height),
        el(
            "div",
            el(
                "svg",
                *_grid(chart, up),
                el(
                    "svg", *ground, class_="ground", viewBox=f"0 0 {_GROUND} {_GROUND}",
                    preserveAspectRatio="none", width="100%", height="100%",
                ),
                *[p for line in chart.lines if line.points for p in _points(line, chart, up)],
                el("line", class_="cursor", x1="0", x2="0", y1=0, y2=chart.height),
                width="100%", height=chart.height, aria_hidden="true",
            ),
            class_="plot", tabindex=0, role="slider", aria_label=f"{chart.title}: read values",
            aria_valuemin=f"{chart.span[0]:g}", aria_valuemax=f"{chart.span[1]:g}",
            aria_valuenow=f"{chart.span[1]:g}", aria_valuetext=_said(chart),
            data_lines=_data(chart), data_across=chart.across.split(" (")[0],
            data_unit=chart.unit, data_synced=chart.synced,
        ),
        _below(chart),
        class_="frame",
    )  # fmt: skip
    title = f"{chart.title} ({chart.unit})" if chart.unit else chart.title
    scale_word = [el("span", "logarithmic", class_="tag")] if up.logarithmic else []
    head = el("p", el("strong", title), *scale_word, class_="chart-title")
    note = [el("figcaption", chart.note)] if chart.note else []
    # over the steps the last values are news; of a spectrum they are not
    readout = el("p", _said(chart) if chart.synced else "", class_="readout", aria_hidden="true")
    return el("figure", head, legend, plot, readout, *note, class_="chart")


def _values(chart: Chart) -> np.ndarray:
    held = [
        values
        for line in chart.lines
        for values in (line.y, line.low, line.high)
        if values is not None
    ]
    found = np.concatenate(held)
    return found[np.isfinite(found)]


def _upright(chart: Chart) -> _Axis:
    held = _values(chart)
    low, high = (float(held.min()), float(held.max())) if len(held) else (0.0, 1.0)
    if not chart.linear and low > 0 and high / low > 40:
        return _Axis(_decades(low, high), True)
    return _Axis(scale([low, high], include=list(chart.include)).ticks, False)


def _decades(low: float, high: float) -> tuple[float, ...]:
    start, stop = math.floor(math.log10(low)), math.ceil(math.log10(high) - 1e-9)
    step = max(1, -(-(stop - start) // 5))
    stop = start + step * -(-(stop - start) // step)
    return tuple(10.0**power for power in range(start, stop + 1, step))


def _across(x: np.ndarray, chart: Chart) -> np.ndarray:
    low, high = chart.span
    return np.clip((x - low) / max(high - low, 1e-12), 0, 1)


def _path(line: Line, chart: Chart, up: _Axis) -> Markup:
    x = _across(line.x, chart) * _GROUND
    parts = []
    low, high = line.low, line.high
    if low is not None and high is not None and not line.points and bool((high > low).any()):
        parts.append(_band(x, up.share(low), up.share(high)))
    y = (1 - up.share(line.y)) * _GROUND
    words, pen = [], "M"
    for a, b in zip(x, y, strict=True):
        if not (math.isfinite(a) and math.isfinite(b)):
            pen = "M"
            continue
        words.append(f"{pen}{a:.1f} {b:.1f}")
        pen = "L"
    dash = " dashed" if line.dashed else ""
    parts.append(el("path", class_=f"line{dash}", d="".join(words)))
    return el("g", *parts, class_=f"c{line.colour % COLOURS}")


def _band(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> Markup:
    """Fill between two curves, piece by piece where they are broken."""
    known = np.isfinite(x) & np.isfinite(low) & np.isfinite(high)
    cuts = np.flatnonzero(np.diff(known.astype(int))) + 1
    pieces = []
    for run in np.split(np.arange(len(x)), cuts):
        if not known[run[0]]:
            continue
        there, back = (
            [f"{a:.1f} {(1 - b) * _GROUND:.1f}" for a, b in zip(x[run], side[run], strict=True)]
            for side in (high, low)
        )
        pieces.append(f"M{'L'.join(there + back[::-1])}Z")
    return el("path", class_="band", d="".join(pieces))


def _points(line: Line, chart: Chart, up: _Axis) -> list[Markup]:
    places = _across(line.x, chart) * 100
    made = []
    for number, (x, y) in enumerate(zip(places, line.y, strict=True)):
        if not (math.isfinite(x) and math.isfinite(y)):
            continue
        at, high = f"{x:.2f}%", chart.height
        inner = []
        if line.low is not None and line.high is not None:
            ends = (1 - up.share(np.array([line.low[number], line.high[number]]))) * high
            if np.isfinite(ends).all():
                inner.append(
                    el("line", class_="whisker", x1=at, x2=at, y1=f"{ends[0]:.1f}",
                       y2=f"{ends[1]:.1f}")
                )  # fmt: skip
        middle = float((1 - up.share(np.array([y])))[0] * high)
        inner.append(el("circle", class_="dot", cx=at, cy=f"{middle:.1f}", r=3))
        hollow = " hollow" if line.dashed else ""
        made.append(el("g", *inner, class_=f"c{line.colour % COLOURS}{hollow}"))
    return made


def _grid(chart: Chart, up: _Axis) -> list[Markup]:
    rows = (1 - up.share(np.array(up.ticks))) * chart.height
    made = [
        el("line", class_="gridline", x1="0", x2="100%", y1=f"{y:.1f}", y2=f"{y:.1f}") for y in rows
    ]
    for place, word in chart.marks:
        x = f"{float(_across(np.array([place]), chart)[0]) * 100:.2f}%"
        line = el("line", class_="event", x1=x, x2=x, y1=0, y2=chart.height)
        made.append(el("g", el("title", word), line))
    return made


def _left(up: _Axis, height: int) -> Markup:
    rows = (1 - up.share(np.array(up.ticks))) * height
    labels = [
        el("text", short(tick), x="100%", y=f"{y + 4:.1f}", text_anchor="end")
        for tick, y in zip(up.ticks, rows, strict=True)
    ]
    return el("svg", *labels, class_="upright", width="100%", height=height, aria_hidden="true")


def _below(chart: Chart) -> Markup:
    low, high = chart.span
    ticks = [t for t in scale([low, high]).ticks if low <= t <= high] or [low, high]
    labels = [
        el(
            "text", short(tick), x=f"{float(_across(np.array([tick]), chart)[0]) * 100:.2f}%",
            y=15, text_anchor="middle",
        )
        for tick in ticks
    ]  # fmt: skip
    name = el("text", chart.across, x="100%", y=32, text_anchor="end")
    return el("svg", *labels, name, class_="along", width="100%", height=36, aria_hidden="true")


def _legend(lines: Sequence[Line]) -> Markup:
    if len(lines) == 1 and not lines[0].name:
        return Markup("")
    items = []
    for line in lines:
        dash = " dashed" if line.dashed else ""
        stroke = el("line", class_=f"line{dash}", x1=1, x2=21, y1=6, y2=6)
        dot = [el("circle", class_="dot", cx=11, cy=6, r=3)] if line.points else []
        hollow = " hollow" if line.dashed else ""
        key = el("svg", stroke, *dot, width=22, height=12, aria_hidden="true",
                 class_=f"c{line.colour % COLOURS}{hollow}")  # fmt: skip
        items.append(el("li", key, line.name))
    return el("ul", *items, class_="keys")


def _data(chart: Chart) -> str:
    """Write the points for the reading line, short and alike on every machine."""
    made = []
    for line in chart.lines:
        kept = np.isfinite(line.x) & np.isfinite(line.y)
        x = [round(float(v), 2) for v in line.x[kept]]
        made.append(
            {
                "name": line.name,
                "x": [int(v) if v == int(v) else v for v in x],
                "y": [float(f"{v:.4g}") for v in line.y[kept]],
            }
        )
    return json.dumps(made, ensure_ascii=False, separators=(",", ":"))


def _said(chart: Chart) -> str:
    """Say the last values, for who hears the page."""
    words = []
    for line in chart.lines:
        kept = np.flatnonzero(np.isfinite(line.y))
        if len(kept):
            unit = f" {chart.unit}" if chart.unit else ""
            words.append(f"{line.name or chart.title} {short(float(line.y[kept[-1]]))}{unit}")
    return "; ".join(words[:12])


def grid(charts: Sequence[Markup]) -> Markup:
    """Put charts beside each other where there is room."""
    return el("div", join(charts), class_="charts")
