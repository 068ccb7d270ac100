"""Datasets at a URL: byte ranges through fsspec, tried again, read ahead, kept on local disk."""

import os
import random
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import xxhash

from fm.errors import FMError, UsageError
from shards.codecs.codec import CorruptError
from shards.storage.cache import Block, BlockCache, Counters
from shards.storage.filesystems import judge, open_filesystem, scheme_of

BLOCK_BYTES = 4 * 2**20
"""What is fetched and kept at once."""
CACHE_BYTES = 20 * 10**9
"""Bound on the cache folder unless the user gives another."""
_LARGEST_SMALL = 2**28
"""`read_bytes` refuses larger files."""
_AHEAD_BYTES = 2**30
_KEPT_BLOCKS = 50_000
_LONGEST_PAUSE = 20.0
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@,-]*(/[A-Za-z0-9_][A-Za-z0-9_.+=@,-]*)*")
_VERSIONS = (
    *("etag", "content-md5", "md5hash", "generation", "last-modified", "lastmodified"),
    *("last_modified", "mtime", "updated", "created"),
)
"""What filesystems call that which changes when a file does, best first."""


class MissingError(FMError, FileNotFoundError):
    """The server says that there is no such file (404 and its like)."""


class _ClosedError(FMError):
    """The storage was closed while a request was waiting or being repeated."""


