"""Where the bytes of a dataset lie: a local folder here, all else in `shards.storage.remote`."""

import ctypes
import errno
import mmap
import os
import re
import resource
import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from fm.errors import FMError
from shards.codecs.codec import CorruptError

MAX_IDLE = 64
"""Files that stay open while nobody reads them."""
_MAX_MAPS = 256
_POPULATE_READ = 22
"""MADV_POPULATE_READ (Linux 5.14): map pages in, and report a failure instead of a signal."""
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://")


class Storage(Protocol):
    """Files by name and byte range. Every method may be called from many threads.

    Attributes:
        url: of the folder, for messages.
    """

    url: str

    def read_bytes(self, name: str) -> bytes:
        """Return a whole small file; `FileNotFoundError` where there is none."""

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""

    def read_into(self, name: str, offset: int, view: memoryview) -> None:
        """Fill a buffer from a place in a file.

        Raises:
            CorruptError: the file ends early.
            OSError: it cannot be read.
        """

    def view(self, name: str, offset: int, size: int) -> np.ndarray | None:
        """Return the bytes as a read-only array without a copy, uint8; None where that is unsafe.

        Raises:
            CorruptError: the file ends early.
            OSError: it cannot be read.
        """

    def local(self, name: str) -> Path:
        """Return a local file with the whole content."""

    def prefetch(self, ranges: Sequence[tuple[str, int, int]]) -> None:
        """Say which `(name, offset, size)` will be read soon; returns at once."""

    def invalidate(self, name: str, offset: int, size: int) -> bool:
        """Say that these bytes were wrong; True when they may be right if they are read again."""

    def release(self) -> None:
        """Let go of what is not in use; it is taken up again when it is needed."""

    def close(self) -> None:
        """End for good."""


def open_storage(
    place: str | os.PathLike[str],
    cache: str | os.PathLike[str] | None = None,
    cache_bytes: int | None = None,
) -> Storage:
    """Open a folder or URL.

    Args:
        place: a path, `file://PATH`, or a URL that fsspec knows (`https://`, `s3://`, ...).
        cache: folder for what was fetched from a URL; `EOFM_CACHE` when None.
        cache_bytes: bound on that folder; the default of `shards.storage.remote` when None.

    Raises:
        FMError: no such folder, or it is a URL that cannot be read.
        UsageError: a URL without a cache folder.
    """
    text = os.fspath(place)
    scheme = _URL.match(text)
    if scheme is None or scheme[1] == "file":
        folder = Path(text[len("file://") :] if scheme else text)
        if not folder.exists():
            raise FMError(f"{folder}: no such dataset folder; `fm shards build` makes one")
        return LocalStorage(folder)
    from shards.storage.remote import RemoteStorage

    options: dict[str, Any] = {} if cache_bytes is None else {"cache_bytes": cache_bytes}
    return RemoteStorage(text, cache=cache or os.environ.get("EOFM_CACHE") or None, **options)


class _Map(NamedTuple):
    """A mapped file: its bytes, where they begin in memory, and whether `mincore` tells of them."""

    mapped: mmap.mmap
    array: np.ndarray
    address: int
    own: bool


