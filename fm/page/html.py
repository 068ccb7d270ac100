"""HTML built from elements: text is escaped here, in one place, unless it is `Markup` already."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_VOID = frozenset({"br", "col", "img", "input", "meta", "wbr"})
_CLOSED = frozenset({"line", "circle", "rect", "path"})
MISSING = "–"


class Markup(str):
    """Text that is HTML already; anything else is escaped where it is put into an element."""

    __slots__ = ()


def join(parts: Iterable["str | Markup"]) -> Markup:
    """Put pieces one after the other, escaping those that are plain text."""
    return Markup("".join(p if isinstance(p, Markup) else escape(p) for p in parts))


def el(tag: str, *children: "str | Markup", **attributes: Any) -> Markup:
    """Write one element.

    Args:
        tag: its name.
        children: `Markup`, or text that is escaped.
        attributes: a trailing underscore is dropped (`class_`), other underscores become dashes
            (`aria_label`); None and False leave the attribute out, True writes its name alone.
    """
    words = [tag]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        name = key.rstrip("_").replace("_", "-")
        words.append(name if value is True else f'{name}="{escape(str(value))}"')
    opened = f"<{' '.join(words)}>"
    if tag in _VOID:
        return Markup(opened)
    if tag in _CLOSED:
        return Markup(f"{opened[:-1]}/>")
    return Markup(f"{opened}{join(children)}</{tag}>")


def plain(value: Any) -> str:
    """Write a JSON value for reading: text as it is, numbers short, the rest as JSON."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}".replace("-", "−")
    if isinstance(value, str | int):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def pairs(items: Iterable[tuple[str, Any]]) -> Markup:
    """Write a definition list of names and values; Markup values stay as they are."""
    rows = [
        el(
            "div",
            el("dt", breakable(name)),
            el("dd", value if isinstance(value, Markup) else plain(value)),
        )
        for name, value in items
    ]
    return el("dl", *rows) if rows else el("p", MISSING)


def breakable(key: str) -> Markup:
    """Let a dotted or underscored key be broken after those signs, not within a word."""
    first, *rest = re.split(r"(?<=[._])(?=.)", key)
    return join([first, *(piece for part in rest for piece in (el("wbr"), part))])


def flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """List the leaves of nested mappings by dotted name, so that each has a line of its own."""
    found: list[tuple[str, Any]] = []
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            found += flat(item, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", item))
    return found


def scroll(content: Markup, label: str, class_: str = "scroll") -> Markup:
    """Let something wide scroll by itself, also with the keyboard."""
    return el("div", content, class_=class_, tabindex=0, role="region", aria_label=label)


def small_table(
    head: Sequence[str], rows: Iterable[Sequence[Any]], caption: str, class_: str = "small"
) -> Markup:
    """Write a small table; the first cell of a row is its heading."""
    top = el("tr", *(el("th", name, scope="col") for name in head))
    body = []
    for row in rows:
        cells = [c if isinstance(c, Markup) else plain(c) for c in row]
        body.append(
            el("tr", el("th", cells[0], scope="row"), *(el("td", cell) for cell in cells[1:]))
        )
    table = el("table", el("caption", caption), el("thead", top), el("tbody", *body), class_=class_)
    return scroll(table, caption)
