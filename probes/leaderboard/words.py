"""How the facts of a result are said in a few words."""

from collections.abc import Iterable

from fm.page.html import Markup, el, join
from probes.leaderboard.board import ModelPage
from probes.leaderboard.metrics import change, describe, interval, label, number
from probes.leaderboard.records import Benchmark, Interval, Overlap
from probes.leaderboard.table import KIND_NAMES, Row, Verdict

OUTCOMES = {
    "beat": ("▲", "beat"),
    "even": ("○", "did not beat"),
    "worse": ("▼", "worse"),
    "unknown": ("?", "not known"),
}
_UNITS = {"block": "blocks", "image": "images", "scene": "scenes"}
TASKS = {
    "class": "one class a sample",
    "multilabel": "several labels a sample",
    "regression": "numbers",
    "segmentation": "a class a pixel",
    "change": "change between dates",
}


def task(benchmark: Benchmark) -> str:
    """The task of a benchmark."""
    return TASKS.get(benchmark.task, benchmark.task)


def verified(benchmark: Benchmark) -> str:
    """On what the reader of a benchmark was verified."""
    checked = benchmark.verified
    if isinstance(checked, bool):
        return "real files" if checked else "fixtures only"
    return checked


def describe_interval(held: Interval | None) -> str:
    """Say in words how the intervals of a result were made."""
    if held is None:
        return "no intervals"
    unit = _UNITS.get(held.unit, held.unit)
    return (
        f"{100 * held.level:g} % intervals by {held.kind} over {unit}, {held.resamples} resamples"
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


def overlap_rest(overlap: Overlap) -> str:
    """The statement without what `overlap_short` says already."""
    if overlap.transductive:
        return overlap.statement.removeprefix("transductive: ")
    return overlap.statement


def with_interval(shown: str, span: str) -> Markup:
    """A number with its interval below it, smaller."""
    return join([shown] + ([el("span", " " + span, class_="ci")] if span else []))


def score(row: Row, name: str | None = None) -> Markup:
    """A metric of a row with its interval; the primary one when none is named."""
    held = row.record.metrics.get(name or row.record.primary)
    if held is None:
        return missing()
    return with_interval(number(held.value), interval(held.low, held.high))


def difference(row: Row) -> Markup:
    """The paired difference to the random initialisation."""
    versus = row.random_init
    if versus is None:
        return el("span", "–", class_="none")
    shown, _, span = change(versus.difference, versus.low, versus.high).partition(" ")
    return with_interval(shown, span)


def missing() -> Markup:
    """An empty cell that says so."""
    return el("span", "missing", class_="missing")


def outcome(verdict: Verdict, *, full: bool = True) -> Markup:
    """The sign of a verdict, with its words in full or for screen readers alone."""
    sign, word = OUTCOMES[verdict.outcome]
    text = el(
        "span", f" {word}" + ("" if full else " random init"), class_=None if full else "unseen"
    )
    return el(
        "span",
        el("span", sign, aria_hidden="true"),
        text,
        class_=f"outcome {verdict.outcome}",
        title=None if full else f"{word} the random-initialised backbone",
    )


def kind(name: str) -> Markup:
    """The kind of a model with its mark."""
    return el("span", KIND_NAMES[name], class_=f"kind {name}")


def under(link: Markup, name: str) -> Markup:
    """A model's link with its kind below it, which needs no column on a phone."""
    return join([link, el("small", kind(name))])


def doubtful(row: Row) -> list[Markup]:
    """A mark that a warning is of this score; nothing where there is none."""
    held = row.record.doubts
    if not held:
        return []
    sign = el("span", "\u26a0", aria_hidden="true")
    return [el("small", sign, " in doubt", class_="warn doubt", title="; ".join(held))]


def plural(count: int, word: str) -> str:
    """`1 result`, `2 results`."""
    return f"{count} {word}" + ("" if count == 1 else "s")


def model_link(page: ModelPage, root: str) -> Markup:
    """A link to a model's page."""
    return el("a", page.label, href=f"{root}models/{page.slug}.html")


def row_link(row: Row, root: str, text: str | None = None) -> Markup:
    """A link to the details of a result on its model's page."""
    return el("a", text or row.name, href=f"{root}models/{row.page}.html#{row.anchor}")


def metric_title(name: str) -> str:
    """A metric's short name with its long one."""
    short, long = label(name), describe(name)
    return short if short.lower() == long.lower() else f"{short}, {long}"


def pretraining(rows: Iterable[Row]) -> str:
    """Say in one sentence in how many comparisons pretraining helped; nothing when in none."""
    outcomes = [row.verdict.outcome for row in rows if row.verdict is not None]
    known = [outcome for outcome in outcomes if outcome != "unknown"]
    if not known:
        return ""
    return (
        f"Pretraining beat the random initialisation in {known.count('beat')} of "
        f"{plural(len(known), 'comparison')} and was worse in {known.count('worse')}."
    )
