"""The details of one result: everything needed to repeat and to doubt it, as HTML."""

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from probes.leaderboard import metrics
from probes.leaderboard.records import Record
from probes.leaderboard.table import KIND_NAMES, Row

MOST_CLASSES = 50
"""Confusion matrices larger than this are left to the JSON."""


def plain(value: Any) -> str:
    """Write a JSON value for reading: text as it is, numbers short, the rest as JSON."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}".replace("-", "−")
    if isinstance(value, str | int):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def pairs(items: Iterable[tuple[str, Any]]) -> str:
    """Write a definition list of names and values."""
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(plain(value))}</dd></div>"
        for name, value in items
    )
    return f"<dl>{rows}</dl>" if rows else "<p>–</p>"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], caption: str) -> str:
    """Write a small table; the first cell of a row is its heading."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{escape(plain(row[0]))}</th>'
        + "".join(f"<td>{escape(plain(cell))}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f'<table class="small"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _selection(record: Record) -> str:
    selection = record.selection
    if selection is None:
        return "<p>Nothing was selected: the protocol has no grid.</p>"
    scores = [
        (
            plain(value) + (" (chosen)" if value == selection.chosen else ""),
            "–" if score is None else metrics.number(score, 4),
        )
        for value, score in zip(selection.grid, selection.scores, strict=True)
    ]
    edge = (
        '<p class="warning">The chosen value lies on the edge of the grid: a wider grid may '
        "score better.</p>"
        if selection.on_edge
        else ""
    )
    caption = f"{selection.name}, scored on {selection.split}"
    return table((selection.name, "score"), scores, caption) + edge


def _versus(record: Record) -> str:
    if not record.versus:
        return "<p>No paired comparison was made.</p>"
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
    return table(head, rows, "Paired differences on the same test samples")


def _rounded(value: Any) -> Any:
    return metrics.number(value) if isinstance(value, float) else value


def _per_class(record: Record) -> str:
    scores, classes = record.per_class, record.benchmark.classes or ()
    if not scores:
        return "<p>No per-class scores.</p>"
    if all(isinstance(item, dict) for item in scores):
        keys = list(dict.fromkeys(key for item in scores for key in item))
        rows = [[_rounded(item.get(key)) for key in keys] for item in scores]
        return table(keys, rows, "Per class, on test")
    names = [classes[at] if at < len(classes) else str(at) for at in range(len(scores))]
    rows = [[name, _rounded(score)] for name, score in zip(names, scores, strict=True)]
    return table(("class", "score"), rows, "Per class, on test")


def _confusion(record: Record) -> str:
    matrix = record.confusion
    if not matrix:
        return ""
    if len(matrix) > MOST_CLASSES:
        return f"<p>The confusion matrix of {len(matrix)} classes is in the result's JSON.</p>"
    classes = record.benchmark.classes or ()
    names = [classes[at] if at < len(classes) else str(at) for at in range(len(matrix))]
    rows = [(name, *counts) for name, counts in zip(names, matrix, strict=True)]
    return table(("true \\ predicted", *names), rows, "Confusion matrix, on test")


def _model(record: Record) -> str:
    model = record.model
    count = None if model.parameters is None else f"{model.parameters:,}".replace(",", " ")
    items: list[tuple[str, Any]] = [
        ("kind", KIND_NAMES[model.kind]),
        ("architecture", model.architecture),
        ("parameters", count),
        ("path", model.path),
        ("weights SHA-256", model.weights_sha256),
    ]
    if model.adapted is not None:
        items.append(("adapted", model.adapted))
    return pairs(items)


def _run(record: Record) -> str:
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
            ("overlap", record.overlap.statement),
            ("transductive", record.overlap.transductive),
            *(("note", text) for text in benchmark.notes),
        ]
    )


def _command(record: Record) -> str:
    if record.command is None:
        return "<p>Made from Python; the result names no command.</p>"
    return f'<pre tabindex="0"><code>{escape(record.command)}</code></pre>'


def of(row: Row) -> str:
    """Write the folded details of one result."""
    record = row.record
    parts = [
        ("Command to repeat", _command(record)),
        ("Run", _run(record)),
        ("Model", _model(record)),
        (
            f"Protocol {record.protocol.name}, version {record.protocol.version}",
            pairs(record.protocol.settings.items()),
        ),
        ("Selection", _selection(record)),
        ("Comparisons", _versus(record)),
        ("Per class", _per_class(record) + _confusion(record)),
        ("Environment", pairs(record.environment.items())),
    ]
    body = "".join(f"<section><h4>{escape(name)}</h4>{text}</section>" for name, text in parts)
    score = record.metrics[record.primary]
    shown = f"{metrics.label(record.primary)} {metrics.number(score.value)}"
    return (
        f'<details class="result {record.model.kind}" id="{row.anchor}"><summary>'
        f"<span>{escape(row.name)}</span> <small>{KIND_NAMES[record.model.kind]} · {escape(shown)}"
        f'</small></summary><div class="details-body">{body}</div></details>'
    )
