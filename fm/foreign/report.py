"""What became of every key of a foreign file."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

How = Literal["used", "renamed", "reshaped", "dropped"]


@dataclass(frozen=True)
class Entry:
    """One key of the file.

    Attributes:
        source: its name there, wrapping prefix taken off; in full where another network was taken.
        target: its name in our model; None when dropped.
        how: `used` under its own name, `renamed`, `reshaped` (with or without another name), or
            `dropped`.
        reason: why it was dropped, or what the reshaping is.
        shape: in the file.
    """

    source: str
    target: str | None
    how: How
    reason: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Report:
    """A whole conversion; made only when every key of both sides is accounted for.

    Attributes:
        family: see `fm.foreign.recognise`.
        where: the file.
        sha256: of the file.
        entries: one a key of the file, in its order.
        fresh: keys of our model that the file rightly lacks, with the value they got.
        aliases: keys left out because they repeated another's tensor.
        prefix: taken off every key of the network that was taken.
        beside: entries of the file that are not weights.
        notes: facts the user should know.
    """

    family: str
    where: str
    sha256: str
    entries: tuple[Entry, ...]
    fresh: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    beside: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def _of(self, how: How) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.how == how)

    @property
    def used(self) -> tuple[Entry, ...]:
        """Keys taken as they are."""
        return self._of("used")

    @property
    def renamed(self) -> tuple[Entry, ...]:
        """Keys taken under another name."""
        return self._of("renamed")

    @property
    def reshaped(self) -> tuple[Entry, ...]:
        """Keys whose values were laid out anew."""
        return self._of("reshaped")

    @property
    def dropped(self) -> tuple[Entry, ...]:
        """Keys left out, each with its reason."""
        return self._of("dropped")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "family": self.family,
            "file": self.where,
            "sha256": self.sha256,
            "counts": {
                "used": len(self.used),
                "renamed": len(self.renamed),
                "reshaped": len(self.reshaped),
                "dropped": len(self.dropped),
                "fresh": len(self.fresh),
                "aliases": len(self.aliases),
            },
            "renamed": {e.source: e.target for e in self.renamed},
            "reshaped": {e.source: [e.target, e.reason] for e in self.reshaped},
            "dropped": {e.source: e.reason for e in self.dropped},
            "fresh": dict(self.fresh),
            "beside": list(self.beside),
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """Write a few lines a person reads; dropped keys are counted by reason."""
        taken = len(self.used) + len(self.renamed) + len(self.reshaped)
        lines = [
            f"{self.family}: {taken} of {len(self.entries)} keys used ({len(self.renamed)} "
            f"renamed, {len(self.reshaped)} reshaped), {len(self.dropped)} dropped"
        ]
        for reason, keys in _by_reason(self.dropped).items():
            lines.append(f"  dropped {len(keys)}: {reason} ({_short(keys)})")
        for key, value in self.fresh.items():
            lines.append(f"  not in the file: {key} ({value})")
        if self.aliases:
            lines.append(f"  {len(self.aliases)} repeated names left out, equal to the others")
        if self.beside:
            lines.append(f"  not weights: {', '.join(self.beside)}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def _by_reason(entries: Iterable[Entry]) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for entry in entries:
        result.setdefault(entry.reason, []).append(entry.source)
    return result


def _short(keys: list[str], count: int = 3) -> str:
    return ", ".join(keys[:count]) + (", ..." if len(keys) > count else "")
