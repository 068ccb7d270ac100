"""Room on the disk of a run: looked at before a checkpoint, and told when there is none."""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from fm.errors import FMError
from pretrain.runs.folder import RunFolder

FULL = (errno.ENOSPC, errno.EDQUOT)
"""A full disk, a used-up quota."""


def checkpoint_bytes(folder: RunFolder) -> int | None:
    """Return what the newest checkpoint takes, which the next one will; None before the first."""
    found = folder.latest()
    if found is None:
        return None
    return sum(path.stat().st_size for path in found[0].rglob("*") if path.is_file())


def require(folder: RunFolder) -> None:
    """See that the next checkpoint fits beside those that are there.

    Raises:
        FMError: it does not. A quota is not seen here; it is found when writing.
    """
    needed, free = checkpoint_bytes(folder), shutil.disk_usage(folder.path).free
    if needed is not None and free < needed:
        raise FMError(
            f"{folder.checkpoints}: no room for a checkpoint: {figures(folder, free)}; "
            f"{standing(folder)}; free {words(needed - free)} there and start the same command "
            f"again, or lower checkpoint.keep"
        )


@contextlib.contextmanager
def told(folder: RunFolder) -> Iterator[None]:
    """Tell a full disk in one line, whatever was being written.

    Raises:
        FMError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        where = Path(error.filename) if error.filename else folder.path
        free = shutil.disk_usage(folder.path).free if folder.path.exists() else 0
        raise FMError(
            f"{where}: {(error.strerror or 'no room').lower()}: {figures(folder, free)}; "
            f"{standing(folder)}; make room there and start the same command again"
        ) from None


def figures(folder: RunFolder, free: int) -> str:
    """Say what is needed and what is there."""
    needed = checkpoint_bytes(folder)
    told = f"{words(free)} are free in {folder.path}"
    return told if needed is None else f"{told}, a checkpoint takes {words(needed)}"


def standing(folder: RunFolder) -> str:
    """Say which checkpoint a run would go on from."""
    found = folder.latest()
    return "there is no checkpoint yet" if found is None else f"{found[0].name} stays valid"


def words(count: int) -> str:
    """Write a number of bytes for a person."""
    size, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