class LocalStorage:
    """A folder on this machine, or one that is mounted.

    Args:
        folder: with the files.
        max_idle: files that stay open while nobody reads them.
    """

    def __init__(self, folder: Path, max_idle: int = MAX_IDLE) -> None:
        self.url, self._folder, self._max_idle = str(folder), folder, max_idle
        self._lock = threading.Lock()
        self._open: OrderedDict[str, list[int]] = OrderedDict()
        self._maps: OrderedDict[str, _Map] = OrderedDict()
        self._can_map = sys.platform == "linux"
        self._max_maps = _most_maps()
        self._local = threading.local()

    def read_bytes(self, name: str) -> bytes:
        """See `Storage`."""
        return (self._folder / name).read_bytes()

    def size(self, name: str) -> int:
        """See `Storage`."""
        return (self._folder / name).stat().st_size

    def local(self, name: str) -> Path:
        """See `Storage`."""
        return self._folder / name

    def prefetch(self, ranges: Sequence[tuple[str, int, int]]) -> None:
        """Do nothing: the operating system reads ahead."""

    def invalidate(self, name: str, offset: int, size: int) -> bool:
        """Return False: a second read gives the same bytes."""
        return False

    def read_into(self, name: str, offset: int, view: memoryview) -> None:
        """See `Storage`."""
        entry = self._lend(name)
        try:
            got = read = os.preadv(entry[0], [view], offset)
            while got and read < len(view):
                got = os.preadv(entry[0], [view[read:]], offset + read)
                read += got
        finally:
            self._take_back(entry)
        if read < len(view):
            raise CorruptError(f"{name} ends early")

    def view(self, name: str, offset: int, size: int) -> np.ndarray | None:
        """See `Storage`.

        Reading from the page cache costs twice what copying memory does, so uncompressed members
        are mapped, but only while their pages are there: to touch a page that is not would turn a
        file that was cut short, or a sector that cannot be read, into a signal that ends the run.
        """
        if not self._can_map:
            return None
        found = self._maps.get(name) or self._map(name)
        if found is None:
            return None
        if offset + size > min(len(found.array), found.mapped.size()):
            raise CorruptError(f"{name} ends early")
        start = (found.address + offset) // mmap.PAGESIZE * mmap.PAGESIZE
        length = found.address + offset + size - start
        if not (self._resident if found.own else _populated)(start, length):
            return None
        return found.array[offset : offset + size]

    def _map(self, name: str) -> "_Map | None":
        """Map a file; None when there are too many open files for it."""
        try:
            with open(self._folder / name, "rb") as stream:
                status = os.fstat(stream.fileno())
                if status.st_size == 0:
                    raise CorruptError(f"{name} ends early")
                # never closed by hand: a view may outlive its place in this table
                mapped = mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                self.release()
                return None
            raise
        array = np.frombuffer(mapped, np.uint8)
        own = os.geteuid() in (0, status.st_uid) or os.access(self._folder / name, os.W_OK)
        found = _Map(mapped, array, array.ctypes.data, own)
        with self._lock:
            self._maps[name] = found
            while len(self._maps) > self._max_maps:
                self._maps.popitem(last=False)
        return found

    def _resident(self, start: int, length: int) -> bool:
        """Say whether every page is in memory. The kernel tells only those who may write."""
        count = -(-length // mmap.PAGESIZE)
        pages = getattr(self._local, "pages", None)
        if pages is None or len(pages[0]) < count:
            buffer = bytearray(count)
            pages = (buffer, ctypes.addressof(ctypes.c_char.from_buffer(buffer)))
            self._local.pages = pages
        return not _mincore(start, length, pages[1]) and pages[0].find(0, 0, count) < 0

    def _lend(self, name: str) -> list[int]:
        """Lend `[descriptor, how often it is lent]`; it stays open until it is taken back."""
        with self._lock:
            entry = self._open.get(name)
            if entry is None:
                entry = self._open[name] = [self._opened(name), 0]
            self._open.move_to_end(name)
            entry[1] += 1
            return entry

    def _take_back(self, entry: list[int]) -> None:
        with self._lock:
            entry[1] -= 1
            if len(self._open) > self._max_idle:
                idle = next((n for n, e in self._open.items() if e[1] == 0), None)
                if idle is not None:
                    os.close(self._open.pop(idle)[0])

    def _opened(self, name: str) -> int:
        try:
            return os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        self._drop_idle()  # what others hold may have left too few
        return os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)

    def _drop_idle(self) -> None:
        self._maps.clear()
        for name in [name for name, entry in self._open.items() if entry[1] == 0]:
            os.close(self._open.pop(name)[0])

    def release(self) -> None:
        """See `Storage`."""
        with self._lock:
            self._drop_idle()

    def close(self) -> None:
        """See `Storage`; a folder has nothing that outlives its files."""
        self.release()

    def __del__(self) -> None:
        if hasattr(self, "_maps"):
            self.release()


_madvise = ctypes.CDLL(None).madvise  # frees the GIL
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
if sys.platform == "linux":
    _mincore = ctypes.PyDLL(None).mincore  # keeps the GIL: it takes microseconds
    _mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)


def _populated(start: int, length: int) -> bool:
    """Bring every page into memory, or say that one cannot be."""
    return not _madvise(start, length, _POPULATE_READ)


def _most_maps() -> int:
    """How many files may be mapped: each keeps a descriptor, and others need some."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(_MAX_MAPS, limit // 4)) if limit != resource.RLIM_INFINITY else _MAX_MAPS
