"""Verification: is every byte of a dataset what was written?

Three nets, each covering what the one above cannot place: a checksum for every member, one for
every sample's whole range (tar headers, padding, `KEY.json`), and the SHA-256 of every file. So a
changed byte anywhere is found, and named by sample unless it lies in the end of a tar.
"""

import dataclasses
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from fm.console import progress
from fm.errors import FMError
from fm.files import sha256_file
from shards import index as index_file
from shards.codec import checksum
from shards.format import INDEX, DatasetInfo, ShardInfo, check_key, read_info
from shards.tar import end_of_archive


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: `member`, `sample` (its tar headers, padding or `KEY.json`), `archive` (bytes of a tar
            that belong to no sample), `missing`, `extra` (files), `index`.
        detail: what was found, in words.
        shard: file name, where it is about one.
        key: sample key, where it is about one.
        member: where it is about one.
    """

    kind: str
    detail: str
    shard: str | None = None
    key: str | None = None
    member: str | None = None

    def __str__(self) -> str:
        where = [text for text in (self.shard, self.key, self.member) if text]
        return f"{self.kind}: {': '.join([*where, self.detail])}"


@dataclass
class Report:
    """What `verify` found.

    Attributes:
        path: the dataset folder.
        samples: samples that the index lists.
        shards: tars that the description lists.
        bytes: bytes that were read.
        problems: everything that is wrong; empty when all is well.
    """

    path: str
    samples: int = 0
    shards: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True when nothing is wrong."""
        return not self.problems

    @property
    def bad_keys(self) -> list[str]:
        """Keys of the samples that are damaged, each once."""
        return list(dict.fromkeys(p.key for p in self.problems if p.key is not None))

    def to_dict(self) -> dict[str, Any]:
        """Return the report for `--json`."""
        value = dataclasses.asdict(self)
        return {"format_version": 1, "ok": self.ok, "bad_keys": self.bad_keys, **value}


def verify(path: str | os.PathLike[str]) -> Report:
    """Read every byte of a dataset and compare it with what was written.

    Args:
        path: the dataset folder.

    Returns:
        the report; damage is reported there, not raised.

    Raises:
        FMError: the folder or its `dataset.json` cannot be read, so that nothing can be compared.
    """
    folder = Path(path)
    info = read_info(folder)
    report = Report(str(folder), shards=len(info.shards))
    rows = _index(folder, info, report)
    report.samples = sum(len(found) for found in (rows or {}).values())
    listed = {shard.name for shard in info.shards}
    for extra in sorted(item.name for item in folder.glob("*.tar") if item.name not in listed):
        report.problems.append(Problem("extra", "not listed in dataset.json; remove it", extra))
    with progress("verifying shards", len(info.shards)) as bar:
        for shard in info.shards:
            try:
                with open(folder / shard.name, "rb") as stream:
                    found = rows.get(shard.name, []) if rows is not None else None
                    _shard(stream, shard, found, info.members, report)
            except FileNotFoundError:
                detail = "listed in dataset.json but not there; copy it again"
                report.problems.append(Problem("missing", detail, shard.name))
            except OSError as error:
                text = f"cannot be read ({error.strerror})"
                report.problems.append(Problem("missing", text, shard.name))
            bar.advance()
    return report


def _index(
    folder: Path, info: DatasetInfo, report: Report
) -> dict[str, list[dict[str, Any]]] | None:
    """Report what is wrong with the index; return its rows by shard, None when unreadable."""
    path = folder / INDEX

    def wrong(detail: str, key: str | None = None) -> None:
        report.problems.append(Problem("index", detail, key=key))

    try:
        table = index_file.read(path, info, check_hash=False)
    except FMError as error:
        wrong(str(error))
        return None
    report.bytes += path.stat().st_size
    if sha256_file(path) != info.index_sha256:
        wrong(f"SHA-256 of {INDEX} is not that of dataset.json; copy it again")
    rows: dict[str, list[dict[str, Any]]] = {}
    keys = set()
    wanted = ["key", "shard", "sample.offset", "sample.bytes", "sample.xxh3"]
    wanted += [f"{m}.{part}" for m in info.members for part in ("offset", "bytes", "xxh3")]
    try:
        found = table.select(wanted).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        wrong(f"unreadable values ({str(error).splitlines()[0]})")
        return None
    for row in found:
        try:
            key = check_key(row["key"])
        except FMError as error:
            wrong(str(error))
            continue
        if key in keys:
            wrong("listed twice", key)
        keys.add(key)
        rows.setdefault(row["shard"], []).append(row)
    return rows


def _shard(
    stream: BinaryIO,
    shard: ShardInfo,
    rows: list[dict[str, Any]] | None,
    members: tuple[str, ...],
    report: Report,
) -> None:
    """Read one tar from end to end; without rows only its SHA-256 can be checked."""
    before, place = len(report.problems), 0
    digest = hashlib.sha256()
    size = os.fstat(stream.fileno()).st_size

    def wrong(kind: str, detail: str, key: str | None = None, member: str | None = None) -> None:
        report.problems.append(Problem(kind, detail, shard.name, key, member))

    if size != shard.bytes:
        wrong("archive", f"{size} bytes, written were {shard.bytes}")
    for row in sorted(rows or [], key=lambda row: row["sample.offset"]):
        start, length, key = row["sample.offset"], row["sample.bytes"], row["key"]
        if start != place or not 0 < length <= shard.bytes - place:
            wrong("index", f"byte range {start}+{length} does not follow on {place}", key)
            break
        data = stream.read(length)
        digest.update(data)
        place += length
        if len(data) < length:
            wrong("sample", f"the file ends {length - len(data)} bytes early", key)
            continue
        whole = len(report.problems)
        for member in members:
            if (offset := row[f"{member}.offset"]) is None:
                continue
            at, count = offset - start, row[f"{member}.bytes"]
            if count is None or not 0 <= at <= at + count <= length:
                wrong("index", f"byte range {offset}+{count} lies outside the sample", key, member)
            elif checksum(memoryview(data)[at : at + count]) != row[f"{member}.xxh3"]:
                wrong("member", "checksum mismatch", key, member)
        if checksum(data) != row["sample.xxh3"] and len(report.problems) == whole:
            wrong("sample", f"tar header, padding or {key}.json does not match its checksum", key)
    while piece := stream.read(1 << 20):
        digest.update(piece)
        place += len(piece)
        if rows is not None and piece.strip(b"\0") and len(report.problems) == before:
            wrong("archive", "bytes after the last sample are not zero")
    report.bytes += size
    samples_end = sum(row["sample.bytes"] for row in rows or [])
    if (
        rows is not None
        and len(report.problems) == before
        and size != samples_end + end_of_archive(samples_end)
    ):
        wrong("archive", f"{size - samples_end} bytes after the last sample")
    if digest.hexdigest() != shard.sha256 and len(report.problems) == before:
        wrong("archive", "SHA-256 is not that of dataset.json")
