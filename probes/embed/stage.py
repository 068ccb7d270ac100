"""Numbers made piece by piece that survive a kill: a raw file beside the result, and a journal.

Pieces are written in place into one float32 file. A piece counts as done once the journal has its
line, and the line holds the checksum of its bytes, so neither a kill between the two nor a machine
that lost its power leaves numbers that were never made.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from fm.errors import FMError
from fm.files import fsync_folder, fsync_tree, read_json, write_atomic, write_json

_JOB, _ROWS, _JOURNAL, _RESULT = "job.json", "rows.f32", "journal", "result"
_SHOWN = "shown"


def work_folder(out: Path) -> Path:
    """Return the folder where the unfinished state of a result lies."""
    return out.parent / f".{out.name}.embedding"


def kept_bytes(out: Path) -> int:
    """Bytes on the disk of the rows that an earlier run left (what was never written has none)."""
    rows = work_folder(out) / _ROWS
    return 512 * rows.stat().st_blocks if rows.exists() else 0


def show(work: Path) -> int:
    """Write a number into a work folder by which others know that they see the very same.

    Returns:
        the number, of this moment and process alone.
    """
    number = secrets.randbits(62) + 1
    write_atomic(work / _SHOWN, str(number))
    return number


def shown(work: Path) -> int:
    """Read the number that lies in a work folder; 0 where none does."""
    try:
        return int((work / _SHOWN).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


@dataclass(frozen=True)
class Kept:
    """Rows on disk, read when they are sliced and never held (a mapped file would stay resident).

    Attributes:
        path: of the raw file.
        shape: `[N, ...]`.
    """

    path: Path
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        """Read rows `[n, ...]`; the step is 1."""
        start, stop, _ = rows.indices(len(self))
        each = int(np.prod(self.shape[1:], dtype=np.int64))
        count = max(0, stop - start) * each
        found = np.fromfile(self.path, np.float32, count, offset=4 * start * each)
        return found.reshape(-1, *self.shape[1:])

    def take(self, rows: np.ndarray) -> NDArray[np.float32]:
        """Read rows `[n]` in any order."""
        mapped = np.memmap(self.path, np.float32, "r", shape=self.shape)
        return np.array(mapped[rows])


class Stage:
    """Rows of float32 in pieces.

    Args:
        folder: of the work; made by `opened`.
        shape: `[N, ...]` of all rows.
        bounds: `[P + 1]` ascending from 0 to N; piece p is the rows from `bounds[p]` to
            `bounds[p + 1]`.

    Attributes:
        done: numbers of the pieces that are there, checked.
    """

    def __init__(self, folder: Path, shape: Sequence[int], bounds: Sequence[int]) -> None:
        self.folder, self.shape, self.bounds = folder, tuple(shape), list(bounds)
        assert self.bounds[0] == 0
        assert self.bounds[-1] == self.shape[0]
        self._row = 4 * int(np.prod(self.shape[1:], dtype=np.int64))
        with open(folder / _ROWS, "ab") as stream:
            stream.truncate(self.shape[0] * self._row)
        self.done = self._checked()

    @property
    def left(self) -> list[int]:
        """Numbers of the pieces that are still to be made."""
        return [piece for piece in range(len(self.bounds) - 1) if piece not in self.done]

    @property
    def result(self) -> Path:
        """Where the finished file or folder is put together."""
        return self.folder / _RESULT

    def rows(self, piece: int) -> slice:
        """Rows of a piece."""
        return slice(self.bounds[piece], self.bounds[piece + 1])

    def put(self, piece: int, values: np.ndarray) -> None:
        """Write a piece; any process of the run may.

        Args:
            piece: its number.
            values: `[rows, ...]`.
        """
        rows = self.rows(piece)
        assert values.shape == (rows.stop - rows.start, *self.shape[1:]), values.shape
        data = np.ascontiguousarray(values, np.float32).tobytes()
        with open(self.folder / _ROWS, "r+b") as stream:
            stream.seek(rows.start * self._row)
            stream.write(data)
        # one write of one line: lines of several processes do not mix
        line = f"{piece} {xxhash.xxh3_64_hexdigest(data)}\n".encode()
        journal = os.open(self.folder / _JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(journal, line)
        finally:
            os.close(journal)

    def read(self) -> "Kept":
        """Give all rows for reading, some at a time."""
        return Kept(self.folder / _ROWS, self.shape)

    def _checked(self) -> set[int]:
        """Read the journal; a piece whose bytes are not what it says is made again."""
        path = self.folder / _JOURNAL
        if not path.exists():
            return set()
        *lines, torn = path.read_bytes().split(b"\n")
        said = {}
        for line in lines:
            number, _, digest = line.decode("ascii", "replace").partition(" ")
            if number.isdigit() and int(number) < len(self.bounds) - 1:
                said[int(number)] = digest
        if torn:
            with open(path, "r+b") as stream:
                stream.truncate(path.stat().st_size - len(torn))
        found = set()
        with open(self.folder / _ROWS, "rb") as stream:
            for piece, digest in sorted(said.items()):
                rows = self.rows(piece)
                stream.seek(rows.start * self._row)
                data = stream.read((rows.stop - rows.start) * self._row)
                if xxhash.xxh3_64_hexdigest(data) == digest:
                    found.add(piece)
        return found


@contextlib.contextmanager
def opened(out: Path, job: Mapping[str, Any], *, overwrite: bool = False) -> Iterator[Path]:
    """Open and lock the work folder of a result; go on where the same job was left.

    Args:
        out: the result.
        job: plain values that make the numbers what they are.
        overwrite: replace a result that is there, and drop the unfinished state of another job.

    Yields:
        the folder. When the block ends, `publish` must have moved the result to its place.

    Raises:
        FMError: the result is there, another process is at work, or another job was left.
    """
    refuse_existing(out, overwrite)
    work = work_folder(out)
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = (error.strerror or "cannot be made").lower()
        raise FMError(f"{work}: {why}; name another --out") from None
    with open(work / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FMError(f"{work}: another process is embedding here; wait for it") from None
        before = read_json(work / _JOB, "job") if (work / _JOB).exists() else None
        if before is not None and before != job:
            changed = [key for key in {**before, **job} if before.get(key) != job.get(key)]
            if not overwrite:
                raise FMError(
                    f"{work} holds an unfinished result with another {' and '.join(changed)}; run "
                    f"that one to its end, remove the folder, or give --overwrite"
                )
        if before != job:
            for name in (_JOB, _JOURNAL, _ROWS):
                (work / name).unlink(missing_ok=True)
            write_json(work / _JOB, dict(job))
        _remove(work / _RESULT)
        yield work
        shutil.rmtree(work)


def refuse_existing(out: Path, overwrite: bool, option: str = "--out") -> None:
    """Refuse a result that is there already, which an option names.

    Raises:
        FMError: it is there and `overwrite` is false, or a folder stands where a file belongs.
    """
    if out.is_dir() and out.suffix.lower() != ".zarr":
        raise FMError(f"{out} is a folder; name another {option}")
    if out.exists() and not overwrite:
        raise FMError(f"{out} exists already; name another {option}, or give --overwrite")


def publish(made: Path, out: Path) -> None:
    """Move a finished file or folder to its place, durable, in the place of what was there."""
    if made.is_dir():
        fsync_tree(made)
        _remove(out)
    else:
        with open(made, "rb") as stream:
            os.fsync(stream.fileno())
    os.replace(made, out)
    fsync_folder(out.parent)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
