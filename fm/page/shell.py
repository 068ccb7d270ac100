"""The shell of a page: head, policy, style and script in one file that loads nothing.

The content security policy allows nothing but the page's own style and script, by their hashes
(and pictures written into the page), so text on it can neither load nor run anything even if an
escape were missing.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files

from fm.page.html import Markup, el


@cache
def base_style() -> str:
    """Read the style that all pages share."""
    return (files("fm.page") / "base.css").read_text(encoding="utf-8")


def digest(text: str) -> str:
    """Hash a style or script as a content security policy names it."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def document(title: str, *body: Markup, style: str, script: str, pictures: bool = False) -> str:
    """Write a whole page.

    Args:
        title: of the window.
        body: its content; the script follows it.
        style: after the shared one.
        script: run once the body is there.
        pictures: allow pictures that are written into the page (`data:`).

    Returns:
        HTML that depends on its arguments alone: no time of building, no machine, no path.
    """
    style = base_style() + style
    policy = f"default-src 'none'; style-src {digest(style)}; script-src {digest(script)}; "
    policy += "img-src data:; " if pictures else ""
    policy += "base-uri 'none'; form-action 'none'"
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", title),
        el("style", Markup(style)),
    )
    whole = el("body", *body, el("script", Markup(script)))
    return f"<!doctype html>\n{el('html', head, whole, lang='en')}\n"
