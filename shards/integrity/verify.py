"""Verification: is every byte of a dataset what was written?

Three nets, each covering what the one above cannot place: a checksum for every member, one for
every sample's whole range (tar headers, padding, `KEY.json`), and the SHA-256 of every file. So a
changed byte anywhere is found, and named by sample unless it lies in the end of a tar. Tars that
somebody else wrote have no sample ranges; there the first and the last net are used.

Tars are read by threads, piece by piece, so that memory does not depend on what an index claims.
At a URL they are read past the cache; what is wrong is read again, since it may have been changed
on the way (`shards.integrity.fresh`).
"""

import contextlib
import dataclasses
import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from fm.console import Bar, progress
from fm.errors import FMError, UsageError
from fm.files import sha256_file
from shards.codecs.codec import CorruptError
from shards.format import (
    COLUMNS,
    DESCRIPTION,
    INDEX,
    DatasetInfo,
    ShardInfo,
    check_key,
    parse_info,
)
from shards.index import parquet as index_file
from shards.index.columns_build import build_columns
from shards.integrity import fresh
from shards.integrity.shard_check import Problem, ShardCheck
from shards.integrity.spans import Catalogue
from shards.integrity.verify_journal import Journal
from shards.storage.local import LocalStorage, Storage, open_storage

THREADS = 4
PIECE = 1 << 20
"""Bytes that a thread reads at a time from a local file, and a fraction of it from a URL."""
_REMOTE_PIECE = 8 << 20
_UNSTEADY = "other bytes at each reading: the connection or the server changes them; try again"
_STEP = 8
"""Megabytes after which the bar moves."""


