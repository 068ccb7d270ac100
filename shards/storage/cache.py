"""A bounded cache of pieces of remote files on local disk, shared by threads and processes.

Everything lies in `FOLDER/eofm-blocks/`: `blocks/` holds a file a block (content, identity, their
xxh3-64), `files/` whole files, whose names carry the xxh3-64. Nothing is synchronised to disk: what
a crash or a power cut tears is found by its checksum and counts as absent.
"""

import contextlib
import dataclasses
import fcntl
import functools
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import xxhash

from fm.errors import FMError, UsageError
from shards.storage.bounded import BoundedFolder

HOME = "eofm-blocks"
"""Name of the one folder that is written inside the folder the user named."""
_MAGIC = b"EOFMBLK1"
_PIECE = 1 << 22
_LONGEST = 1 << 16
"""No identity is longer."""


@dataclass(frozen=True)
class Block:
    """A range of a remote file.

    Attributes:
        url: of the dataset.
        name: of the file in it.
        offset: of the first byte.
        size: in bytes.
        version: what is known of the remote file's state (its size, its etag); another version is
            another content.
    """

    url: str
    name: str
    offset: int
    size: int
    version: str

    @functools.cached_property
    def key(self) -> str:
        """Name of its file in the cache: 32 hex digits of what it is, whatever the version."""
        place = json.dumps([self.url, self.name, self.offset, self.size])
        return xxhash.xxh3_128_hexdigest(place.encode())

    @functools.cached_property
    def identity(self) -> bytes:
        """What stands behind the content in the cache."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True).encode()


class Counters:
    """What happened, counted; safe to use from many threads.

    Attributes:
        hits: reads of a block, or of a whole file, that the cache answered.
        misses: blocks and whole files that were fetched, by a reader or by read-ahead.
        bytes_fetched: that came over the network and were taken.
        evictions: blocks and files removed to make room.
        retries: requests that were repeated.
        damaged: blocks and files whose bytes in the cache were wrong; each was removed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.hits = self.misses = self.bytes_fetched = 0
        self.evictions = self.retries = self.damaged = 0

    def add(self, name: str, count: int = 1) -> None:
        """Count."""
        with self._lock:
            setattr(self, name, getattr(self, name) + count)

    def snapshot(self) -> dict[str, int]:
        """Return the counts by name."""
        with self._lock:
            return {name: n for name, n in vars(self).items() if not name.startswith("_")}


