"""Per-class tables and confusion matrices, shaded by value."""

from collections.abc import Sequence
from typing import Any

from fm.page.html import MISSING, Markup, el, scroll, small_table
from probes.leaderboard import metrics
from probes.leaderboard.records import Record
from probes.leaderboard.table import BASELINES, Group

MOST_CLASSES = 50
"""Confusion matrices larger than this are left to the JSON."""
MOST_COLUMNS = 8
"""Models in the table that compares classes."""
_PREFERRED = ("iou", "f1", "ap", "r2", "rmse", "recall", "score")


def shade(share: float) -> str:
    """Class of a background, `h0` to `h9`, for a value from 0 to 1."""
    return f"h{min(9, max(0, int(share * 10)))}"


def _named(record: Record) -> list[tuple[str, dict[str, Any]]]:
    """Per-class rows by name, from either form a result may hold."""
    classes = record.benchmark.classes or ()
    found = []
    for at, item in enumerate(record.per_class or ()):
        if isinstance(item, dict):
            name = str(item.get("class", classes[at] if at < len(classes) else at))
            found.append((name, {k: v for k, v in item.items() if k != "class"}))
        else:
            found.append((classes[at] if at < len(classes) else str(at), {"score": item}))
    return found


def _cell(value: Any) -> Any:
    return metrics.number(value) if isinstance(value, float) else value


def per_class(record: Record) -> Markup:
    """All that one result says of each class."""
    rows = _named(record)
    if not rows:
        return el("p", "No per-class scores.")
    keys = list(dict.fromkeys(key for _, item in rows for key in item))
    body = [[name, *(_cell(item.get(key)) for key in keys)] for name, item in rows]
    return small_table(["class", *keys], body, "Per class, on test")


def _shaded(value: Any) -> Markup:
    if not isinstance(value, int | float):
        return el("td", MISSING)
    known = 0 <= value <= 1
    return el("td", metrics.number(float(value)), class_=shade(value) if known else None)


def compared(group: Group) -> Markup | None:
    """One score of each class for the best models and floors of a group.

    Returns:
        None when no result says anything of its classes.
    """
    rows = [(row, dict(_named(row.record))) for row in group.rows if row.record.per_class]
    if not rows:
        return None
    held = {key for _, classes in rows for item in classes.values() for key in item}
    key = next((name for name in _PREFERRED if name in held), min(held, default=""))
    # models before floors, each best first, as many as a table can hold
    rows.sort(key=lambda item: item[0].record.model.kind in BASELINES)
    shown, more = rows[:MOST_COLUMNS], len(rows) - MOST_COLUMNS
    names = list(dict.fromkeys(name for _, classes in shown for name in classes))
    body = []
    for name in names:
        cells = [_shaded(classes.get(name, {}).get(key)) for _, classes in shown]
        support = next(
            (c[name]["support"] for _, c in shown if name in c and "support" in c[name]), None
        )
        body.append(
            el(
                "tr",
                el("th", name, scope="row"),
                el("td", MISSING if support is None else str(support)),
                *cells,
            )
        )
    heads = [el("th", "class", scope="col"), el("th", "support", scope="col")]
    heads += [el("th", row.name, scope="col", class_=row.record.model.kind) for row, _ in shown]
    caption = f"{metrics.label(key)} of each class, on test" + (
        f" ({more} more results have it on their pages)" if more > 0 else ""
    )
    table = el(
        "table",
        el("caption", caption),
        el("thead", el("tr", *heads)),
        el("tbody", *body),
        class_="small heat",
    )
    return scroll(table, caption)


def _names(record: Record, count: int) -> list[str]:
    classes = record.benchmark.classes or ()
    return [classes[at] if at < len(classes) else str(at) for at in range(count)]


def _row(name: str, counts: Sequence[float], own: int) -> Markup:
    total = sum(counts)
    cells = []
    for at, count in enumerate(counts):
        css = shade(count / total) if total else "h0"
        cells.append(el("td", f"{count:g}", class_=f"{css} own" if at == own else css))
    return el("tr", el("th", name, scope="row"), *cells)


def confusion(record: Record) -> Markup | None:
    """The confusion matrix of a result, each row shaded by its shares.

    Returns:
        None when the result has none.
    """
    matrix = record.confusion
    if not matrix:
        return None
    if len(matrix) > MOST_CLASSES:
        return el("p", f"The confusion matrix of {len(matrix)} classes is in the result's JSON.")
    names = _names(record, len(matrix))
    heads = [el("th", "true ↓ predicted →", scope="col")]
    heads += [el("th", el("span", name), scope="col") for name in names]
    rows = [_row(names[at], counts, at) for at, counts in enumerate(matrix)]
    caption = "Confusion matrix, on test"
    table = el(
        "table",
        el("caption", caption),
        el("thead", el("tr", *heads)),
        el("tbody", *rows),
        class_="small heat confusion",
    )
    return scroll(table, caption)


def examples(record: Record) -> Markup | None:
    """A few test samples: what is true and what was said.

    Returns:
        None when the result holds none.
    """
    held = record.examples
    if not held:
        return None
    keys = list(dict.fromkeys(key for item in held for key in item))
    right = {"truth", "prediction"} <= set(keys)
    rows = []
    for item in held:
        cells = [_cell(item.get(key)) for key in keys]
        if right:
            cells.append("right" if item.get("truth") == item.get("prediction") else "wrong")
        rows.append(cells)
    return small_table([*keys, *(["answer"] if right else [])], rows, "Examples, from test")