@dataclass
class Report:
    """What `verify` found.

    Attributes:
        path: the dataset folder or URL.
        samples: samples that the index lists; 0 when it cannot be read.
        shards: tars that the description lists.
        bytes: bytes that were read.
        skipped: tars that a journal calls finished and that have not changed since.
        problems: everything that is wrong; empty when all is well.
    """

    path: str
    samples: int = 0
    shards: int = 0
    bytes: int = 0
    skipped: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True when nothing is wrong."""
        return not self.problems

    @property
    def verdict(self) -> str:
        """In words."""
        return "all well" if self.ok else f"{len(self.problems)} problems; see `fm shards repair`"

    @property
    def bad_keys(self) -> list[str]:
        """Keys of the samples that are damaged, each once."""
        return list(dict.fromkeys(p.key for p in self.problems if p.key is not None))

    def to_dict(self) -> dict[str, Any]:
        """Return the report for `--json`."""
        value = dataclasses.asdict(self)
        return {"format_version": 1, "ok": self.ok, "bad_keys": self.bad_keys, **value}


def verify(
    path: str | os.PathLike[str],
    *,
    threads: int = THREADS,
    journal: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> Report:
    """Read every byte of a dataset and compare it with what was written.

    Args:
        path: the dataset folder or URL.
        threads: tars that are read at the same time.
        journal: a file that remembers finished tars; those that have not changed since are passed
            over. At a URL, where there is no modification time, unchanged means of the same size.
        cache: folder for what is fetched from a URL.

    Returns:
        the report; damage is reported there, not raised.

    Raises:
        FMError: the folder or its `dataset.json` cannot be read, so that nothing can be compared,
            or the journal is of another dataset.
        UsageError: fewer than one thread.
    """
    with contextlib.closing(open_storage(path, cache)) as storage:
        info = describe(storage)
        if info.root is None:
            return check(storage, storage, info, threads=threads, journal=journal)[0]
        with contextlib.closing(open_storage(info.root, cache)) as tars:
            return check(storage, tars, info, threads=threads, journal=journal)[0]


def check(
    storage: Storage,
    tars: Storage,
    info: DatasetInfo,
    *,
    threads: int = THREADS,
    journal: str | os.PathLike[str] | None = None,
) -> tuple[Report, pa.Table | None]:
    """Do the work of `verify`; also return the index, None when it cannot be trusted.

    Args:
        storage: where the index lies.
        tars: where the tars lie.
        info: the description.
        threads: as in `verify`.
        journal: as in `verify`.
    """
    if threads < 1:
        raise UsageError(f"threads={threads}: give at least 1")
    ledger = None if journal is None else Journal(journal, info.manifest_hash)
    report = Report(storage.url, shards=len(info.shards))
    table = read_index(storage, info, report)
    report.samples = 0 if table is None else len(table)
    _extra(storage, info, report)
    catalogue = None if table is None else Catalogue(table, info)
    if catalogue is not None:
        detail = "names a tar that dataset.json does not list"
        for row in catalogue.strays():
            report.problems.append(Problem("index", detail, key=catalogue.key(row)))
    _Pass(tars, info, catalogue, ledger, report).run(threads)
    return report, table


def describe(storage: Storage) -> DatasetInfo:
    """Read and check the description of an opened dataset."""
    return read_description(storage)[0]


def read_description(storage: Storage) -> tuple[DatasetInfo, bytes]:
    """Read and check the description of an opened dataset; also return the bytes that it is.

    Raises:
        FMError: it is missing, cannot be read, or is not what was written.
    """
    tries = fresh.readings(storage)
    while True:
        try:
            data = storage.read_bytes(DESCRIPTION)
        except FileNotFoundError:
            raise FMError(
                f"{storage.url}: not a dataset (no {DESCRIPTION}); `fm shards build` makes one"
            ) from None
        except OSError as error:
            reason = error.strerror
            raise FMError(f"{storage.url}: {DESCRIPTION} cannot be read ({reason})") from None
        tries -= 1
        try:
            return parse_info(data, f"{storage.url}/{DESCRIPTION}"), data
        except FMError:
            if not tries:
                raise


def read_index(storage: Storage, info: DatasetInfo, report: Report) -> pa.Table | None:
    """Report what is wrong with the index and its copy; return the index when it can be trusted.

    An index whose SHA-256 is not that of the description is not looked into: what it says of the
    tars means nothing.
    """

    def wrong(detail: str, key: str | None = None) -> None:
        report.problems.append(Problem("index", detail, key=key))

    try:
        path = fresh.local_copy(storage, INDEX, lambda p: sha256_file(p) == info.index_sha256)
        table = index_file.read(path, info)
        table.validate(full=True)
    except FMError as error:
        wrong(str(error))
        return None
    except FileNotFoundError:
        wrong(f"{INDEX} is missing; copy it again")
        return None
    except OSError as error:
        wrong(f"{INDEX} cannot be read ({error.strerror})")
        return None
    except pa.ArrowException as error:
        wrong(f"unreadable values ({str(error).splitlines()[0]})")
        return None
    report.bytes += path.stat().st_size
    keys = table.column("key")
    for chunk in keys.chunks:
        for key in chunk.to_pylist():
            try:
                check_key(key)
            except FMError as error:
                wrong(str(error))
    if pc.count_distinct(keys).as_py() < len(keys):
        for item in keys.value_counts().to_pylist():
            if item["counts"] > 1:
                wrong(f"listed {item['counts']} times", item["values"])
    _columns(storage, path, info, report)
    return table


def _columns(storage: Storage, parquet: Path, info: DatasetInfo, report: Report) -> None:
    """Compare `index.bin`, where there is one, with what the index gives."""
    with tempfile.TemporaryFile() as wanted:
        try:
            build_columns(parquet, info, wanted)
        except FMError as error:
            report.problems.append(Problem("index", str(error)))
            return
        try:
            found = fresh.local_copy(storage, COLUMNS, lambda path: _same(path, wanted))
            report.bytes += found.stat().st_size
            same = _same(found, wanted)
        except OSError:
            return
    if not same:
        detail = f"{COLUMNS} does not agree with {INDEX}; `fm shards repair` makes it again"
        report.problems.append(Problem("columns", detail))


def _same(path: Path, wanted: BinaryIO) -> bool:
    """Say whether a file holds what another holds."""
    with open(path, "rb") as stream:
        if os.fstat(stream.fileno()).st_size != os.fstat(wanted.fileno()).st_size:
            return False
        wanted.seek(0)
        while piece := wanted.read(PIECE):
            if stream.read(PIECE) != piece:
                return False
    return True


def _extra(storage: Storage, info: DatasetInfo, report: Report) -> None:
    if info.root is not None or not isinstance(storage, LocalStorage):
        return  # somebody else's folder, or one that cannot be listed
    folder, listed = Path(storage.url), {shard.name for shard in info.shards}
    found = {str(p.relative_to(folder)) for text in ("*.tar", "*/*.tar") for p in folder.glob(text)}
    for extra in sorted(found - listed):
        report.problems.append(Problem("extra", "not listed in dataset.json; remove it", extra))


class _Pass:
    """One reading of every tar."""

    def __init__(
        self,
        storage: Storage,
        info: DatasetInfo,
        catalogue: Catalogue | None,
        journal: Journal | None,
        report: Report,
    ) -> None:
        self._storage, self._info, self._catalogue = storage, info, catalogue
        self._journal, self._report = journal, report
        self._read, self._readings = fresh.reader(storage), fresh.readings(storage)
        self._piece = PIECE if isinstance(storage, LocalStorage) else _REMOTE_PIECE
        self._lock, self._begin = threading.Lock(), time.monotonic()
        self._done = self._shown = 0

    def run(self, threads: int) -> None:
        total = sum(shard.bytes for shard in self._info.shards)
        with progress("verifying MB", total // 10**6) as bar, ThreadPoolExecutor(threads) as pool:
            self._bar: Bar = bar
            try:
                futures = [pool.submit(self._shard, shard) for shard in self._info.shards]
                for future in futures:
                    self._report.problems += future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _shard(self, shard: ShardInfo) -> list[Problem]:
        try:
            stamp = self._stamp(shard)
            if self._journal is not None:
                with self._lock:
                    known = self._journal.find(shard.name, stamp)
                    self._report.skipped += known is not None
                if known is not None:
                    self._progress(shard.bytes, read=0)
                    return known
            problems, sha256 = self._problems(shard, stamp["size"])
        except FileNotFoundError:
            detail = "listed in dataset.json but not there; copy it again"
            return [Problem("missing", detail, shard.name)]
        except (OSError, CorruptError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            return [Problem("missing", f"cannot be read ({reason})", shard.name)]
        if self._journal is not None:
            with self._lock:
                self._journal.add(shard.name, stamp, sha256, problems)
        return problems

    def _problems(self, shard: ShardInfo, size: int) -> tuple[list[Problem], str | None]:
        """Return what is wrong with a tar, and its SHA-256 where that was looked at.

        What came over a network is only wrong when two readings find the same.
        """
        before: list[Problem] | None = None
        for number in range(self._readings):
            check = ShardCheck(shard, self._catalogue)
            self._stream(shard.name, min(size, shard.bytes), check, again=number > 0)
            problems = check.finish(size)
            if not problems or problems == before or self._readings == 1:
                return problems, check.sha256
            before = problems
        return [Problem("archive", _UNSTEADY, shard.name)], None

    def _stamp(self, shard: ShardInfo) -> dict[str, Any]:
        stamp: dict[str, Any] = {"size": self._storage.size(shard.name)}
        if isinstance(self._storage, LocalStorage):
            stamp["mtime_ns"] = self._storage.local(shard.name).stat().st_mtime_ns
        # an index that was mended since can place what was wrong before
        return {**stamp, "index": self._catalogue is not None}

    def _stream(self, name: str, size: int, check: ShardCheck, *, again: bool) -> None:
        room = memoryview(bytearray(min(size, self._piece)))
        for place in range(0, size, self._piece):
            piece = room[: min(self._piece, size - place)]
            self._read(name, place, piece)
            check.feed(piece)
            self._progress(0 if again else len(piece), read=len(piece))

    def _progress(self, done: int, read: int) -> None:
        with self._lock:
            self._done += done
            self._report.bytes += read
            steps = self._done // 10**6 - self._shown
            if steps >= _STEP:
                self._shown += steps
                speed = self._report.bytes / 1e6 / (time.monotonic() - self._begin + 1e-9)
                self._bar.advance(steps, **{"MB/s": f"{speed:.0f}"})
