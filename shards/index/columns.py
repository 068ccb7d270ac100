"""`index.bin`: what the loader needs of the index, in fixed-width columns that are mapped.

A row of the parquet costs hundreds of bytes of memory once it is read; a training run over ten
million samples needs a few numbers of a few of them at a time. So the columns that feed batches
are laid out one after another at fixed width and mapped, and opening costs nothing. A checksum for
every 64 KiB is compared when a block is first touched, through a scratch buffer, so that checking
brings no page of the file into this process.

Layout: 8 bytes of magic, length and xxh3-64 of the header, the JSON header, then the columns and
the block checksums, each at the offset that the header names. Strings and lists are two columns,
`NAME.end` (where each row ends) and `NAME.data`.
"""

import json
import mmap
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fm.errors import FMError
from shards.codecs.codec import checksum
from shards.format import DatasetInfo
from shards.index.columns_check import UNKNOWN as UNKNOWN
from shards.index.columns_check import limits_of, possible, sensible

MAGIC = b"eofmidx2"
BLOCK = 1 << 16
ALIGN = 64
BATCH = 1 << 16
_MAX_HEADER = 1 << 26


@dataclass(frozen=True)
class Column:
    """Where a column lies in the file: type, values a row, rows, and the place of both parts."""

    dtype: np.dtype
    width: int
    rows: int
    offset: int
    hashes: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * self.width

    @property
    def bytes(self) -> int:
        """Bytes of all rows."""
        return self.row_bytes * self.rows


