"""The page of one benchmark: its facts, and for each protocol the rows, plots and classes."""

from typing import Any

from fm.page import axis
from fm.page.html import Markup, el, join, pairs, scroll
from probes.leaderboard import classes, grid, metrics, plot, scatter, shell, sweep, words
from probes.leaderboard.board import BenchmarkPage
from probes.leaderboard.table import BASELINES, Group, Row


def _facts(page: BenchmarkPage) -> Markup:
    benchmark = page.first.benchmark
    names = benchmark.classes or ()
    items: list[tuple[str, Any]] = [
        ("task", words.task(benchmark)),
        ("verified on", words.verified(benchmark)),
        ("split", " or ".join(dict.fromkeys(g.first.benchmark.split for g in page.groups))),
        ("data", " or ".join(dict.fromkeys(g.first.benchmark.dataset for g in page.groups))),
        ("manifest", _manifests(page)),
        ("classes", f"{len(names)}: {', '.join(names)}" if names else None),
    ]
    notes = dict.fromkeys(note for group in page.groups for note in _shared(group))
    return pairs([*items, *(("note", text) for text in notes)])


def _shared(group: Group) -> list[str]:
    """Notes of all rows: of the data. What is of one result stands with its details."""
    held = [row.record.benchmark.notes for row in group.rows]
    return [note for note in held[0] if all(note in notes for notes in held)]


def _manifests(page: BenchmarkPage) -> Markup | None:
    held = dict.fromkeys(g.first.benchmark.manifest_hash for g in page.groups)
    found = [el("code", text) for text in held if text]
    return join(found) if found else None


def _about(group: Group) -> str:
    direction = "higher" if group.higher else "lower"
    intervals = dict.fromkeys(words.describe_interval(row.record.interval) for row in group.rows)
    benchmark = group.first.benchmark
    text = (
        f"{words.metric_title(group.primary)}; {direction} is better. "
        f"{benchmark.n_train} training, {benchmark.n_val} validation and {benchmark.n_test} test "
        f"samples. {' or '.join(intervals)}"
    )
    first = text.partition(" ")[0]
    return (text[0].upper() + text[1:] if first.islower() else text) + "."


def _forest(group: Group) -> Markup:
    marks = []
    for row in group.rows:
        score = row.record.metrics[group.primary]
        marks.append(plot.Mark(score.value, score.low, score.high, row.record.model.kind))
    on = axis.scale(plot.ends(marks))
    fresh = [row.value for row in group.rows if row.record.model.kind == "random-init"]
    reference = fresh[0] if len(fresh) == 1 else None
    lines = [
        plot.Line(
            join([words.row_link(row, "../"), *words.doubtful(row)]), mark, words.score(row),
            row.record.model.kind,
        )
        for row, mark in zip(group.rows, marks, strict=True)
    ]  # fmt: skip
    kinds = [mark.kind for mark in marks]
    said = "the random-initialised backbone" if reference is not None else ""
    drawn = plot.forest(lines, on, metrics.label(group.primary), reference)
    return join([drawn, plot.legend(kinds, reference=said)])


def _overlap(row: Row) -> Markup:
    """The short form with the statement below it, saying nothing twice."""
    held = row.record.overlap
    if row.record.model.kind in BASELINES:
        return el("small", held.statement)
    css = "warn" if held.transductive else None
    short = el("span", words.overlap_short(held), class_=css)
    return join([short, el("small", words.overlap_rest(held))])


def _table(group: Group) -> Markup:
    best, worst = ("descending", "ascending") if group.higher else ("ascending", "descending")
    heads = [
        grid.head("place", "number", "ascending"),
        grid.head("model", "text", "ascending"),
    ]
    for name in group.metrics:
        stated = next(
            (r.record.metrics[name].better for r in group.rows if name in r.record.metrics), None
        )
        first = worst if name != group.primary and stated == "lower" and group.higher else best
        sort = best if name == group.primary else ""
        heads.append(
            grid.head(metrics.label(name), "number", first, sort, title=metrics.describe(name))
        )
    heads += [
        grid.head("vs random init", "number", best, title="paired difference"),
        grid.head("train", "number", "ascending", title="labelled training samples"),
        grid.head("parameters", "number", "ascending"),
        grid.head("overlap with pretraining", "text", "ascending"),
    ]
    rows = []
    for place, row in enumerate(group.rows, 1):
        record = row.record
        adapted = [el("small", "adapted bands")] if record.model.adapted else []
        size = scatter.parameters(record)
        scores = []
        for name in group.metrics:
            held = record.metrics.get(name)
            css = "score" if name == group.primary else None
            scores.append(
                grid.cell(held.value if held else None, words.score(row, name), class_=css)
            )
        rows.append(
            el(
                "tr",
                grid.cell(place, str(place)),
                el(
                    "th",
                    words.under(words.row_link(row, "../"), record.model.kind),
                    *adapted,
                    *words.doubtful(row),
                    scope="row",
                    data_value=row.name,
                ),
                *scores,
                grid.cell(row.random_init.difference if row.random_init else None,
                          words.difference(row)),
                grid.cell(record.benchmark.n_train, str(record.benchmark.n_train)),
                grid.cell(size, "–" if size is None else metrics.compact(size)),
                grid.cell(words.overlap_short(record.overlap), _overlap(row), class_="overlap"),
                class_=record.model.kind,
            )
        )  # fmt: skip
    caption = f"Results of {group.title}"
    table = el(
        "table",
        el("caption", caption, class_="unseen"),
        el("thead", el("tr", *heads)),
        el("tbody", *rows),
        class_="sortable ranks",
    )
    return scroll(table, caption)


def _verdicts(group: Group) -> Markup:
    items = [
        el("li", el("strong", f"{row.name}."), " ", row.verdict.text, class_=row.verdict.outcome)
        for row in group.pretrained
        if row.verdict is not None
    ]
    if not items:
        return el("p", "No pretrained model was judged here.", class_="facts")
    return el("ul", *items, class_="verdicts")


def _folded(group: Group) -> list[Markup]:
    """Confusion matrix and examples, one fold a result."""
    found = []
    for row in group.rows:
        held = {
            "confusion matrix": classes.confusion(row.record),
            "examples": classes.examples(row.record),
        }
        parts = {name: content for name, content in held.items() if content is not None}
        if parts:
            score = metrics.number(row.value)
            summary = el("summary", f"{row.name}: {' and '.join(parts)} ", el("small", score))
            found.append(el("details", summary, *parts.values()))
    return found


def _section(group: Group) -> Markup:
    parts = [_verdicts(group), el("h3", "Scores with intervals"), _forest(group), _table(group)]
    parts += sweep.tables(group)
    cost = scatter.against_cost(group)
    if cost is not None:
        parts += [el("h3", "Score against cost"), cost]
    by_class = classes.compared(group)
    folded = _folded(group)
    if by_class is not None or folded:
        parts.append(el("h3", "Classes"))
    parts += [by_class] if by_class is not None else []
    return shell.section(group.anchor, group.title, *parts, *folded, lead=_about(group))


def render(page: BenchmarkPage) -> str:
    """Write the page of a benchmark."""
    body = join([_facts(page), *(_section(group) for group in page.groups)])
    return shell.page(page.title, body, root="../", kicker=el("p", "Benchmark", class_="kicker"))
