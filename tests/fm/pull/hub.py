"""A hub on this machine: a folder laid out as the hub's addresses, behind the flaky server."""

import hashlib
import json
from pathlib import Path

OLD, NEW = "a" * 40, "b" * 40
REPO = "somebody/weights"


def put(root: Path, data: bytes, *, revision: str = OLD, name: str = "w.pth") -> str:
    """Lay a file out at a revision and return its SHA-256."""
    path = root / REPO / "resolve" / revision / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def main_is(root: Path, revision: str) -> None:
    """Let the hub's main branch be at a commit."""
    path = root / "api" / "models" / REPO
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"id": REPO, "sha": revision}))
