"""One thing that was looked at."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """What was found, where, and what to do about it.

    Attributes:
        what: was looked at.
        found: what is there, and where.
        level: `ok`; `note` may slow or surprise a run; `stop` ends or hangs one.
        do: what to do; empty where nothing is to be done.
    """

    what: str
    found: str
    level: Literal["ok", "note", "stop"] = "ok"
    do: str = ""

    @property
    def line(self) -> str:
        """All of it in one line."""
        return f"{self.level:<5}{self.what:<16} {self.found}" + (f"; {self.do}" if self.do else "")