class RemoteStorage:
    """Files by name and byte range under a URL; see `shards.storage.local.Storage`.

    Blocks of `block_bytes` are fetched whole and kept in the cache folder. Requests that fail for a
    reason that may pass (connection, timeout, 5xx, 408, 429, short answers) are repeated after
    pauses that double, with jitter; 404, 403 and other refusals are not. Bytes are checked by the
    caller, who knows the checksums of members; after a mismatch it calls `invalidate` and reads
    once more.

    Not to be used across `fork`: open it in the process that reads.

    Args:
        url: of the dataset's folder: `https://`, `s3://`, `gs://`, `memory://` and whatever else
            fsspec knows. A query (`?token=...`) is sent with every request and never shown.
        cache: folder of the user's choice; the variable `EOFM_CACHE` when None.
        cache_bytes: bound on what the cache folder holds.
        block_bytes: bytes fetched at once.
        retries: how often a request is repeated.
        timeout: seconds without a byte before a request counts as failed (http and https; for
            others see the options of their package).
        backoff: seconds of the first pause.
        threads: that read ahead; so many blocks are in flight at most.
        ahead_bytes: blocks that may be waiting to be read ahead, in bytes; what is asked for beyond
            is left to the reader. None: 1 GiB, at most half the cache.
        options: storage options of fsspec, such as `{"anon": True}` for `s3://`.

    Attributes:
        url: without user, password and query.
        counters: hits, misses, bytes fetched, evictions, retries, damaged blocks.

    Raises:
        FMError: the package that reads the scheme is not installed, or the cache folder cannot be
            made.
        UsageError: no cache folder, an unknown scheme, a number out of range.
    """

    def __init__(
        self,
        url: str,
        cache: str | os.PathLike[str] | None = None,
        cache_bytes: int = CACHE_BYTES,
        *,
        block_bytes: int = BLOCK_BYTES,
        retries: int = 8,
        timeout: float = 30.0,
        backoff: float = 0.1,
        threads: int = 8,
        ahead_bytes: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        scheme = scheme_of(url)
        parts = urlsplit(url)
        self._start, self._query = urlunsplit((*parts[:2], parts.path.rstrip("/"), "", "")), ""
        if scheme in ("http", "https"):
            self._query = parts.query and "?" + parts.query
        self.url = urlunsplit((scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        self.url = self.url.rstrip("/")
        self._secrets = [text for text in (parts.netloc.rpartition("@")[0], parts.query) if text]
        if block_bytes < 1 or threads < 1 or retries < 0 or timeout <= 0 or backoff < 0:
            raise UsageError(
                f"block_bytes={block_bytes}, threads={threads}, retries={retries}, "
                f"timeout={timeout}, backoff={backoff}: sizes and counts are at least 1, retries "
                "and backoff at least 0, timeout above 0"
            )
        folder = cache or os.environ.get("EOFM_CACHE") or None
        if folder is None:
            raise UsageError(
                f"{self.url}: remote data needs a cache folder; pass cache= or set EOFM_CACHE"
            )
        self._fs = open_filesystem(scheme, self.url, timeout, options or {})
        self._cache = BlockCache(folder, cache_bytes)
        self.counters: Counters = self._cache.counters
        self._place = self.url
        if self._query:  # another query may be another dataset, and it may be secret
            self._place += "?" + xxhash.xxh3_128_hexdigest(self._query.encode())
        self._block_bytes, self._retries, self._backoff = block_bytes, retries, backoff
        self._blocks: dict[tuple[str, int], Block] = {}
        self._known: dict[str, tuple[int, str]] = {}
        self._asking = [threading.Lock() for _ in range(64)]
        self._closed = threading.Event()
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._ahead_bytes = ahead_bytes or min(_AHEAD_BYTES, cache_bytes // 2)
        self._ahead: set[tuple[str, int]] = set()
        self._lock = threading.Lock()

    def read_bytes(self, name: str) -> bytes:
        """Return a whole small file, fetched anew: a description must not be an old one.

        Raises:
            FMError: it is missing (`MissingError`), too large, or cannot be read.
        """
        self._forget(name)
        size = self.size(name)
        if size > _LARGEST_SMALL:
            raise FMError(f"{self.url}/{name} has {size} bytes; a small file was expected there")
        data = self._range(name, 0, size)
        self.counters.add("bytes_fetched", size)
        return data

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""
        return self._info(name)[0]

    def view(self, name: str, offset: int, size: int) -> np.ndarray | None:
        """Return None: bytes of a remote file are always copied."""
        return None

    def read_into(self, name: str, offset: int, view: memoryview) -> None:
        """Fill a buffer from a place in a file.

        Args:
            name: of the file.
            offset: of the first byte.
            view: to fill, whole.

        Raises:
            CorruptError: the file ends early.
            MissingError: the server has no such file; also an `OSError`.
            FMError: access is refused, or the connection does not come back; no fault of the data.
        """
        end = offset + len(view)
        if end > self.size(name):
            raise CorruptError(f"{name} ends early")
        blocks = [self._block(name, number) for number in self._numbers(offset, end)]
        if len(blocks) > 1:
            self.prefetch(
                [(b.name, b.offset, b.size) for b in blocks[1:] if not self._cache.has(b)]
            )
        for block in blocks:
            first, last = max(offset, block.offset), min(end, block.offset + block.size)
            part = view[first - offset : last - offset]
            if not self._cache.read_into(block, first - block.offset, part):
                data = self._cache.get(block, self._download(block))
                part[:] = memoryview(data)[first - block.offset : last - block.offset]

    def read_fresh(self, name: str, offset: int, view: memoryview) -> None:
        """Fill a buffer with what the server has now; the cache is neither asked nor filled.

        Args:
            name: of the file.
            offset: of the first byte.
            view: to fill, whole; in one request, so of a size that may be held twice.

        Raises:
            CorruptError: the file ends early.
            MissingError: the server has no such file; also an `OSError`.
            FMError: access is refused, or the connection does not come back.
        """
        if offset + len(view) > self.size(name):
            raise CorruptError(f"{name} ends early")
        view[:] = self._range(name, offset, offset + len(view))
        self.counters.add("bytes_fetched", len(view))

    def local(self, name: str) -> Path:
        """Return a local file with the whole content, in the cache until this storage is closed.

        Raises:
            FMError: it is larger than the cache, or cannot be read.
        """
        size, version = self._info(name)
        whole = Block(self._place, name, 0, size, version)
        return self._cache.whole(whole, lambda descriptor: self._copy(name, size, descriptor))

    def prefetch(self, ranges: Sequence[tuple[str, int, int]]) -> None:
        """Read ahead in the background what will be wanted soon; returns at once.

        What fails is left to the reader, who meets the same failure. Requests beyond
        `ahead_bytes` are left to the reader too.

        Args:
            ranges: `(name, offset, size)` in the order in which they will be read.
        """
        for name, offset, size in ranges:
            for number in self._numbers(offset, offset + size):
                self._submit((name, number))

    def invalidate(self, name: str, offset: int, size: int) -> bool:
        """Drop the cached copies of bytes that were wrong, so that the next read fetches them.

        Returns:
            True: the bytes may be right the next time.
        """
        total, version = self._info(name)
        for number in self._numbers(offset, min(offset + size, total)):
            self._cache.drop(self._block(name, number))
        self._cache.drop(Block(self._place, name, 0, total, version))
        self._forget(name)
        return True

    def release(self) -> None:
        """Forget what should be read ahead, and let the threads end; they start again when needed.

        Local copies stay: they may be mapped.
        """
        with self._lock:
            pool, self._pool = self._pool, None
            self._ahead.clear()
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End for good; requests under way end first, those that are being repeated do not."""
        self._closed.set()
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        self._cache.close()

    # blocks

    def _numbers(self, start: int, end: int) -> range:
        return range(start // self._block_bytes, -(-end // self._block_bytes))

    def _block(self, name: str, number: int) -> Block:
        size, version = self._info(name)
        found = self._blocks.get((name, number))
        if found is None or found.version != version:
            offset, most = number * self._block_bytes, self._block_bytes
            found = Block(self._place, name, offset, min(most, size - offset), version)
            if len(self._blocks) >= _KEPT_BLOCKS:
                self._blocks.clear()
            self._blocks[name, number] = found
        return found

    def _download(self, block: Block) -> Callable[[], bytes]:
        def download() -> bytes:
            data = self._range(block.name, block.offset, block.offset + block.size)
            self.counters.add("bytes_fetched", block.size)
            return data

        return download

    def _submit(self, wanted: tuple[str, int]) -> None:
        """Queue a block for reading ahead unless it is queued or the queue is full."""
        with self._lock:
            full = (len(self._ahead) + 1) * self._block_bytes > self._ahead_bytes
            if full or wanted in self._ahead or self._closed.is_set():
                return
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="shards-remote")
            self._ahead.add(wanted)
            self._pool.submit(self._fetch, wanted)

    def _fetch(self, wanted: tuple[str, int]) -> None:
        try:
            block = self._block(*wanted)
            if block.size > 0 and not self._cache.has(block):
                self._cache.get(block, self._download(block))
        except FMError:
            pass  # the reader asks for the same bytes and says what is wrong
        finally:
            with self._lock:
                self._ahead.discard(wanted)

    def _copy(self, name: str, size: int, descriptor: int) -> None:
        """Write a whole file to a descriptor, several blocks at a time."""
        starts = deque(range(0, size, self._block_bytes))
        flying: deque[tuple[int, Future[bytes]]] = deque()
        with ThreadPoolExecutor(self._threads, thread_name_prefix="shards-remote") as pool:
            while starts or flying:
                while starts and len(flying) < self._threads:
                    start = starts.popleft()
                    end = min(start + self._block_bytes, size)
                    flying.append((start, pool.submit(self._range, name, start, end)))
                start, future = flying.popleft()
                data = memoryview(future.result())
                self.counters.add("bytes_fetched", len(data))
                while data:
                    written = os.pwrite(descriptor, data, start)
                    start, data = start + written, data[written:]

    # requests

    def _full(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise FMError(f"{self.url}: file name {name!r} is not allowed; the dataset is damaged")
        return f"{self._start}/{name}{self._query}"

    def _info(self, name: str) -> tuple[int, str]:
        """Return the size of a file and what identifies its present content; asked for once."""
        found = self._known.get(name)
        if found is not None:
            return found
        with self._asking[hash(name) % len(self._asking)]:
            found = self._known.get(name)
            if found is None:
                found = self._known[name] = self._ask(name)
        return found

    def _ask(self, name: str) -> tuple[int, str]:
        path = self._full(name)
        told = self._try(name, lambda: self._fs.info(path))
        if told.get("type") == "directory":
            raise MissingError(f"{self.url}/{name} is a folder, not a file; check the URL")
        size = told.get("size")
        if size is None:
            raise FMError(
                f"{self.url}/{name}: the server does not tell the size; use one that sends "
                "Content-Length"
            )
        lower = {key.lower(): value for key, value in told.items()}
        marks = [str(lower[key]) for key in _VERSIONS if lower.get(key)][:1]
        return int(size), " ".join([str(size), *marks])

    def _forget(self, name: str) -> None:
        self._known.pop(name, None)

    def _range(self, name: str, start: int, end: int) -> bytes:
        """Fetch bytes of a file, exactly so many."""
        if start == end:
            return b""
        path = self._full(name)

        def request() -> bytes:
            data = self._fs.cat_file(path, start=start, end=end)
            if len(data) > end - start:
                raise FMError(
                    f"{self.url}/{name}: the server ignores byte ranges (asked for {end - start} "
                    f"bytes, got {len(data)}); use a server that supports Range"
                )
            if len(data) < end - start:
                raise ConnectionError(f"{len(data)} of {end - start} bytes came")
            return data

        return self._try(name, request)

    def _try(self, name: str, call: Callable[[], Any]) -> Any:
        """Make a request, again after a pause where that may help."""
        for attempt in range(self._retries + 1):
            if self._closed.is_set():
                raise _ClosedError(f"{self.url} was closed; open it again")
            try:
                return call()
            except FMError:
                raise
            except Exception as error:
                verdict, said = judge(error)
                for secret in self._secrets:  # some errors quote the URL
                    said = said.replace(secret, "...")
            if verdict == "missing":
                raise MissingError(f"{self.url}/{name}: not found; check the URL")
            if verdict == "refused":
                raise FMError(f"{self.url}/{name}: {said}; check the URL and your credentials")
            if attempt < self._retries:
                self.counters.add("retries")
                pause = min(_LONGEST_PAUSE, self._backoff * 2**attempt)
                self._closed.wait(pause * random.uniform(0.5, 1.0))
        raise FMError(
            f"{self.url}/{name}: gave up after {self._retries + 1} tries ({said}); check the "
            "connection, then go on from where the run stopped"
        )
