"""A folder whose files take a bounded number of bytes together, shared by threads and processes.

`partial/` holds what is being written, `lock` the number of bytes in use (every change of it
happens under a lock on that file), other folders what is finished. A crash leaves that number too
high, never too low, and partial files whose lock nobody holds; the next scan mends both.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

_KEPT = 0.9
"""Eviction goes down to this share of the limit, so that it is rare."""
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


class BoundedFolder:
    """Files that are written aside, moved into place, and removed when they become too many.

    A process that uses a finished file for long keeps a shared `flock` on it; such a file stays.

    Args:
        path: of the folder.
        kinds: its subfolders with finished files, at most one folder level inside.
        limit: bytes that all files may take together.
        patience: seconds to wait for another writer of the same file that shows no sign of life.
        evicted: called with the path of each file that was removed to make room.
    """

    def __init__(
        self,
        path: Path,
        kinds: Sequence[str],
        limit: int,
        patience: float,
        evicted: Callable[[str], None],
    ) -> None:
        self.path, self.limit, self.patience = path, limit, patience
        self._kinds, self._evicted = kinds, evicted
        for name in ("partial", *kinds):
            (path / name).mkdir(parents=True, exist_ok=True)
        with self._locked() as ledger:
            self._write_total(ledger, self._evict(0))

    def claim(self, key: str) -> int | None:
        """Become the only writer of a file, by its name in `partial/`.

        The claim is the lock on the partial file, so it ends with the process that holds it.

        Returns:
            a descriptor of the empty partial file; None when another writer has it and shows no
            sign of life.
        """
        partial, pause = self.path / "partial" / key, 0.002
        while True:
            descriptor = os.open(partial, _FLAGS, 0o644)
            stat = os.fstat(descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                if time.time() - stat.st_mtime > self.patience:
                    return None
                time.sleep(pause)
                pause = min(0.05, 2 * pause)
                continue
            with contextlib.suppress(FileNotFoundError):
                if os.stat(partial).st_ino == stat.st_ino:
                    os.ftruncate(descriptor, 0)  # what a dead writer left
                    os.utime(descriptor)
                    return descriptor
            os.close(descriptor)  # it was moved into place, or cleaned away, before we had it

    def release(self, claim: int, key: str) -> None:
        """Give a claim up; a partial file that was not moved into place is removed."""
        partial = self.path / "partial" / key
        with contextlib.suppress(FileNotFoundError):
            stat = os.fstat(claim)
            if os.stat(partial).st_ino == stat.st_ino:
                with self._locked() as ledger:
                    os.unlink(partial)
                    self._write_total(ledger, self._total(ledger) - stat.st_size)
        os.close(claim)

    def reserve(self, claim: int, size: int) -> bool:
        """Take bytes of the limit for a claimed file and give it that length; False: no room.

        Args:
            claim: the descriptor that `claim` gave.
            size: of the whole file.
        """
        if size > self.limit:
            return False
        with self._locked() as ledger:
            total = self._total(ledger)
            if total + size > self.limit:
                total = self._evict(size)
                self._write_total(ledger, total)
                if total + size > self.limit:
                    return False
            self._write_total(ledger, total + size)
            os.ftruncate(claim, size)
        return True

    def settle(self, key: str, path: Path) -> None:
        """Move a finished file into place; it replaces what stood there."""
        with self._locked() as ledger:
            replaced = path.stat().st_size if path.exists() else 0
            os.rename(self.path / "partial" / key, path)
            self._write_total(ledger, self._total(ledger) - replaced)

    def remove(self, path: Path) -> None:
        """Remove a finished file if it is there."""
        with contextlib.suppress(FileNotFoundError), self._locked() as ledger:
            size = path.stat().st_size
            os.unlink(path)
            self._write_total(ledger, self._total(ledger) - size)

    def _evict(self, wanted: int) -> int:
        """Clean up, make room for `wanted` bytes if there must be, return the bytes in use.

        The lock is held by the caller. What was read least recently goes first.
        """
        partial = [file for file in _listing(self.path / "partial") if not _end(file[2])]
        found = [file for kind in self._kinds for file in _listing(self.path / kind)]
        total = sum(size for _, size, _ in (*partial, *found))
        if total + wanted <= self.limit:
            return total
        enough = min(self.limit - wanted, int(_KEPT * self.limit))
        for _, size, path in sorted(found):
            if total <= enough:
                break
            if _end(path):
                total -= size
                self._evicted(path)
        return total

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """Hold the lock of the folder; every change of the bytes in use happens under it."""
        descriptor = os.open(self.path / "lock", _FLAGS, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _total(self, ledger: int) -> int:
        stored = os.pread(ledger, 8, 0)
        # a ledger that was cut short is counted again
        return int.from_bytes(stored, "little") if len(stored) == 8 else self._evict(0)

    def _write_total(self, ledger: int, total: int) -> None:
        os.pwrite(ledger, max(0, total).to_bytes(8, "little"), 0)


def _listing(folder: Path) -> list[tuple[int, int, str]]:
    """Return (last use in ns, bytes, path) of the files of a folder and of its folders."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                found += _listing(Path(entry.path))
                continue
            with contextlib.suppress(FileNotFoundError):
                stat = entry.stat()
                found.append((stat.st_atime_ns, stat.st_size, entry.path))
    return found


def _end(path: str) -> bool:
    """Remove a file unless a process holds a lock on it: one that writes it, or has it pinned."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)  # while locked, so that who waits for the lock sees that the file is gone
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
    finally:
        os.close(descriptor)
    return True
