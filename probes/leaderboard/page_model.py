"""The page of one model: what it is, where it comes from, and every cell beside its floors."""

from typing import Any

from fm.page import axis
from fm.page.html import Markup, el, flat, join, pairs, scroll
from probes.leaderboard import details, findings, grid, metrics, plot, shell, words
from probes.leaderboard.board import Board, ModelPage
from probes.leaderboard.table import BASELINES, Group, Row


def _facts(page: ModelPage) -> Markup:
    records = [row.record for _, row in page.rows]
    model = page.first.model
    hashes = sorted({r.model.weights_sha256 for r in records if r.model.weights_sha256})
    size = None if model.parameters is None else f"{model.parameters:,}".replace(",", " ")
    versions = sorted({str(r.environment["eofm"]) for r in records if "eofm" in r.environment})
    items: list[tuple[str, Any]] = [
        ("kind", words.kind(page.kind)),
        ("architecture", model.architecture),
        ("parameters", size),
        ("weights SHA-256", join(el("code", h) for h in hashes) if hashes else None),
        ("path", " or ".join(sorted({r.model.path for r in records if r.model.path})) or None),
        ("judged", _span([r.created for r in records])),
        ("eofm", ", ".join(versions) or None),
    ]
    adapted = [r for r in records if r.model.adapted is not None]
    if adapted:
        names = sorted({r.benchmark.name for r in adapted})
        items.append(("bands adapted on", ", ".join(names)))
    return pairs(items)


def _span(created: list[str]) -> str:
    first, last = min(created)[:10], max(created)[:10]
    return first if first == last else f"{first} to {last}"


def _card(page: ModelPage) -> Markup:
    cards = [r.model.card for _, row in page.rows if (r := row.record).model.card]
    if not cards:
        return Markup("")
    held = {k: v for k, v in cards[0].items() if v is not None and v != {}}
    whole = [(key, value) for key, value in held.items() if not isinstance(value, dict)]
    blocks = [
        el("section", el("h4", key), pairs(flat(value)))
        for key, value in held.items()
        if isinstance(value, dict)
    ]
    return shell.section("card", "Card", pairs(whole), el("div", *blocks, class_="details-body"))


def _overlap(page: ModelPage) -> Markup:
    if page.kind in BASELINES:
        return Markup("")
    rows = []
    for statement, benchmarks, leak in _statements(page):
        where = el("strong", ", ".join(benchmarks))
        rows.append(el("li", where, ": ", statement, class_="leak" if leak else None))
    near = [
        el("li", el("strong", row.record.benchmark.name), ": ", findings.near(held))
        for _, row in page.rows
        if (held := row.record.contamination)
    ]
    near = list(dict.fromkeys(near))
    parts: list[Markup] = [el("ul", *rows, class_="plain")]
    if near:
        parts += [el("h3", "Test samples near what it saw"), el("ul", *near, class_="plain")]
    return shell.section("overlap", "Overlap with pretraining", *parts)


def _statements(page: ModelPage) -> list[tuple[str, list[str], bool]]:
    """Each statement once, with the benchmarks it holds for."""
    found: dict[tuple[str, bool], list[str]] = {}
    for _, row in page.rows:
        overlap = row.record.overlap
        key = (overlap.statement, overlap.transductive)
        names = found.setdefault(key, [])
        if row.record.benchmark.name not in names:
            names.append(row.record.benchmark.name)
    return [(text, names, leak) for (text, leak), names in found.items()]


def _beside(group: Group, row: Row, kind: str) -> list[Row]:
    """Floors of a kind that a result was compared with, else all of that kind in the group.

    Of one model in several axes only the row with the same axes was compared.
    """
    named = {item.name for item in row.record.versus}
    held = [o for o in group.rows if o is not row and o.record.model.kind == kind]
    compared = [
        o for o in held if o.record.model.name in named and o.record.seed == row.record.seed
    ]
    alike = [o for o in compared if o.changed == row.changed]
    return alike or compared or held


def _mark(row: Row) -> plot.Mark:
    score = row.record.metrics[row.record.primary]
    return plot.Mark(score.value, score.low, score.high, row.record.model.kind)


def _best(rows: list[Row], higher: bool) -> Row | None:
    return next(iter(sorted(rows, key=lambda r: -r.value if higher else r.value)), None)


def _place(group: Group, row: Row) -> str:
    return f"{group.rows.index(row) + 1} of {len(group.rows)}"


def _strip(group: Group, marks: list[plot.Mark], shared: axis.Scale) -> Markup:
    """Draw a row on the axis of the heading, or on its own below it when its metric has a unit."""
    if metrics.fraction(group.primary):
        return plot.track(marks, shared)
    own = axis.scale(plot.ends(marks))
    return join([plot.track(marks, own), plot.axis(own)])


