"""The details of one result: everything needed to repeat and to doubt it, as HTML."""

from typing import Any

from fm.page.html import Markup, el, flat, join, pairs, plain, small_table
from probes.leaderboard import classes, findings, metrics, words
from probes.leaderboard.records import Record
from probes.leaderboard.table import KIND_NAMES, Group, Row
from probes.result import is_warning


def _selection(record: Record) -> Markup:
    selection = record.selection
    if selection is None:
        return el("p", "Nothing was selected: the protocol has no grid.")
    scores = [
        (
            plain(value) + (" (chosen)" if value == selection.chosen else ""),
            None if score is None else metrics.number(score, 4),
        )
        for value, score in zip(selection.grid, selection.scores, strict=True)
    ]
    caption = f"{selection.name}, scored on {selection.split}"
    table = small_table((selection.name, "score"), scores, caption)
    if not selection.on_edge:
        return table
    warning = "The chosen value lies on the edge of the grid: a wider grid may score better."
    return Markup(table + el("p", warning, class_="warn"))


def _versus(record: Record) -> Markup:
    if not record.versus:
        return el("p", "No paired comparison was made.")
    rows = [
        (
            item.name,
            KIND_NAMES[item.kind],
            metrics.label(item.metric),
            metrics.change(item.difference, item.low, item.high),
            item.paired,
        )
        for item in record.versus
    ]
    head = ("compared with", "kind", "metric", "this minus that", "pairing")
    return small_table(head, rows, "Paired differences on the same test samples")


def _comparisons(row: Row) -> Markup:
    said = [el("p", row.verdict.text)] if row.verdict is not None else []
    return join([*said, _versus(row.record)])


def _metrics(record: Record) -> Markup:
    rows = [
        (
            metrics.label(name),
            metrics.number(score.value, 4),
            metrics.interval(score.low, score.high) or None,
        )
        for name, score in record.metrics.items()
    ]
    return small_table(
        ("metric", "value", "interval"), rows, words.describe_interval(record.interval)
    )


def _mapping(value: dict[str, Any] | None) -> Markup | None:
    return pairs(flat(value)) if value else None


def _cost(record: Record) -> Markup | None:
    if not record.cost:
        return None
    return pairs(
        (name, metrics.compact(v) if isinstance(v, int | float) and v >= 1000 else v)
        for name, v in flat(record.cost)
    )


def _run(record: Record) -> Markup:
    benchmark = record.benchmark
    return pairs(
        [
            ("result", record.id),
            ("created", record.created),
            ("seed", record.seed),
            ("seconds", None if record.seconds is None else round(record.seconds, 1)),
            ("benchmark", f"{benchmark.name}, version {benchmark.version}"),
            ("data", benchmark.dataset),
            ("manifest", benchmark.manifest_hash),
            ("split", benchmark.split),
            ("samples", f"{benchmark.n_train} / {benchmark.n_val} / {benchmark.n_test}"),
        ]
    )


def _notes(record: Record) -> Markup | None:
    """What to know of the score, warnings first."""
    told = dict.fromkeys(record.benchmark.notes)
    if not told:
        return None
    items = [
        el("li", text, class_="warn" if is_warning(text) else None)
        for text in sorted(told, key=lambda text: not is_warning(text))
    ]
    return el("ul", *items, class_="plain")


def _command(record: Record) -> Markup:
    if record.command is None:
        return el("p", "Made from Python; the result names no command.")
    return el("pre", el("code", record.command), tabindex=0)


def of(group: Group, row: Row, file: str) -> Markup:
    """Write the folded details of one result.

    Args:
        group: one that it stands in.
        row: the result.
        file: the way to its JSON.
    """
    record = row.record
    parts: list[tuple[str, Markup | None]] = [
        ("Command to repeat", _command(record)),
        ("Notes", _notes(record)),
        ("Scores", _metrics(record)),
        ("Comparisons", _comparisons(row)),
        ("Selection", _selection(record)),
        (
            f"Protocol {record.protocol.name}, version {record.protocol.version}",
            pairs(flat(record.protocol.settings)),
        ),
        ("Pixels", _mapping(record.axes)),
        ("Cost", _cost(record)),
        ("Robustness", findings.disturbed(record)),
        ("Diagnostics", _mapping(record.diagnostics)),
        (
            "Near what pretraining saw",
            findings.near(record.contamination) if record.contamination else None,
        ),
        ("Per class", classes.per_class(record)),
        ("Confusion", classes.confusion(record)),
        ("Examples", classes.examples(record)),
        ("Run", _run(record)),
        ("Environment", _mapping(record.environment)),
    ]
    body = [
        el("section", el("h4", name), content) for name, content in parts if content is not None
    ]
    body.append(el("p", el("a", "This result as JSON", href=file, download=True)))
    score = record.metrics[record.primary]
    shown = f"{metrics.label(record.primary)} {metrics.number(score.value)}"
    summary = el(
        "summary",
        el("span", f"{record.benchmark.name} · {record.protocol.name}"),
        " ",
        el("small", " · ".join(t for t in (row.variant, f"seed {record.seed}", shown) if t)),
    )
    return el("details", summary, el("div", *body, class_="details-body"), id=row.anchor,
              class_="result")  # fmt: skip
