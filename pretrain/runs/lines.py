"""Files of a run with one JSON object a step, that a resumed run goes on with."""

import json
from pathlib import Path
from typing import IO

from fm.files import write_atomic
from pretrain.runs.folder import read_lines


def open_lines(path: Path, step: int) -> IO[str]:
    """Open a file of JSON lines to go on after `step`; lines of later steps are dropped."""
    kept = [row for row in read_lines(path) if row["step"] <= step] if path.exists() else []
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in kept))
    return open(path, "a", encoding="utf-8", buffering=1)
