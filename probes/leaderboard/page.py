"""The static page: one self-contained HTML file that opens from a disk without a network.

Its content security policy allows nothing but the page's own style and script, by their hashes,
so text in a result can neither load nor run anything even if an escape were missing.
"""

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib.resources import files

from probes.leaderboard import details, metrics, plot
from probes.leaderboard.records import Interval, Overlap
from probes.leaderboard.table import BASELINES, KIND_NAMES, Group, Row

OUTCOMES = {
    "beat": "▲ beat",
    "even": "○ did not beat",
    "worse": "▼ worse",
    "unknown": "? not known",
}
_UNITS = {"block": "blocks", "image": "images"}
_TASKS = {"class": "one class a sample", "multilabel": "several labels a sample"}


def _source(name: str) -> str:
    return (files("probes.leaderboard") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def describe_interval(interval: Interval | None) -> str:
    """Say in words how the intervals of a result were made."""
    if interval is None:
        return "no intervals"
    unit = _UNITS.get(interval.unit, interval.unit)
    return (
        f"{100 * interval.level:g} % intervals by {interval.kind} over {unit}, "
        f"{interval.resamples} resamples"
    )


def overlap_short(overlap: Overlap) -> str:
    """Say in a few words what pretraining and benchmark share."""
    if overlap.transductive:
        word = "transductive"
    elif overlap.shared_samples is None:
        word = "not counted"
    else:
        word = "none shared" if overlap.shared_samples == 0 else ""
    if overlap.shared_samples:
        shared = f"{overlap.shared_samples} shared"
        return f"{word}, {shared}" if word else shared
    return word


def _head(text: str, *, kind: str, first: str, title: str = "", sort: str = "") -> str:
    state = f' aria-sort="{sort}"' if sort else ""
    hover = f' title="{escape(title)}"' if title else ""
    return (
        f'<th scope="col" data-type="{kind}" data-first="{first}"{state}>'
        f'<button type="button"{hover}>{escape(text)}</button></th>'
    )


def _cell(value: str | float | None, content: str, css: str = "") -> str:
    held = "" if value is None else escape(str(value))
    name = f' class="{css}"' if css else ""
    return f'<td data-value="{held}"{name}>{content}</td>'


def _score(row: Row, name: str, primary: str) -> str:
    score = row.record.metrics.get(name)
    if score is None:
        return _cell(None, "–")
    span = metrics.interval(score.low, score.high)
    text = metrics.number(score.value) + (f' <span class="ci">{span}</span>' if span else "")
    return _cell(score.value, text, "primary" if name == primary else "")


def _shown(row: Row) -> str:
    """The difference with its interval and metric, for a line of text."""
    versus = row.random_init
    if versus is None:
        return "no comparison"
    shown = metrics.change(versus.difference, versus.low, versus.high)
    return escape(f"{shown} {metrics.label(row.record.primary)}")


def _difference(row: Row) -> str:
    versus = row.random_init
    if versus is None:
        return _cell(None, "–")
    shown, _, span = metrics.change(versus.difference, versus.low, versus.high).partition(" ")
    return _cell(versus.difference, shown + (f' <span class="ci">{span}</span>' if span else ""))


def _overlap(row: Row, short: str) -> str:
    """The short form with the statement below it, saying nothing twice."""
    statement = row.record.overlap.statement
    if row.record.model.kind in BASELINES:
        return f"<small>{escape(statement)}</small>"
    rest = statement.removeprefix("transductive: ") if short.startswith("trans") else statement
    return f"{escape(short)}<small>{escape(rest)}</small>"


def _table(group: Group) -> str:
    best, worst = ("descending", "ascending") if group.higher else ("ascending", "descending")
    heads = [
        _head("model", kind="text", first="ascending"),
        _head("kind", kind="text", first="ascending"),
    ]
    for name in group.metrics:
        text = metrics.label(name)
        stated = next(
            (r.record.metrics[name].better for r in group.rows if name in r.record.metrics), None
        )
        first = worst if name != group.primary and stated == "lower" and group.higher else best
        heads.append(
            _head(
                text,
                kind="number",
                first=first,
                title=metrics.describe(name),
                sort=best if name == group.primary else "",
            )
        )
    heads += [
        _head("vs random init", kind="number", first=best, title="paired difference"),
        _head("train / val / test", kind="number", first="ascending", title="labelled samples"),
        _head("overlap with pretraining", kind="text", first="ascending"),
    ]
    rows = []
    for row in group.rows:
        record = row.record
        counts = record.benchmark
        samples = f"{counts.n_train} / {counts.n_val} / {counts.n_test}"
        adapted = " <small>adapted</small>" if record.model.adapted else ""
        short = overlap_short(record.overlap)
        overlap = _overlap(row, short)
        rows.append(
            f'<tr class="{record.model.kind}"><th scope="row" data-value="{escape(row.name)}">'
            f'<a href="#{row.anchor}">{escape(row.name)}</a></th>'
            + _cell(KIND_NAMES[record.model.kind], KIND_NAMES[record.model.kind] + adapted)
            + "".join(_score(row, name, group.primary) for name in group.metrics)
            + _difference(row)
            + _cell(counts.n_train, samples)
            + _cell(short, overlap, "overlap")
            + "</tr>"
        )
    caption = f"Results of {group.title}"
    best_first = f"Best {metrics.label(group.primary)} first."
    return (
        f'<p class="facts">{escape(best_first)} A heading sorts; a name opens its details.</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f'<table class="ranks"><caption class="unseen">{escape(caption)}</caption>'
        f"<thead><tr>{''.join(heads)}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _verdicts(group: Group) -> str:
    if not group.pretrained:
        return '<p class="facts">No pretrained model was judged here.</p>'
    items = "".join(
        f'<li class="{row.verdict.outcome}"><strong>{escape(row.name)}.</strong> '
        f"{escape(row.verdict.text)}</li>"
        for row in group.pretrained
        if row.verdict is not None
    )
    return f'<ul class="verdicts">{items}</ul>'


def _legend(group: Group) -> str:
    kinds = dict.fromkeys(row.record.model.kind for row in group.rows)
    items = [
        f'<li class="{kind}">{kind}</li>' for kind in ("pretrained", "supervised") if kind in kinds
    ]
    if "floor" in kinds or "random-init" in kinds:
        items.append("<li>floors and random init</li>")
    items.append('<li class="whisker-key">interval</li>')
    if sum(row.record.model.kind == "random-init" for row in group.rows) == 1:
        items.append('<li class="reference-key">the random-initialised backbone</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def _facts(group: Group) -> str:
    benchmark = group.first.benchmark
    checked = benchmark.verified
    if isinstance(checked, bool):
        checked = "real files" if checked else "fixtures only"
    intervals = dict.fromkeys(describe_interval(row.record.interval) for row in group.rows)
    direction = "higher" if group.higher else "lower"
    facts = [
        _TASKS.get(benchmark.task, benchmark.task),
        f"split: {benchmark.split}",
        f"data: {benchmark.dataset}",
        f"verified on {checked}",
        f"{metrics.describe(group.primary)}, {direction} is better",
        " or ".join(intervals),
    ]
    text = "; ".join(facts)
    return f'<p class="facts">{escape(text[0].upper() + text[1:])}.</p>'


def _metric_title(name: str) -> str:
    short, long = metrics.label(name), metrics.describe(name)
    return short if short.lower() == long.lower() else f"{short}, {long}"


def _section(group: Group) -> str:
    folded = "".join(details.of(row) for row in group.rows if row.first)
    return (
        f'<section class="group" aria-labelledby="{group.anchor}">'
        f'<h2 id="{group.anchor}">{escape(group.title)}</h2>{_facts(group)}{_verdicts(group)}'
        f"<h3>{escape(_metric_title(group.primary))}</h3>{plot.bars(group)}{_legend(group)}"
        f"<h3>Results</h3>{_table(group)}<h3>Details</h3>{folded}</section>"
    )


def _overview(groups: Sequence[Group]) -> str:
    rows = "".join(
        f'<tr><th scope="row"><a href="#{group.anchor}">{escape(group.title)}</a>'
        f"<small>{escape(row.name)}</small></th>"
        f'<td><span class="outcome {row.verdict.outcome}">{OUTCOMES[row.verdict.outcome]}</span>'
        f"<small>{_shown(row)}</small></td></tr>"
        for group in groups
        for row in group.pretrained
        if row.verdict is not None
    )
    if not rows:
        return ""
    return (
        '<section class="group" aria-labelledby="overview"><h2 id="overview">Did pretraining '
        'help?</h2><p class="facts">Each pretrained model against the same backbone with random '
        "weights, on the same test samples. It beats it only when the whole interval of the "
        "difference lies on its side of 0.</p>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Did pretraining help?">'
        '<table class="overview"><thead><tr><th scope="col">benchmark · protocol</th>'
        '<th scope="col">outcome</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" + ("" if count == 1 else "s")


def render(groups: Sequence[Group]) -> str:
    """Write the whole page.

    Args:
        groups: what `table.groups` returned.

    Returns:
        HTML that depends on the results alone: no time of building, no machine, no path.
    """
    style, script = _source("page.css"), _source("page.js")
    rows = [row for group in groups for row in group.rows if row.first]
    models = {row.record.model.name for row in rows if row.verdict is not None}
    benchmarks = {group.benchmark for group in groups}
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    lead = (
        f"{_plural(len(rows), 'result')} on {_plural(len(benchmarks), 'benchmark')}, with "
        f"{_plural(len(models), 'pretrained model')}. Floors and the random-initialised "
        "backbone are grey: they are what pretraining has to beat."
    )
    body = _overview(groups) + "".join(_section(group) for group in groups)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Leaderboard</title>\n<style>{style}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#results">Skip to the results</a>\n'
        f'<header><h1>Leaderboard</h1><p class="lead">{escape(lead)}</p></header>\n'
        f'<main id="results">{body}</main>\n'
        "<footer><p>Scores are on the test split, which was read once; what a protocol "
        "selects, it selects on the validation split. The same numbers: leaderboard.csv and "
        'leaderboard.md beside this page.</p><p id="announce" role="status"></p></footer>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )
