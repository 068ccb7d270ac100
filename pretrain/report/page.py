"""The page of a run, put together: one file, the same bytes for the same run."""

from functools import cache
from importlib.resources import files

from fm.page.html import Markup, el, join
from fm.page.shell import document
from pretrain.report import curves, facts, maps, onway, overview, reconstruct, stored, timeline
from pretrain.report.charts import grid
from pretrain.report.features import mapped
from pretrain.report.read import Record

PICTURES, MAPS = 2_200_000, 900_000
"""Bytes of reconstructions and of feature maps, so that a page stays below 5 MB."""


@cache
def source(name: str) -> str:
    """Read a file of this package."""
    return (files("pretrain.report") / name).read_text(encoding="utf-8")


def render(record: Record, *, samples: int) -> str:
    """Write the page.

    Args:
        record: of the run.
        samples: whose features are drawn, of each part; 0 for no feature maps.

    Raises:
        FMError: a file of the run is damaged.
    """
    others = curves.curves(record, "other")
    sections = [
        ("curves", "Learning", _learning(record)),
        ("pictures", "Reconstructions", _reconstructions(record)),
        ("features", "Features", _features(record, samples)),
        ("speed", "Speed", [grid(curves.curves(record, "speed"))]),
        ("other", "Other figures", [grid(others)] if others else []),
        ("timeline", "Timeline", timeline.section(record)),
        ("values", "Last values", [facts.values(record)]),
        ("config", "Config", facts.config(record)),
        ("environment", "Environment", facts.environment(record)),
    ]
    shown = [one for one in sections if one[2]]
    links = [el("li", el("a", title, href=f"#{anchor}")) for anchor, title, _ in shown]
    name = str(record.config.get("name", record.folder.name))
    masthead = el(
        "div",
        el("a", "Run report", class_="brand", href="#content"),
        el("nav", el("ul", *links), aria_label="Page"),
        class_="masthead",
    )
    notes = overview.worth_a_look(record)
    header = el(
        "header",
        el("p", "Pretraining run", overview.status(record), class_="kicker"),
        el("h1", name),
        overview.lead(record),
        overview.tiles(record),
        *([el("ul", *(el("li", note) for note in notes), class_="notes")] if notes else []),
    )
    body = [
        el("section", el("h2", title, id=anchor), join(content), aria_labelledby=anchor)
        for anchor, title, content in shown
    ]
    return document(
        f"{name} – run report",
        el("a", "Skip to the content", class_="skip", href="#content"),
        masthead,
        el("main", header, *body, id="content", tabindex=-1),
        _foot(),
        style=source("report.css"),
        script=source("report.js"),
        pictures=True,
    )


def _learning(record: Record) -> list[Markup]:
    drawn = curves.loss(record)
    if drawn is None:
        return [el("p", "No step has been logged yet.", class_="facts")]
    charts = [*curves.curves(record, "learning"), *curves.bands(record)]
    return [drawn, *onway.charts(record), grid(charts)]


def _reconstructions(record: Record) -> list[Markup]:
    found = reconstruct.section(stored.load(record.folder / "pictures"), PICTURES)
    if found:
        return found
    text = (
        f"The run stored none: it makes them when it ends (monitor.pictures), in "
        f"pictures/{stored.NAME}."
    )
    return [el("p", text, class_="facts")]


def _features(record: Record, samples: int) -> list[Markup]:
    return maps.section(*mapped(record, samples), MAPS) if samples else []


def _foot() -> Markup:
    text = (
        "Made by fm report from the files of the run folder alone, but for the feature maps, which "
        "are made of the run's export on its data. Point at a chart, or tab to it and use the "
        "arrow keys, to read its values."
    )
    return el("footer", el("p", text))
