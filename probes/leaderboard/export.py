"""The leaderboard as CSV, for a program, and as Markdown, for a repository page."""

import csv
import io
from collections.abc import Sequence

from probes.leaderboard import metrics
from probes.leaderboard.page import overlap_short
from probes.leaderboard.table import KIND_NAMES, Group

FIXED = (
    "id", "benchmark", "benchmark_version", "manifest_hash", "split", "protocol",
    "protocol_version", "model", "kind", "seed", "n_train", "n_val", "n_test", "primary",
    "value", "low", "high", "random_init_difference", "random_init_low", "random_init_high",
    "verdict", "shared_samples", "transductive", "weights_sha256", "created",
)  # fmt: skip
"""Columns before those of the metrics (`METRIC`, `METRIC_low`, `METRIC_high`)."""


def as_csv(groups: Sequence[Group]) -> str:
    """Write one line a result with full-precision numbers; unknown values are empty."""
    names = sorted({name for group in groups for name in group.metrics})
    columns = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*FIXED, *columns])
    for group in groups:
        for row in (row for row in group.rows if row.first):
            record, versus = row.record, row.random_init
            benchmark, protocol, model = record.benchmark, record.protocol, record.model
            score = record.metrics[record.primary]
            fixed = [
                record.id, benchmark.name, benchmark.version, benchmark.manifest_hash,
                benchmark.split, protocol.name, protocol.version, model.name, model.kind,
                record.seed, benchmark.n_train, benchmark.n_val, benchmark.n_test,
                record.primary, score.value, score.low, score.high,
                *((versus.difference, versus.low, versus.high) if versus else (None,) * 3),
                row.verdict.outcome if row.verdict else None,
                record.overlap.shared_samples, str(record.overlap.transductive).lower(),
                model.weights_sha256, record.created,
            ]  # fmt: skip
            scores: list[float | None] = []
            for name in names:
                held = record.metrics.get(name)
                scores += [held.value, held.low, held.high] if held else [None] * 3
            writer.writerow([*fixed, *scores])
    return text.getvalue()


def _safe(text: str) -> str:
    """Escape what Markdown or HTML would read as markup inside a table cell."""
    text = " ".join(text.split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for mark in "\\`*_[]|":
        text = text.replace(mark, "\\" + mark)
    return text


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def as_markdown(groups: Sequence[Group]) -> str:
    """Write one table a group, with the verdict on each pretrained model above it."""
    lines = ["# Leaderboard", ""]
    for group in groups:
        lines += [f"## {_safe(group.title)}", ""]
        lines += [
            f"- **{_safe(row.name)}**: {_safe(row.verdict.text)}"
            for row in group.pretrained
            if row.verdict is not None
        ]
        lines += [""] if group.pretrained else []
        head = ["model", "kind", *(_safe(metrics.label(name)) for name in group.metrics)]
        head += ["vs random init", "train / val / test", "overlap"]
        lines += [_line(head), _line(["---"] * len(head))]
        for row in group.rows:
            record = row.record
            shown_scores = []
            for name in group.metrics:
                held = record.metrics.get(name)
                shown = (
                    f"{metrics.number(held.value)} {metrics.interval(held.low, held.high)}"
                    if held
                    else "–"
                )
                shown_scores.append(_safe(shown))
            versus = row.random_init
            difference = (
                metrics.change(versus.difference, versus.low, versus.high) if versus else "–"
            )
            counts = record.benchmark
            lines.append(
                _line(
                    [
                        f"**{_safe(row.name)}**" if row.verdict else _safe(row.name),
                        KIND_NAMES[record.model.kind],
                        *shown_scores,
                        _safe(difference),
                        f"{counts.n_train} / {counts.n_val} / {counts.n_test}",
                        _safe(overlap_short(record.overlap)),
                    ]
                )
            )
        lines.append("")
    return "\n".join(lines)
