"""`skipped.jsonl`: the steps that did not change the weights, and why."""

import json
from pathlib import Path
from typing import Any

from fm.files import write_atomic
from pretrain.runs.folder import read_lines

SKIPPED = "skipped.jsonl"


class Skipped:
    """The file of a run's steps that were not taken.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / SKIPPED

    def add(self, row: dict[str, Any]) -> None:
        """Write one more."""
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """Return all of them, without a torn last one."""
        return read_lines(self.path) if self.path.is_file() else []

    def go_on_after(self, step: int) -> None:
        """Drop those of later steps, which are judged again."""
        rows = self.rows()
        kept = [row for row in rows if row["step"] <= step]
        if kept != rows:
            write_atomic(self.path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in kept))
