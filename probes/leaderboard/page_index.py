"""The front page: did pretraining help, standings, the grid, all results, what else there is."""

from collections.abc import Sequence

from fm.page import axis
from fm.page.html import Markup, el, join, scroll
from probes.leaderboard import grid, metrics, plot, shell, words
from probes.leaderboard.board import Board
from probes.leaderboard.standing import Standing, standings
from probes.leaderboard.table import BASELINES, Group, Row


def _pretraining(board: Board) -> Markup:
    judged = [(group, row) for group in board.groups for row in group.pretrained]
    if not judged:
        return Markup("")
    # fractions share an axis; a metric with a unit has one of its own
    drawn: dict[str, list[tuple[Group, Row]]] = {}
    for group, row in judged:
        if row.random_init is not None:
            unit = "" if metrics.fraction(group.primary) else group.primary
            drawn.setdefault(unit, []).append((group, row))
    parts = [_forest(board, unit, pairs) for unit, pairs in sorted(drawn.items())]
    rest = [
        el("li", _who(board, group, row), " ", _said(row))
        for group, row in judged
        if row.random_init is None
    ]
    if rest:
        parts.append(el("ul", *rest, class_="plain"))
    return shell.section(
        "pretraining",
        "Did pretraining help?",
        *parts,
        lead="Each pretrained model against the same backbone with random weights, on the same "
        "test samples. It beats it only when the whole interval of the difference lies on its "
        "side of 0.",
    )


def _forest(board: Board, unit: str, pairs: list[tuple[Group, Row]]) -> Markup:
    marks = [_difference(row) for _, row in pairs]
    lines = [
        plot.Line(_who(board, group, row), mark, _said(row), row.record.model.kind)
        for (group, row), mark in zip(pairs, marks, strict=True)
    ]
    caption = "model minus random init"
    if unit:
        direction = "higher" if pairs[0][0].higher else "lower"
        caption += f", {metrics.label(unit)} ({direction} is better)"
    return plot.forest(lines, axis.scale(plot.ends(marks), include=(0.0,)), caption, 0.0)


def _difference(row: Row) -> plot.Mark:
    versus = row.random_init
    assert versus is not None, "only rows with a comparison are drawn"
    tone = row.verdict.outcome if row.verdict else ""
    return plot.Mark(versus.difference, versus.low, versus.high, "pretrained", tone)


def _who(board: Board, group: Group, row: Row) -> Markup:
    page = board.benchmark_of[group.anchor]
    where = el("a", group.title, href=f"benchmarks/{page.slug}.html#{group.anchor}")
    return join([words.row_link(row, ""), el("small", where)])


def _said(row: Row) -> Markup:
    parts: list[Markup] = [words.outcome(row.verdict)] if row.verdict else []
    versus = row.random_init
    if versus is not None:
        shown = metrics.change(versus.difference, versus.low, versus.high)
        unit = metrics.label(row.record.primary)
        parts.append(el("span", f"{shown} {unit}", class_="ci"))
    return join(parts)


def _spread(value: float, low: float | None, high: float | None) -> Markup:
    if low is None or high is None:
        return words.with_interval(metrics.number(value, 2), "")
    span = f"[{metrics.number(low, 2)}, {metrics.number(high, 2)}]"
    return words.with_interval(metrics.number(value, 2), span)


def _standing(item: Standing) -> Markup:
    heads = [
        grid.head("model", "text", "ascending"),
        grid.head("mean rank", "number", "ascending", sort="ascending", title="1 is best"),
        grid.head("normalised mean", "number", "descending"),
        grid.head("IQM", "number", "descending", title="interquartile mean"),
        grid.head("cells", "number", "descending"),
    ]
    count = len(item.groups)
    rows = []
    for entry, values in item.rows:
        sums = [values[name] for name in ("mean_rank", "mean", "iqm")]
        rows.append(
            el(
                "tr",
                el(
                    "th",
                    words.under(el("a", entry.label, href=f"models/{entry.slug}.html"), entry.kind),
                    scope="row",
                    data_value=entry.label,
                ),
                *(grid.cell(s.value, _spread(s.value, s.low, s.high)) for s in sums),
                grid.cell(count, f"{count} of {count}"),
                class_=entry.kind,
            )
        )
    caption = f"{item.protocol}, over " + words.plural(count, "complete cell")
    table = el(
        "table",
        el("caption", caption),
        el("thead", el("tr", *heads)),
        el("tbody", *rows),
        class_="sortable standing",
    )
    cells = "; ".join(group.title for group in item.groups)
    text = f"Cells: {cells} ({words.plural(item.datasets, 'dataset')}; copies count once)."
    out = [el("li", f"{name}: {reason}") for name, reason in item.left_out.items()]
    more = (
        [el("details", el("summary", f"Left out: {len(out)}"), el("ul", *out, class_="plain"))]
        if out
        else []
    )
    return el("div", scroll(table, caption), el("p", text, class_="facts"), *more, class_="block")


