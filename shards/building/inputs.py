"""Whether the files that a part was made from are still the same: by size and time of change."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Files = Callable[[Any], Iterable[str | os.PathLike[str]]]
"""Names the files that a task is made from."""


def stamp(files: Files | None, tasks: Sequence[Any]) -> str | None:
    """Digest path, size and time of change of every file that some tasks are made from.

    Args:
        files: of one task; None for a source that cannot name them.
        tasks: in order.

    Returns:
        SHA-256; None when `files` is None. A file that cannot be asked (a URL) counts by its name.
    """
    if files is None:
        return None
    digest = hashlib.sha256()
    for path in dict.fromkeys(os.fspath(path) for task in tasks for path in files(task)):
        try:
            about = os.stat(path)
            state = f"{about.st_size} {about.st_mtime_ns}"
        except (OSError, ValueError):
            state = "unknown"
        digest.update(f"{path}\0{state}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
