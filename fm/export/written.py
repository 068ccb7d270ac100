"""What a format hands back: what it wrote, how it is used, how far it is from ours."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fm.errors import UsageError
from fm.export.verify import Agreement

REPORT = "export.json"
"""What an exported folder says of itself."""


@dataclass(frozen=True)
class Settings:
    """What the person who exports chooses.

    Attributes:
        values: `physical` or `stored`: what pixels a graph takes.
        tokens: rows and columns of the smallest tokens, to fix the image size.
        modalities: that a graph takes; all when None.
        any_bands: the graph takes any bands by their wavelengths.
        tolerance: largest difference from ours as a share of our largest value; the format's own
            when None.
    """

    values: str | None = None
    tokens: tuple[int, int] | None = None
    modalities: tuple[str, ...] | None = None
    any_bands: bool = False
    tolerance: float | None = None

    def __post_init__(self) -> None:
        if self.tokens is not None and min(self.tokens) < 1:
            raise UsageError(f"tokens={self.tokens}: give rows and columns, at least 1 each")
        if self.tolerance is not None and not 0 <= self.tolerance < 1:
            raise UsageError(f"tolerance={self.tolerance}: give a share from 0 to below 1, as 1e-4")

    def given(self) -> list[str]:
        """Return the names of what was chosen, besides the tolerance."""
        return [
            name
            for name in ("values", "tokens", "modalities", "any_bands")
            if getattr(self, name) not in (None, False)
        ]


@dataclass(frozen=True)
class Written:
    """What a format wrote into a folder.

    Attributes:
        agreements: every comparison with ours.
        use: Python that loads it and runs it.
        notes: what a user must know, a sentence each.
        about: plain values for `export.json`.
    """

    agreements: list[Agreement]
    use: str
    notes: list[str] = field(default_factory=list)
    about: Mapping[str, Any] = field(default_factory=dict)