class Columns:
    """The columns of an index, read on demand.

    Args:
        descriptor: of the file; it may be closed afterwards.
        where: name of the file, for errors.
        info: description of the dataset, which the columns must fit.

    Attributes:
        fits: it was made from the index of that dataset; else nothing can be read of it.
        count: rows.
        header: the parsed header: `shapes` (of members, by shape number from 1), `splits` (by
            number from 1), `index_sha256` (of the parquet it was made from).

    Raises:
        FMError: not such a file, damaged, or cut short.
    """

    def __init__(self, descriptor: int, where: str, info: DatasetInfo) -> None:
        self._where = where
        try:
            self._map = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        except (ValueError, OSError):
            raise self._damaged("it cannot be mapped") from None
        self._read_at = os.dup(descriptor)
        head = self._map[:24]
        length, digest = (int.from_bytes(head[at : at + 8], "little") for at in (8, 16))
        if head[:8] != MAGIC or not 0 < length <= min(_MAX_HEADER, len(self._map) - 24):
            raise self._damaged("its header is damaged")
        text = self._map[24 : 24 + length]
        if checksum(text) != digest:
            raise self._damaged("the checksum of its header does not fit")
        try:
            self.header: dict[str, Any] = json.loads(text)
            self.fits = self.header["index_sha256"] == info.index_sha256
        except (LookupError, RecursionError, TypeError, ValueError):
            raise self._damaged("its header is damaged") from None
        if not self.fits:
            return
        if not sensible(self.header, info, len(self._map), BLOCK):
            raise self._damaged("its header does not fit the dataset")
        self._limits = limits_of(self.header, info)
        self.count: int = self.header["rows"]
        self._columns = {
            name: Column(np.dtype(item[0]), *item[1:])
            for name, item in self.header["columns"].items()
        }
        self._arrays = {
            name: np.frombuffer(
                self._map, column.dtype, column.rows * column.width, column.offset
            ).reshape((column.rows, column.width) if column.width > 1 else (column.rows,))
            for name, column in self._columns.items()
        }
        self._checked = {
            name: np.zeros(blocks(column.bytes), bool) for name, column in self._columns.items()
        }
        self._whole: set[str] = set()
        self._lock = threading.Lock()

    def __del__(self) -> None:
        if hasattr(self, "_read_at"):
            os.close(self._read_at)

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    def take(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Return a column at some rows: `[n]`, or `[n, width]`.

        Raises:
            FMError: a block of the file is damaged.
        """
        column = self._columns[name]
        if len(rows) and name not in self._whole:
            first = rows * column.row_bytes // BLOCK
            last = (rows * column.row_bytes + column.row_bytes - 1) // BLOCK
            self._check(name, np.concatenate([first, last]) if column.row_bytes > 1 else first)
        return self._arrays[name][rows]

    def whole(self, name: str) -> np.ndarray:
        """Return a whole column (its pages come into memory as they are used)."""
        self._check(name, np.arange(len(self._checked[name])))
        return self._arrays[name]

    def checked(self) -> "Columns":
        """Compare every block with its checksum now; return these columns."""
        for name, blocks_ in self._checked.items():
            self._check(name, np.arange(len(blocks_)))
        return self

    def kinds(
        self, members: Sequence[str], rows: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return which combinations of shapes there are.

        Args:
            members: whose shapes.
            rows: among these; None for all.

        Returns:
            shape numbers `[kinds, members]`, how many rows have each `[kinds]`, and the first row
            of each `[kinds]`, by which they are sorted.
        """
        if rows is None and self.header["kinds"] is not None:
            table = np.array(self.header["kinds"], np.int64)
            places = [self.header["members"].index(member) for member in members]
            return merged(table[:, places], table[:, -2], table[:, -1])
        count = self.count if rows is None else len(rows)
        parts = []
        for start in range(0, count, BATCH):
            stop = min(start + BATCH, count)
            part = np.arange(start, stop) if rows is None else rows[start:stop]
            numbers = np.stack([self.take(f"{m}.shape", part) for m in members], axis=1)
            parts.append(kinds_of(numbers.astype(np.int64), part))
        return merged(*(np.concatenate(x) for x in zip(*parts, strict=True)))

    def pieces(self, name: str, rows: np.ndarray) -> list[np.ndarray]:
        """Return a column of lists at some rows, one array a row."""
        ends = self.take(f"{name}.end", rows).astype(np.int64)
        before = self.take(f"{name}.end", np.maximum(rows - 1, 0)).astype(np.int64)
        starts = np.where(rows > 0, before, 0)
        data = f"{name}.data"
        size = self._columns[data].row_bytes
        touched = [
            np.arange(start * size // BLOCK, (end * size - 1) // BLOCK + 1)
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
            if end > start
        ]
        if touched:
            self._check(data, np.concatenate(touched))
        values = self._arrays[data]
        return [values[s:e] for s, e in zip(starts.tolist(), ends.tolist(), strict=True)]

    def text(self, name: str, rows: np.ndarray) -> list[str | None]:
        """Return a column of strings at some rows; None where it is null."""
        found = (piece.tobytes() for piece in self.pieces(name, rows))
        try:
            return [None if data == NULL else data.decode() for data in found]
        except UnicodeDecodeError:
            raise self._damaged(f"{name!r} holds no text") from None

    def _check(self, name: str, blocks: np.ndarray) -> None:
        checked, column = self._checked[name], self._columns[name]
        unknown = ~checked[blocks]
        if not unknown.any():
            return
        fresh = np.unique(blocks[unknown])
        with self._lock:  # one scratch buffer
            scratch = memoryview(bytearray(BLOCK))
            for block in fresh.tolist():
                size = min(BLOCK, column.bytes - block * BLOCK)
                place = column.offset + block * BLOCK
                if os.preadv(self._read_at, [scratch[:size]], place) != size:
                    raise self._damaged("it ends early")
                at = column.hashes + 8 * block
                if checksum(scratch[:size]) != int.from_bytes(self._map[at : at + 8], "little"):
                    raise self._damaged(f"a block of {name!r} does not fit its checksum")
                if name in self._limits:
                    values = np.frombuffer(scratch[:size], column.dtype)
                    if not possible(values, self._limits[name], name.endswith(".end")):
                        raise self._damaged(f"a value of {name!r} is out of range")
                checked[block] = True
        if checked.all():
            self._whole.add(name)

    def _damaged(self, reason: str) -> FMError:
        return FMError(
            f"{self._where}: {reason}; `fm shards repair` makes it again from index.parquet"
        )


def kinds_of(numbers: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct rows of `[n, members]`, how many there are of each, and the first of each."""
    size = int(numbers.max(initial=0)) + 1
    if size ** numbers.shape[1] > 2**62:  # cannot be coded as one number
        found, first, counts = np.unique(numbers, axis=0, return_index=True, return_counts=True)
        return found, counts, rows[first]
    code = np.zeros(len(numbers), np.int64)
    for column in numbers.T:
        code = code * size + column
    _, first, counts = np.unique(code, return_index=True, return_counts=True)
    return numbers[first], counts, rows[first]


def merged(
    kinds: np.ndarray, counts: np.ndarray, first: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Join equal kinds; sorted by the first row."""
    order = np.argsort(first, kind="stable")
    found: dict[tuple[int, ...], list[int]] = {}
    for kind, count, row in zip(
        kinds[order].tolist(), counts[order].tolist(), first[order].tolist(), strict=True
    ):
        found.setdefault(tuple(kind), [0, row])[0] += count
    values = np.array(list(found.values()), np.int64).reshape(-1, 2)
    return np.array(list(found), np.int64).reshape(len(found), -1), values[:, 0], values[:, 1]


NULL = b"\xff"
"""A missing string; not a beginning of UTF-8."""


def open_columns(path: Path, info: DatasetInfo) -> Columns | None:
    """Open `index.bin`; None where there is none or it was made from another index."""
    try:
        with open(path, "rb") as stream:
            columns = Columns(stream.fileno(), str(path), info)
    except FileNotFoundError:
        return None
    return columns if columns.fits and columns.count == info.count else None


def aligned(size: int) -> int:
    """Round up to where a column may begin."""
    return -(-size // ALIGN) * ALIGN


def blocks(size: int) -> int:
    """Return how many checked blocks hold so many bytes."""
    return -(-size // BLOCK)