def _doubts(page: ModelPage) -> Markup:
    """Each warning once, with the cells it is of."""
    found: dict[str, list[str]] = {}
    for group, row in page.rows:
        where = ", ".join(text for text in (group.title, row.variant) if text)
        for text in row.record.doubts:
            found.setdefault(text, []).append(where)
    if not found:
        return Markup("")
    items = [
        el("li", el("strong", ", ".join(dict.fromkeys(cells))), f": {text}", class_="leak")
        for text, cells in found.items()
    ]
    return shell.section(
        "doubts",
        "In doubt",
        el("ul", *items, class_="plain"),
        lead="Something is wrong with what the model was given, so these scores say little of it.",
    )


def _cells(board: Board, page: ModelPage) -> Markup:
    beside = [
        (group, row, _beside(group, row, "random-init"), _beside(group, row, "floor"))
        for group, row in page.rows
    ]
    marks = {
        row.anchor: [*map(_mark, floors), *map(_mark, fresh), _mark(row)]
        for _, row, fresh, floors in beside
    }
    shared = axis.scale(
        value
        for group, row, *_ in beside
        if metrics.fraction(group.primary)
        for value in plot.ends(marks[row.anchor])
    )
    above = [plot.axis(shared)] if any(metrics.fraction(g.primary) for g, *_ in beside) else []
    heads = [
        grid.head("benchmark · protocol", "text", "ascending"),
        grid.head("score", "number", "descending"),
        el("th", "beside its floors", *above, scope="col", class_="strip"),
        grid.head("random init", "number", "descending"),
        grid.head("best floor", "number", "descending"),
        grid.head("vs random init", "number", "descending", title="paired difference"),
        grid.head("place", "number", "ascending"),
    ]
    rows = []
    for group, row, fresh, floors in beside:
        target = board.benchmark_of[group.anchor]
        link = el("a", group.title, href=f"../benchmarks/{target.slug}.html#{group.anchor}")
        seed = f"seed {row.record.seed}" if row.name != row.label else ""
        told = [el("small", text) for text in (row.variant, seed) if text]
        strip = _strip(group, marks[row.anchor], shared)
        start, floor = _best(fresh, group.higher), _best(floors, group.higher)
        own = el("a", metrics.number(row.value), href=f"#{row.anchor}")
        held = row.record.metrics[row.record.primary]
        span = metrics.interval(held.low, held.high)
        unit = el("small", metrics.label(row.record.primary))
        judged = [words.outcome(row.verdict)] if row.verdict else []
        rows.append(
            el(
                "tr",
                el("th", link, *told, *words.doubtful(row), scope="row", data_value=group.title),
                grid.cell(
                    row.value, join([own, *([el("span", span, class_="ci")] if span else []), unit])
                ),
                el("td", strip, class_="strip"),
                grid.cell(start.value if start else None, _other(row, start)),
                grid.cell(floor.value if floor else None, _other(row, floor)),
                grid.cell(
                    row.random_init.difference if row.random_init else None,
                    join([words.difference(row), *judged]),
                ),
                grid.cell(group.rows.index(row) + 1, _place(group, row)),
            )
        )
    caption = f"Every cell of {page.label}"
    table = el(
        "table",
        el("caption", caption, class_="unseen"),
        el("thead", el("tr", *heads)),
        el("tbody", *rows),
        class_="sortable cells",
    )
    kinds = [mark.kind for own in marks.values() for mark in own]
    lead = words.pretraining([row for _, row in page.rows])
    return shell.section(
        "cells", "Every cell", scroll(table, caption), plot.legend(kinds), lead=lead
    )


def _other(row: Row, beside: Row | None) -> Markup:
    """A score beside a result's own; axes that are the result's own are not said again."""
    if beside is None:
        return words.missing()
    name = beside.model if beside.variant == row.variant else beside.name
    return join([words.score(beside), el("small", name)])


def render(board: Board, page: ModelPage, files: dict[str, str]) -> str:
    """Write the page of a model.

    Args:
        board: all that there is.
        page: whose.
        files: id of a result to its file, from the folder of `index.html`.
    """
    folded = [details.of(group, row, f"../{files[row.record.id]}") for group, row in page.rows]
    body = join(
        [
            _facts(page),
            _doubts(page),
            _cells(board, page),
            _overlap(page),
            findings.robustness(page),
            findings.diagnostics(page),
            _card(page),
            shell.section("details", "Details", *folded),
        ]
    )
    return shell.page(page.label, body, root="../", kicker=el("p", "Model", class_="kicker"))
