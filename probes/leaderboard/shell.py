"""What all pages of the site share: head, style, script, navigation and foot.

Each page is one file that opens from a disk without a network (`fm.page.shell`).
"""

from functools import cache
from importlib.resources import files

from fm.page.html import Markup, el, join
from fm.page.shell import document

NAVIGATION = (
    ("Scores", "index.html#scores"),
    ("Standings", "index.html#standings"),
    ("Pretraining", "index.html#pretraining"),
    ("Benchmarks", "index.html#benchmarks"),
    ("Models", "index.html#models"),
    ("Data", "index.html#data"),
)


@cache
def source(name: str) -> str:
    """Read a file of this package."""
    return (files("probes.leaderboard") / name).read_text(encoding="utf-8")


def page(title: str, body: Markup, *, root: str = "", kicker: Markup | None = None) -> str:
    """Write a whole page.

    Args:
        title: its heading and title.
        body: what follows the heading.
        root: the way to the folder of `index.html`, empty or `../`.
        kicker: above the heading, such as what sort of page it is.

    Returns:
        HTML that depends on its arguments alone: no time of building, no machine, no path.
    """
    links = [el("li", el("a", name, href=root + target)) for name, target in NAVIGATION]
    masthead = el(
        "div",
        el("a", "Leaderboard", class_="brand", href=f"{root}index.html"),
        el("nav", el("ul", *links), aria_label="Site"),
        class_="masthead",
    )
    header = el("header", *([kicker] if kicker else []), el("h1", title))
    foot = el(
        "footer",
        el(
            "p",
            "Scores are on the test split, which was read once; what a protocol selects, it "
            "selects on the validation split. An interval says how the score would move with "
            "other test samples of the same place and time.",
        ),
        el("p", class_="unseen", id="announce", role="status"),
    )
    return document(
        title if not root else f"{title} – Leaderboard",
        el("a", "Skip to the content", class_="skip", href="#content"),
        masthead,
        el("main", header, body, id="content", tabindex=-1),
        foot,
        style=source("page.css"),
        script=source("page.js"),
    )


def section(anchor: str, title: str, *content: "str | Markup", lead: str = "") -> Markup:
    """Write a section with a heading that can be linked to."""
    words = [el("p", lead, class_="facts")] if lead else []
    return el(
        "section",
        el("h2", title, id=anchor),
        *words,
        join(content),
        aria_labelledby=anchor,
    )
