"""Forest plots: a mark with its interval on a line for each result, as lists with inline SVG.

Positions along the axis are percentages, so a plot follows the width of a phone or a desk screen
while marks and text keep their size. Colours are classes of the page's style sheet; shapes differ
by kind, so colour is never the only sign. Bytes depend on nothing but the scores.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fm.page.axis import Scale
from fm.page.html import Markup, el
from probes.leaderboard import metrics

HEIGHT = 24
_SHAPES = {
    "pretrained": "M-5 0A5 5 0 1 0 5 0A5 5 0 1 0-5 0Z",
    "supervised": "M-4.5-4.5H4.5V4.5H-4.5Z",
    "random-init": "M-4.5 0A4.5 4.5 0 1 0 4.5 0A4.5 4.5 0 1 0-4.5 0Z",
    "floor": "M0-5.5 5.5 0 0 5.5-5.5 0Z",
}


@dataclass(frozen=True)
class Mark:
    """One result on a line; `kind` gives its shape, `tone` another colour."""

    value: float
    low: float | None
    high: float | None
    kind: str
    tone: str = ""


def ends(marks: Iterable[Mark]) -> list[float | None]:
    """All numbers of some marks, for `scale`."""
    return [value for mark in marks for value in (mark.value, mark.low, mark.high)]


def _mark(mark: Mark, on: Scale, middle: int) -> list[Markup]:
    parts = []
    if mark.low is not None and mark.high is not None:
        low, high = on.at(mark.low), on.at(mark.high)
        parts.append(el("line", class_="whisker", x1=low, x2=high, y1=middle, y2=middle))
        parts += [
            el("line", class_="whisker", x1=end, x2=end, y1=middle - 3, y2=middle + 3)
            for end in (low, high)
        ]
    shape = el("path", class_="mark", d=_SHAPES[mark.kind])
    parts.append(el("svg", shape, x=on.at(mark.value), y=middle, class_="point"))
    return [el("g", *parts, class_=f"{mark.kind} {mark.tone}".strip())]


def track(marks: Sequence[Mark], on: Scale, reference: float | None = None) -> Markup:
    """Draw marks on one line.

    The numbers stand beside it as text, so it is hidden from screen readers.

    Args:
        marks: drawn in turn, the last on top.
        on: the axis.
        reference: a dashed line across, such as the random initialisation.
    """
    parts = [el("line", class_="grid", x1=on.at(t), x2=on.at(t), y1=0, y2=HEIGHT) for t in on.ticks]
    if reference is not None:
        x = on.at(reference)
        parts.append(el("line", class_="reference", x1=x, x2=x, y1=0, y2=HEIGHT))
    for mark in marks:
        parts += _mark(mark, on, HEIGHT // 2)
    return el("svg", *parts, class_="track", width="100%", height=HEIGHT, aria_hidden="true")


def axis(on: Scale) -> Markup:
    """Write the numbers of the ticks."""
    labels = [
        el(
            "text", metrics.number(tick, on.digits), class_="tick", x=on.at(tick), y=14,
            text_anchor="middle",
        )
        for tick in on.ticks
    ]  # fmt: skip
    return el("svg", *labels, class_="track", width="100%", height=18, aria_hidden="true")


@dataclass(frozen=True)
class Line:
    """One line of a forest plot: what it is, where it lies, what it says."""

    name: Markup
    mark: Mark
    text: Markup
    kind: str


def forest(
    lines: Sequence[Line], on: Scale, caption: str, reference: float | None = None
) -> Markup:
    """Draw a forest plot: a list, so that its names and numbers are read as text.

    Args:
        lines: from above.
        on: the axis, written below.
        caption: what the axis is.
        reference: a dashed line through all lines.
    """
    items = [
        el(
            "li",
            el("span", line.name, class_="name"),
            track([line.mark], on, reference),
            el("span", line.text, class_="figure"),
            class_=line.kind,
        )
        for line in lines
    ]
    foot = el("span", caption, class_="caption")
    below = el("div", foot, axis(on), class_="axis")
    return el("div", el("ol", *items), below, class_="forest")


def legend(kinds: Iterable[str], *, reference: str = "") -> Markup:
    """Say what the shapes are, and the dashed line when there is one."""
    words = {
        "pretrained": "pretrained",
        "supervised": "supervised",
        "random-init": "random init",
        "floor": "floor",
    }
    present = set(kinds)
    items = []
    for kind, word in words.items():
        if kind in present:
            point = el("svg", el("path", class_="mark", d=_SHAPES[kind]), x=7, y=7, class_="point")
            key = el("svg", point, class_="key", width=14, height=14, aria_hidden="true")
            items.append(el("li", key, word, class_=kind))
    if reference:
        line = el("line", class_="reference", x1=7, x2=7, y1=0, y2=14)
        key = el("svg", line, class_="key", width=14, height=14, aria_hidden="true")
        items.append(el("li", key, reference))
    return el("ul", *items, class_="legend")
