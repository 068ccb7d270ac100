"""What all pages of the site share: head, style, script, navigation and foot.

Each page is one file that opens from a disk without a network. Its content security policy allows
nothing but the page's own style and script, by their hashes, so text in a result can neither load
nor run anything even if an escape were missing.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files

from probes.leaderboard.html import Markup, el, join

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


def digest(text: str) -> str:
    """Hash a style or script as a content security policy names it."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


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
    style, script = source("page.css"), source("page.js")
    policy = (
        f"default-src 'none'; style-src {digest(style)}; script-src {digest(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", title if not root else f"{title} – Leaderboard"),
        el("style", Markup(style)),
    )
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
    whole = el(
        "body",
        el("a", "Skip to the content", class_="skip", href="#content"),
        masthead,
        el("main", header, body, id="content", tabindex=-1),
        foot,
        el("script", Markup(script)),
    )
    return f"<!doctype html>\n{el('html', head, whole, lang='en')}\n"


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
