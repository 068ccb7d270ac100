"""Which results are of one model, and what it is called on the board.

A model is its name, kind and weights. Two weights of one name are two models, told apart by the
start of their hash: nobody can put a score under a name that other weights earned.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fm.page.html import plain
from probes.leaderboard.records import Record

Key = tuple[str, str, str]


def anchor(text: str, used: set[str]) -> str:
    """Make a unique name of lower-case letters, digits and hyphens, for a fragment or a file."""
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in text.lower())
    base = "-".join(part for part in kept.split("-") if part) or "item"
    name, count = base, 1
    while name in used:
        count += 1
        name = f"{base}-{count}"
    used.add(name)
    return name


def key(record: Record) -> Key:
    """The identity of the judged model."""
    model = record.model
    return model.name, model.kind, model.weights_sha256 or ""


def _axes(record: Record) -> dict[str, str]:
    """The axes that are one value; lists and mappings, such as bands, follow from the data."""
    axes: dict[str, Any] = record.axes or {}
    return {
        name: "native" if value is None else plain(value)
        for name, value in axes.items()
        if not isinstance(value, dict | list)
    }


def _changed(record: Record) -> set[str]:
    """The axes that are not the protocol's own."""
    held = (record.axes or {}).get("changed")
    return set(held) if isinstance(held, dict) else set()


@dataclass
class Names:
    """Labels and pages of the models of a board, the same whatever the order of the results.

    Attributes:
        labels: model to its name, with its kind or hash where another model is called the same.
        pages: model to the stem of its page's file.
        varying: model to the axes that were changed, or in which its results on one table differ.
    """

    labels: dict[Key, str] = field(default_factory=dict)
    pages: dict[Key, str] = field(default_factory=dict)
    varying: dict[Key, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, tables: Iterable[list[Record]]) -> "Names":
        """Name the models of some tables.

        Args:
            tables: the records of each group; a floor may stand in several.
        """
        tables = list(tables)
        keys = sorted({key(record) for table in tables for record in table})
        names = cls()
        used: set[str] = set()
        for own in keys:
            same = [other for other in keys if other[0] == own[0]]
            words = []
            if len({other[1] for other in same}) > 1:
                words.append(own[1])
            if len([other for other in same if other[1] == own[1]]) > 1:
                words.append(f"weights {own[2][:8] or 'unknown'}")
            names.labels[own] = own[0] + (f" ({', '.join(words)})" if words else "")
            names.pages[own] = anchor(names.labels[own], used)
            names.varying[own] = _varying(own, tables)
        return names

    def variant(self, record: Record) -> str:
        """What tells this result from others of its model on the same table; often nothing."""
        axes = _axes(record)
        return ", ".join(
            f"{name} {axes.get(name, 'none')}" for name in self.varying.get(key(record), ())
        )

    def label(self, record: Record) -> str:
        """The model's name with its variant."""
        variant = self.variant(record)
        return self.labels[key(record)] + (f" · {variant}" if variant else "")

    def page(self, record: Record) -> str:
        """The stem of the model's page."""
        return self.pages[key(record)]


def _varying(own: Key, tables: list[list[Record]]) -> tuple[str, ...]:
    found: set[str] = set()
    for table in tables:
        records = [record for record in table if key(record) == own]
        axes = [_axes(record) for record in records]
        differing = {
            name
            for name in {name for item in axes for name in item}
            if len({item.get(name) for item in axes}) > 1
        }
        # others follow from those that were changed on purpose, which are always told
        chosen = {name for record in records for name in _changed(record)}
        found |= chosen or differing
    return tuple(sorted(found))
