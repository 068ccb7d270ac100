"""The tables of the front page: the grid of models and cells, and the list of all results.

Rows and columns carry `data-` attributes that the filters of `page.js` read; without a script
everything is shown.
"""

from typing import Any

from fm.page.html import Markup, el, join, scroll
from probes.leaderboard import board as boards
from probes.leaderboard import metrics, words
from probes.leaderboard.board import Board, Entry
from probes.leaderboard.records import Record
from probes.leaderboard.table import BASELINES, KIND_NAMES, Group, Row


def head(text: "str | Markup", kind: str, first: str, sort: str = "", **more: Any) -> Markup:
    """A heading whose button sorts by its column.

    Args:
        text: what the button says.
        kind: `number` or `text`.
        first: the order of the first press, `ascending` or `descending`.
        sort: the order in which the column is now, if it is sorted.
        more: attributes of the heading; `above` stands before the button, `title` is a hint.
    """
    above, title = more.pop("above", None), more.pop("title", None)
    button = el("button", text, type="button", title=title)
    return el(
        "th",
        *([above] if above else []),
        button,
        scope="col",
        data_type=kind,
        data_first=first,
        aria_sort=sort or None,
        **more,
    )


def cell(value: "str | float | None", content: "str | Markup", **more: Any) -> Markup:
    """A cell that sorts by `value`; None stays last."""
    return el("td", content, data_value="" if value is None else value, **more)


def facets(record: Record) -> dict[str, str]:
    """What the filters know of a benchmark and protocol; a floor stands beside all protocols."""
    floor = record.model.kind == "floor"
    return {
        "data_task": words.task(record.benchmark),
        "data_benchmark": record.benchmark.name,
        "data_protocol": "" if floor else f"{record.protocol.name}@{record.protocol.version}",
        "data_verified": words.verified(record.benchmark).split(" (")[0],
    }


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def filters(board: Board) -> Markup:
    """The form above the tables; a choice of one value is not offered."""
    records = [row.record for _, row in board.rows]
    choices: dict[str, list[str]] = {name: [] for name in ("task", "benchmark", "protocol")}
    choices |= {"kind": [], "verified": [], "transductive": []}
    for record in records:
        held = facets(record)
        for name in ("task", "benchmark", "protocol", "verified"):
            if held[f"data_{name}"]:
                choices[name].append(held[f"data_{name}"])
        choices["kind"].append(KIND_NAMES[record.model.kind])
        choices["transductive"].append(_yes(record.overlap.transductive))
    fields = [
        el(
            "label",
            el("span", "model"),
            el("input", type="search", name="model", autocomplete="off", spellcheck="false"),
        )
    ]
    for name, values in choices.items():
        several = sorted(set(values))
        if len(several) < 2:
            continue
        options = [el("option", "any", value="")]
        options += [el("option", value, value=value) for value in several]
        fields.append(el("label", el("span", name), el("select", *options, name=name)))
    reset = el("button", "Show all", type="reset")
    count = el("output", words.plural(len(records), "result"), id="count")
    return el(
        "form", *fields, el("p", reset, count), class_="filters", id="filters", hidden=True,
        aria_label="Filter the tables",
    )  # fmt: skip


def _grid_cell(group: Group, rows: tuple[Row, ...], best: float | None) -> Markup:
    if not rows:
        return cell(None, words.missing(), data_transductive="")
    value, (low, high) = boards.mean(rows), boards.envelope(rows)
    shown = el("a", metrics.number(value), href=f"models/{rows[0].page}.html#{rows[0].anchor}")
    parts: list[str | Markup] = [shown]
    verdict = rows[0].verdict
    if verdict is not None and len(rows) == 1:
        parts.append(words.outcome(verdict, full=False))
    span = metrics.interval(low, high)
    parts.append(el("span", span or "no interval", class_="ci"))
    if len(rows) > 1:
        parts.append(el("small", f"mean of {len(rows)} seeds"))
    leak = any(row.record.overlap.transductive for row in rows)
    if leak:
        parts.append(el("small", "transductive", class_="warn"))
    parts += next((mark for row in rows if (mark := words.doubtful(row))), [])
    return cell(
        value, join(parts), class_="best" if value == best else None, data_transductive=_yes(leak)
    )


