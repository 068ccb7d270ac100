"""Reading members by byte range, checked: the only place that touches the tars of a dataset."""

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shards.codec import MAX_BYTES, CorruptError, array_bytes, checksum, decode_into
from shards.format import CODECS, DatasetInfo

MAX_IDLE = 64
_MAX_AXES = 5
_MAX_MEMBER = MAX_BYTES + 2**20


class Files:
    """Open files of one folder, at most `max_idle` not in use, safe to use from many threads."""

    def __init__(self, folder: Path, max_idle: int = MAX_IDLE) -> None:
        self._folder, self._lock, self._max_idle = folder, threading.Lock(), max_idle
        self._open: OrderedDict[str, list[int]] = OrderedDict()

    @contextlib.contextmanager
    def descriptor(self, name: str) -> Iterator[int]:
        """Lend the descriptor of a file; it stays open while it is lent."""
        with self._lock:
            if name not in self._open:
                self._open[name] = [os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC), 0]
            entry = self._open[name]
            self._open.move_to_end(name)
            entry[1] += 1
        try:
            yield entry[0]
        finally:
            with self._lock:
                entry[1] -= 1
                if len(self._open) > self._max_idle:
                    idle = next((n for n, e in self._open.items() if e[1] == 0), None)
                    if idle is not None:
                        os.close(self._open.pop(idle)[0])

    def close(self) -> None:
        """Close every file."""
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1][0])


class Store:
    """The members of the rows of an index.

    Args:
        folder: of the dataset.
        info: its description.
        table: its index, perhaps filtered.
        members: those that will be read.
        max_idle: files that stay open while nobody reads them.
    """

    def __init__(
        self,
        folder: Path,
        info: DatasetInfo,
        table: pa.Table,
        members: tuple[str, ...],
        max_idle: int = MAX_IDLE,
    ) -> None:
        self.files = Files(folder, max_idle)
        self._local = threading.local()
        names = [shard.name for shard in info.shards]
        self._names = names
        self._sizes = [shard.bytes for shard in info.shards]
        shard = table.column("shard").combine_chunks().dictionary_encode()
        places = [names.index(name) for name in shard.dictionary.to_pylist()]
        self.shard = np.asarray(places, np.int64)[shard.indices.to_numpy(zero_copy_only=False)]
        self.offset: dict[str, np.ndarray] = {}
        self.bytes: dict[str, np.ndarray] = {}
        self.xxh3: dict[str, np.ndarray] = {}
        self.shapes: dict[str, np.ndarray] = {}
        self._ending: dict[str, str] = {}
        self.dtype: dict[str, str] = {}
        for member in members:
            self.offset[member] = _numbers(table, f"{member}.offset", -1)
            self.bytes[member] = _numbers(table, f"{member}.bytes", 0)
            self.xxh3[member] = _numbers(table, f"{member}.xxh3", 0)
            self.shapes[member] = _shapes(table.column(f"{member}.shape"))
            self.dtype[member], codec = info.stored(member)
            self._ending[member] = CODECS[codec]

    def has(self, member: str) -> np.ndarray:
        """Return which rows hold a member, bool [rows]."""
        return self.offset[member] >= 0

    def shape(self, row: int, member: str) -> tuple[int, ...]:
        """Return the shape of a member; `()` where it is absent."""
        return tuple(int(size) for size in self.shapes[member][row] if size)

    def fetch(self, row: int, member: str) -> memoryview:
        """Read a member's bytes and check them; the view holds until this thread's next call.

        Raises:
            CorruptError: the range is impossible, the file is missing or short, or the checksum
                does not fit.
        """
        offset, size = int(self.offset[member][row]), int(self.bytes[member][row])
        place = int(self.shard[row])
        if offset < 0 or not 0 < size <= _MAX_MEMBER or offset + size > self._sizes[place]:
            raise CorruptError(f"{member}: byte range {offset}+{size} is not inside its shard")
        scratch = getattr(self._local, "scratch", None)
        if scratch is None or len(scratch) < size:
            scratch = self._local.scratch = bytearray(size)
        view = memoryview(scratch)[:size]
        name = self._names[place]
        try:
            with self.files.descriptor(name) as descriptor:
                read = 0
                while read < size:
                    got = os.preadv(descriptor, [view[read:]], offset + read)
                    if got == 0:
                        raise CorruptError(f"{member}: {name} ends early")
                    read += got
        except OSError as error:
            raise CorruptError(f"{member}: {name}: {error.strerror}") from None
        if checksum(view) != int(self.xxh3[member][row]):
            raise CorruptError(f"{member}: checksum mismatch in {name}")
        return view

    def read_into(self, row: int, member: str, out: np.ndarray) -> None:
        """Read, check and decode a member straight into a C-contiguous array of its shape."""
        view = self.fetch(row, member)
        try:
            decode_into(view, self._ending[member], out)
        except CorruptError as error:
            raise CorruptError(f"{member}: {error}") from None

    def read(self, row: int, member: str) -> np.ndarray:
        """Read, check and decode a member into a new array, bounded first."""
        shape = self.shape(row, member)
        array_bytes(shape, self.dtype[member])
        out = np.empty(shape, self.dtype[member])
        self.read_into(row, member, out)
        return out

    def close(self) -> None:
        """Close the files."""
        self.files.close()


def _numbers(table: pa.Table, name: str, missing: int) -> np.ndarray:
    column = table.column(name).combine_chunks()
    return column.fill_null(pa.scalar(missing, column.type)).to_numpy(zero_copy_only=False)


def _shapes(column: Any) -> np.ndarray:
    """Return list<int32> as [rows, 5], zeros after the last axis and where null."""
    array = column.combine_chunks()
    lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    result = np.zeros((len(array), _MAX_AXES), np.int32)
    mask = np.arange(_MAX_AXES) < np.minimum(lengths, _MAX_AXES)[:, None]
    values = array.flatten().to_numpy(zero_copy_only=False)
    if int(lengths.max(initial=0)) <= _MAX_AXES:
        result[mask] = values
    return result