def _standings(board: Board) -> Markup:
    found = standings(board)
    if not found:
        return shell.section(
            "standings",
            "Standings",
            el(
                "p",
                "None: no two models and the random initialisation of one of them have two "
                "benchmarks by one protocol in common. A mean over different cells would mislead, "
                "so none is shown.",
                class_="facts",
            ),
        )
    return shell.section(
        "standings",
        "Standings",
        *(_standing(item) for item in found),
        lead="Only models that have every cell of a set stand together. Scores are normalised to "
        "0 at the random-initialised backbones and 1 at the best row. Intervals are over seeds; "
        "there is none where nothing was repeated.",
    )


def _scores(board: Board) -> Markup:
    return shell.section(
        "scores",
        "Scores",
        grid.filters(board),
        el("h3", "Models and benchmarks"),
        grid.grid(board),
        el("h3", "All results"),
        grid.listing(board),
        lead="A heading sorts. A score opens its details, ▲ ○ ▼ say whether it beat the random "
        "initialisation. Bold is the best model of a column, whatever its interval. Floors and "
        "random initialisations are grey: they are what pretraining has to beat. Of a score in "
        "doubt, the page of its model tells why.",
    )


def _benchmarks(board: Board) -> Markup:
    items = []
    for page in board.benchmarks:
        record = page.first
        facts = f"{words.task(record.benchmark)}, {record.benchmark.n_test} test samples"
        protocols = ", ".join(dict.fromkeys(group.protocol for group in page.groups))
        items.append(
            el(
                "li",
                el("a", page.title, href=f"benchmarks/{page.slug}.html"),
                el("small", f"{facts}. {protocols}. Verified on "
                   f"{words.verified(record.benchmark)}."),
            )
        )  # fmt: skip
    return shell.section("benchmarks", "Benchmarks", el("ul", *items, class_="cards"))


def _models(board: Board) -> Markup:
    items = []
    for page in board.models:
        model = page.first.model
        size = f", {metrics.compact(model.parameters)} parameters" if model.parameters else ""
        items.append(
            el(
                "li",
                words.model_link(page, ""),
                el("small", words.kind(page.kind), f"{size}, "
                   f"{words.plural(len(page.rows), 'result')}"),
                class_=page.kind,
            )
        )  # fmt: skip
    return shell.section("models", "Models", el("ul", *items, class_="cards"))


def _data(downloads: Sequence[tuple[str, str]]) -> Markup:
    items = [
        el("li", el("a", path, href=path, download=True), " ", el("small", what))
        for path, what in downloads
    ]
    return shell.section("data", "Data", el("ul", *items, class_="plain"))


def render(board: Board, downloads: Sequence[tuple[str, str]]) -> str:
    """Write the front page.

    Args:
        board: what to show.
        downloads: path beside the page, and what it is.
    """
    models = sum(page.kind not in BASELINES for page in board.models)
    lead = (
        f"{words.plural(len(board.rows), 'result')} of {words.plural(models, 'model')} and their "
        f"floors on {words.plural(len(board.benchmarks), 'benchmark')}. "
        f"{words.pretraining([row for group in board.groups for row in group.pretrained])}"
    )
    body = join(
        [
            el("p", lead, class_="lead"),
            _scores(board),
            _standings(board),
            _pretraining(board),
            _benchmarks(board),
            _models(board),
            _data(downloads),
        ]
    )
    return shell.page("Leaderboard", body)