def _best(group: Group, column: list[tuple[Entry, tuple[Row, ...]]]) -> float | None:
    values = [
        boards.mean(rows)
        for e, rows in column
        if rows and e.kind not in BASELINES and not any(row.record.doubts for row in rows)
    ]
    if len(values) < 2:
        return None
    return max(values) if group.higher else min(values)


def grid(board: Board) -> Markup:
    """Every model in every cell; what was not judged is shown as missing."""
    heads = [head("model", "text", "ascending")]
    best = []
    for at, group in enumerate(board.groups):
        page = board.benchmark_of[group.anchor]
        link = el("a", group.benchmark, href=f"benchmarks/{page.slug}.html#{group.anchor}")
        text = f"{group.protocol} · {metrics.label(group.primary)}"
        hint = f"{metrics.describe(group.primary)}: sort"
        order = "descending" if group.higher else "ascending"
        extra = facets(group.first)
        above = link if group.higher else join([link, el("small", "lower is better")])
        heads.append(head(text, "number", order, above=above, title=hint, **extra))
        best.append(_best(group, [(entry, entry.cells[at]) for entry in board.entries]))
    rows = []
    for entry in board.entries:
        cells = [
            _grid_cell(group, entry.cells[at], best[at]) for at, group in enumerate(board.groups)
        ]
        link = el("a", entry.label, href=f"models/{entry.slug}.html")
        shown = words.under(link, entry.kind)
        name = el("th", shown, scope="row", data_value=entry.label)
        rows.append(
            el(
                "tr", name, *cells,
                class_=entry.kind, data_kind=KIND_NAMES[entry.kind], data_model=entry.label,
            )
        )  # fmt: skip
    caption = "Every model in every cell"
    table = el(
        "table",
        el("caption", caption, class_="unseen"),
        el("thead", el("tr", *heads)),
        el("tbody", *rows),
        class_="sortable grid",
        id="grid",
    )
    return scroll(table, caption)


def listing(board: Board) -> Markup:
    """One line a result, in the order of the groups."""
    heads = [
        head("model", "text", "ascending"),
        head("score", "number", "descending"),
        head("metric", "text", "ascending"),
        head("vs random init", "number", "descending", title="paired difference"),
        head("benchmark", "text", "ascending"),
        head("protocol", "text", "ascending"),
        head("kind", "text", "ascending"),
        head("test samples", "number", "descending"),
        head("task", "text", "ascending"),
        head("verified on", "text", "ascending"),
        head("overlap with pretraining", "text", "ascending"),
    ]
    rows = []
    for group, row in board.rows:
        record, page = row.record, board.benchmark_of[group.anchor]
        benchmark, versus = record.benchmark, row.random_init
        protocol = f"{record.protocol.name}@{record.protocol.version}"
        short = words.overlap_short(record.overlap)
        link = el("a", benchmark.name, href=f"benchmarks/{page.slug}.html#{group.anchor}")
        adapted = [el("small", "adapted bands")] if record.model.adapted else []
        value = record.metrics[record.primary].value
        rows.append(
            el(
                "tr",
                el(
                    "th", words.row_link(row, ""), *adapted, *words.doubtful(row),
                    scope="row", data_value=row.name,
                ),
                cell(value, words.score(row), class_="score"),
                cell(record.primary, metrics.label(record.primary)),
                cell(versus.difference if versus else None, words.difference(row)),
                cell(benchmark.name, link),
                cell(protocol, protocol),
                cell(KIND_NAMES[record.model.kind], words.kind(record.model.kind)),
                cell(benchmark.n_test, str(benchmark.n_test)),
                cell(words.task(benchmark), words.task(benchmark)),
                cell(words.verified(benchmark), words.verified(benchmark)),
                cell(short, short, class_="warn" if record.overlap.transductive else None),
                class_=record.model.kind,
                data_kind=KIND_NAMES[record.model.kind],
                data_model=row.name,
                data_transductive=_yes(record.overlap.transductive),
                **facets(record),
            )
        )  # fmt: skip
    caption = "All results, one line each"
    table = el(
        "table",
        el("caption", caption, class_="unseen"),
        el("thead", el("tr", *heads)),
        el("tbody", *rows),
        class_="sortable listing",
        id="listing",
    )
    return scroll(table, caption, "scroll tall")
