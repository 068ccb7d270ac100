"""The leaderboard as CSV, for a program, and as Markdown, for a repository page."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from probes.leaderboard import metrics, scatter, words
from probes.leaderboard.board import Board
from probes.leaderboard.table import KIND_NAMES, Group

FIXED = (
    "id", "benchmark", "benchmark_version", "task", "dataset", "manifest_hash", "split",
    "verified", "protocol", "protocol_version", "model", "kind", "seed", "n_train", "n_val",
    "n_test", "primary", "value", "low", "high", "random_init_difference", "random_init_low",
    "random_init_high", "verdict", "shared_samples", "transductive", "architecture",
    "weights_sha256", "parameters", "flops", "samples_per_second", "created", "in_doubt",
)  # fmt: skip
"""Columns before those of the metrics (`METRIC`, `METRIC_low`, `METRIC_high`)."""


def write_csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Write a CSV with full-precision numbers; None is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def as_csv(board: Board) -> str:
    """Write one line a result; unknown values are empty."""
    names = sorted({name for group in board.groups for name in group.metrics})
    columns = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    rows = []
    for _, row in board.rows:
        record, versus = row.record, row.random_init
        benchmark, protocol, model = record.benchmark, record.protocol, record.model
        score = record.metrics[record.primary]
        cost = record.cost or {}
        size = scatter.parameters(record)
        fixed = [
            record.id, benchmark.name, benchmark.version, benchmark.task, benchmark.dataset,
            benchmark.manifest_hash, benchmark.split, words.verified(benchmark), protocol.name,
            protocol.version, row.label, model.kind, record.seed, benchmark.n_train,
            benchmark.n_val, benchmark.n_test, record.primary, score.value, score.low, score.high,
            *((versus.difference, versus.low, versus.high) if versus else (None,) * 3),
            row.verdict.outcome if row.verdict else None,
            record.overlap.shared_samples, str(record.overlap.transductive).lower(),
            model.architecture, model.weights_sha256, None if size is None else int(size),
            cost.get("flops"), cost.get("samples_per_second"), record.created,
            "; ".join(record.doubts) or None,
        ]  # fmt: skip
        scores: list[float | None] = []
        for name in names:
            held = record.metrics.get(name)
            scores += [held.value, held.low, held.high] if held else [None] * 3
        rows.append([*fixed, *scores])
    return write_csv([*FIXED, *columns], rows)


def _safe(text: str) -> str:
    """Escape what Markdown or HTML would read as markup inside a table cell."""
    text = " ".join(text.split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for mark in "\\`*_[]|":
        text = text.replace(mark, "\\" + mark)
    return text


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _table(group: Group) -> list[str]:
    head = ["model", "kind", *(_safe(metrics.label(name)) for name in group.metrics)]
    head += ["vs random init", "train / val / test", "overlap"]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in group.rows:
        record = row.record
        scores = []
        for name in group.metrics:
            held = record.metrics.get(name)
            shown = (
                f"{metrics.number(held.value)} {metrics.interval(held.low, held.high)}"
                if held
                else "missing"
            )
            scores.append(_safe(shown))
        versus = row.random_init
        difference = metrics.change(versus.difference, versus.low, versus.high) if versus else "–"
        counts = record.benchmark
        name = f"**{_safe(row.name)}**" if row.verdict else _safe(row.name)
        cells = [
            f"{name} (in doubt: {_safe('; '.join(record.doubts))})" if record.doubts else name,
            KIND_NAMES[record.model.kind],
            *scores,
            _safe(difference),
            f"{counts.n_train} / {counts.n_val} / {counts.n_test}",
            _safe(words.overlap_short(record.overlap)),
        ]
        lines.append(_line(cells))
    return lines


def as_markdown(board: Board) -> str:
    """Write one table a group, with the verdict on each pretrained model above it."""
    lines = ["# Leaderboard", ""]
    for group in board.groups:
        lines += [f"## {_safe(group.title)}", ""]
        lines += [
            f"- **{_safe(row.name)}**: {_safe(row.verdict.text)}"
            for row in group.pretrained
            if row.verdict is not None
        ]
        lines += [""] if group.pretrained else []
        lines += [*_table(group), ""]
    return "\n".join(lines)