class BlockCache:
    """Blocks and whole files in a folder.

    Args:
        folder: of the user's choice; only its subfolder `eofm-blocks` is touched.
        limit: bytes that all files of the cache may take together. Processes that share a folder
            should give the same.
        patience: seconds to wait for another process that fetches the same block and shows no
            sign of life; then it is fetched twice.

    Raises:
        FMError: the folder cannot be made.
        UsageError: the limit is not positive.
    """

    def __init__(
        self, folder: str | os.PathLike[str], limit: int, *, patience: float = 60.0
    ) -> None:
        if limit < 1:
            raise UsageError(f"cache_bytes {limit}: give at least the bytes of a few blocks")
        self.folder = Path(folder) / HOME
        self.counters = Counters()
        self._lock, self._file_lock = threading.Lock(), threading.Lock()
        self._flights: dict[Block, Future[bytes]] = {}
        self._checked: dict[str, tuple[int, int, int, str]] = {}
        self._pins: dict[Path, int] = {}
        with self._mendable():
            self._files = BoundedFolder(
                self.folder, ("blocks", "files"), limit, patience, self._evicted
            )

    def get(self, block: Block, download: Callable[[], bytes]) -> bytes:
        """Return a block's bytes, from the cache or else from `download`.

        Threads of this process that ask for one block at once share one download; so do other
        processes, which wait for it.

        Args:
            block: which.
            download: returns exactly `block.size` bytes.

        Raises:
            FMError: the cache folder cannot be written.
        """
        with self._lock:
            flight = self._flights.get(block)
            if flight is None:
                mine = self._flights[block] = Future()
        if flight is not None:
            data = flight.result()
            self.counters.add("hits")
            return data
        try:
            data = self._get(block, download)
        except BaseException as error:
            del self._flights[block]
            mine.set_exception(error)
            raise
        del self._flights[block]
        mine.set_result(data)
        return data

    def read_into(self, block: Block, offset: int, view: memoryview) -> bool:
        """Copy bytes of a block that is in the cache; false says that it is not.

        A block is checked whole when this process first touches the file; after that only the
        wanted bytes are read.

        Args:
            block: which.
            offset: of the first byte in the block.
            view: to fill.
        """
        with self._mendable(), self._opened(block) as descriptor:
            if descriptor is None or os.preadv(descriptor, [view], offset) != len(view):
                return False
        self.counters.add("hits")
        return True

    def has(self, block: Block) -> bool:
        """Say whether a file of the block is there, without checking it."""
        return os.path.exists(self._path(block))

    def whole(self, block: Block, download: Callable[[int], None]) -> Path:
        """Return a local file with a whole remote file.

        The file is not evicted by any process until this cache is closed.

        Args:
            block: offset 0 and the size of the file.
            download: writes the file to an open descriptor.

        Raises:
            FMError: it does not fit under the limit, or another process is stuck fetching it.
        """
        with self._file_lock, self._mendable():
            if (found := self._pinned(block)) is not None:
                self.counters.add("hits")
                return found
            with self._claimed(block) as claim:
                if claim is None:
                    raise FMError(
                        f"{block.url}/{block.name}: another process has been fetching it without "
                        f"progress for {self._files.patience:g} s; end that process"
                    )
                if (found := self._pinned(block)) is not None:
                    self.counters.add("hits")
                    return found
                if not self._files.reserve(claim, block.size):
                    raise FMError(
                        f"{block.url}/{block.name} has {block.size} bytes, more than the cache "
                        f"{self.folder} can hold now; raise cache_bytes ({self._files.limit})"
                    )
                download(claim)
                self.counters.add("misses")
                name = f"{_prefix(block)}{_hash_file(claim, block.size):016x}-{_plain(block.name)}"
                self._files.settle(block.key, self.folder / "files" / name)
            found = self._pinned(block)
            if found is None:
                raise FMError(
                    f"{self.folder}: what was just written reads back wrong; try another disk"
                )
            return found

    def drop(self, block: Block) -> None:
        """Forget a block, and the whole file if that is what it describes."""
        with self._mendable(), self._file_lock:
            self._files.remove(Path(self._path(block)))
            for path in self._versions(block):
                self._files.remove(path)
                if path in self._pins:
                    os.close(self._pins.pop(path))

    def close(self) -> None:
        """Let whole files be evicted."""
        with self._file_lock:
            while self._pins:
                os.close(self._pins.popitem()[1])

    # blocks

    def _get(self, block: Block, download: Callable[[], bytes]) -> bytes:
        with self._claimed(block) as claim:
            with self._mendable(), self._opened(block) as descriptor:
                data = b"" if descriptor is None else os.pread(descriptor, block.size, 0)
            if len(data) == block.size:
                self.counters.add("hits")
                return data
            data = download()
            if len(data) != block.size:
                raise ValueError(f"download of {block} gave {len(data)} bytes")
            self.counters.add("misses")
            if claim is not None:
                with self._mendable():
                    self._store(claim, block, data)
            return data

    @contextlib.contextmanager
    def _claimed(self, block: Block) -> Iterator[int | None]:
        """Be the only one that fetches a block; None when another is stuck doing so."""
        with self._mendable():
            claim = self._files.claim(block.key)
        try:
            yield claim
        finally:
            if claim is not None:
                with self._mendable():
                    self._files.release(claim, block.key)

    def _store(self, claim: int, block: Block, data: bytes) -> None:
        """Write a block if there is room; where there is none, it is only not kept."""
        digest = xxhash.xxh3_64(data)
        digest.update(block.identity)
        parts = [data, block.identity, digest.digest(), _MAGIC]
        if not self._files.reserve(claim, sum(map(len, parts))):
            return
        for part in parts:
            left = memoryview(part)
            while left:
                left = left[os.write(claim, left) :]
        path = Path(self._path(block))
        path.parent.mkdir(exist_ok=True)
        os.utime(claim)  # fetched just now, however long ago the file was begun
        self._files.settle(block.key, path)

    @contextlib.contextmanager
    def _opened(self, block: Block) -> Iterator[int | None]:
        """Lend a descriptor of a block that was checked and is marked as used; None if absent."""
        path = self._path(block)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield None
            return
        try:
            stat = os.fstat(descriptor)
            stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size, block.version)
            if self._checked.get(path) != stamp:
                right = _right(descriptor, stat.st_size, block)
                if right is None:
                    self.counters.add("damaged")
                    self._files.remove(Path(path))
                if not right:
                    yield None
                    return
                self._mark(path, stamp)
            os.utime(descriptor, ns=(time.time_ns(), stat.st_mtime_ns))
            yield descriptor
        finally:
            os.close(descriptor)

    # whole files

    def _pinned(self, block: Block) -> Path | None:
        """Find a whole file of the right content and keep it from being evicted."""
        for path in self._versions(block):
            if not path.name.startswith(_prefix(block)):
                continue
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            stat = os.fstat(descriptor)
            stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size, block.version)
            wanted = path.name[len(_prefix(block)) :][:16]
            if stat.st_nlink == 0:
                os.close(descriptor)
            elif self._checked.get(str(path)) == stamp or (
                stat.st_size == block.size
                and f"{_hash_file(descriptor, block.size):016x}" == wanted
            ):
                self._mark(str(path), stamp)
                os.utime(descriptor, ns=(time.time_ns(), stat.st_mtime_ns))
                if path in self._pins:
                    os.close(self._pins[path])
                self._pins[path] = descriptor
                return path
            else:
                self.counters.add("damaged")
                self._files.remove(path)
                os.close(descriptor)
        return None

    def _versions(self, block: Block) -> list[Path]:
        """Return whole files of the block's place, of every version."""
        start = _prefix(block)[:33]
        names = os.listdir(self.folder / "files")
        return [self.folder / "files" / name for name in sorted(names) if name.startswith(start)]

    # small parts

    def _path(self, block: Block) -> str:
        return f"{self.folder}/blocks/{block.key[:2]}/{block.key[2:]}"

    def _evicted(self, path: str) -> None:
        self._checked.pop(path, None)
        self.counters.add("evictions")

    def _mark(self, path: str, stamp: tuple[int, int, int, str]) -> None:
        if len(self._checked) > 100_000:  # other processes evict too, so entries may be stale
            self._checked.clear()
        self._checked[path] = stamp

    @contextlib.contextmanager
    def _mendable(self) -> Iterator[None]:
        """Turn trouble with the folder into one line: it is no fault of the data."""
        try:
            yield
        except OSError as error:
            if isinstance(error, FMError):
                raise
            raise FMError(
                f"cache folder {self.folder}: {error.strerror or error}; free the disk, lower "
                "cache_bytes or name another folder with cache="
            ) from None


def _right(descriptor: int, size: int, block: Block) -> bool | None:
    """Say whether a block file holds this block (True), another (False), or damage (None)."""
    if not 16 < size - block.size < _LONGEST:
        return None
    data = memoryview(os.pread(descriptor, size, 0))
    body, digest, magic = data[:-16], data[-16:-8], bytes(data[-8:])
    if magic != _MAGIC or xxhash.xxh3_64_digest(body) != digest:
        return None
    return bytes(body[block.size :]) == block.identity


def _hash_file(descriptor: int, size: int) -> int:
    """Return the xxh3-64 of the first `size` bytes of a file."""
    digest, offset = xxhash.xxh3_64(), 0
    while offset < size and (piece := os.pread(descriptor, min(_PIECE, size - offset), offset)):
        digest.update(piece)
        offset += len(piece)
    return digest.intdigest()


def _prefix(block: Block) -> str:
    """Return how the name of a whole file begins: what it is, then which version."""
    return f"{block.key}-{xxhash.xxh3_64_hexdigest(block.version.encode())}-"


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name.rsplit("/", 1)[-1])
