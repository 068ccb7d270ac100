"""`sessions.jsonl`: when a run was started and gone on with, where, and by which source."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fm.files import write_atomic
from pretrain.runs.folder import read_lines

SESSIONS = "sessions.jsonl"


def add_session(folder: Path, step: int, environment: Mapping[str, Any]) -> None:
    """Write down that a session begins.

    Args:
        folder: of the run.
        step: steps done before it.
        environment: of the session, as in `env.json`, which holds the last one's alone.
    """
    path = folder / SESSIONS
    rows = read_lines(path) if path.is_file() else []
    began = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    keys = ("world_size", "cuda", "git")
    rows.append({"step": step, "time": began, **{key: environment.get(key) for key in keys}})
    # whole or not at all: a torn line in the middle could not be read again
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
