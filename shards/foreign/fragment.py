"""The part of an index that one tar gives: made in one pass over its bytes, kept in three files.

A member's checksum, what its header says, its place and labels, and (with statistics) its pixels
are taken while its bytes are at hand, and the SHA-256 of the tar goes along. A fragment on disk is
complete when its JSON is there, so that an index that was interrupted goes on with the next tar.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fm.errors import FMError
from fm.files import write_json
from fm.statistics import Statistics
from shards.building import copies
from shards.codecs.codec import MAX_BYTES, CorruptError, checksum
from shards.foreign import metadata, tags
from shards.foreign.declare import ArrayMember, Declaration, JsonMember, Member
from shards.foreign.keys import sample_key, split_name
from shards.foreign.members import decode_foreign, describe
from shards.foreign.tar_scan import Entry, scan
from shards.foreign.zarr_zip import ZipStore
from shards.index.parquet import to_table
from shards.sample import check_mask

MAX_MEMBER = MAX_BYTES + 2**20
MAX_PROBLEMS = 20
SHARE = "valid.share"
FAR = 0.01
"""Degrees that two members of one sample may lie apart."""
_PIECE = 1 << 20


@dataclass
class Fragment:
    """What one tar gives.

    Attributes:
        tar: its name below the root.
        size: in bytes.
        sha256: of the whole file.
        table: index rows, with `valid.share`: the valid fraction of the worst modality in this tar
            (null where no pixel was counted).
        dtypes: of every array member that came.
        statistics: of every modality that came; empty without statistics.
    """

    tar: str
    size: int
    sha256: str
    table: pa.Table
    dtypes: dict[str, str]
    statistics: dict[str, Statistics] = field(default_factory=dict)

    def save(self, stem: Path, mark: str) -> None:
        """Write the fragment as `STEM.parquet`, `.npz` and, last, `.json`."""
        pq.write_table(self.table, stem.with_suffix(".parquet"))
        arrays = {
            f"{modality}/{name}": array
            for modality, statistics in self.statistics.items()
            for name, array in statistics.to_arrays().items()
        }
        with open(stem.with_suffix(".npz"), "wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        about = {"tar": self.tar, "size": self.size, "sha256": self.sha256, "mark": mark}
        write_json(stem.with_suffix(".json"), about | {"dtypes": self.dtypes})


def load(stem: Path, mark: str, bands: Mapping[str, tuple[str, ...]]) -> Fragment | None:
    """Read a fragment back; None where there is none of this mark.

    Args:
        stem: path without its ending.
        mark: of the tar and the declaration it was made with.
        bands: names of the bands of every modality.
    """
    try:
        about = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        if about["mark"] != mark:
            return None
        table = pq.read_table(stem.with_suffix(".parquet"))
        with np.load(stem.with_suffix(".npz"), allow_pickle=False) as stored:
            parts: dict[str, dict[str, np.ndarray]] = {}
            for name in stored.files:
                modality, _, key = name.partition("/")
                parts.setdefault(modality, {})[key] = stored[name]
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None
    statistics = {name: Statistics.from_arrays(bands[name], part) for name, part in parts.items()}
    return Fragment(
        about["tar"], about["size"], about["sha256"], table, about["dtypes"], statistics
    )


def make(
    path: Path,
    tar: str,
    series: str,
    declared: Declaration,
    *,
    stream: int,
    every: int,
    advance: Callable[[], None],
) -> Fragment:
    """Read one tar from end to end.

    Args:
        path: of the local file.
        tar: its name below the root.
        series: its folder's name.
        declared: what its members are.
        stream: number of this tar, for the statistics' sample.
        every: decode and count one in so many samples (by their keys, so that all members of a
            sample are counted or none); 0 for none at all.
        advance: called for each member.

    Raises:
        FMError: the first problems of this tar, in one message.
    """
    return _Reader(tar, series, declared, stream, every).run(path, advance)


class _Reader:
    def __init__(
        self, tar: str, series: str, declared: Declaration, stream: int, every: int
    ) -> None:
        self._tar, self._series, self._declared = tar, series, declared
        self._stream, self._every = stream, every
        self._rows: dict[str, dict[str, Any]] = {}
        self._shares: dict[str, float] = {}
        self._bases: dict[str, str] = {}
        self._dtypes: dict[str, str] = {}
        self._statistics: dict[str, Statistics] = {}
        self._problems: list[str] = []

    def run(self, path: Path, advance: Callable[[], None]) -> Fragment:
        digest = hashlib.sha256()
        scratch = bytearray(_PIECE)
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size

            def read(offset: int, count: int) -> memoryview:
                nonlocal scratch
                if len(scratch) < count:
                    scratch = bytearray(count)
                view, got = memoryview(scratch)[:count], 0
                while got < count:
                    more = os.preadv(file.fileno(), [view[got:]], offset + got)
                    if more == 0:
                        raise FMError(f"{self._tar}: became shorter while it was read")
                    got += more
                return view

            def along(start: int, end: int) -> None:
                while start < end:
                    count = min(_PIECE, end - start)
                    digest.update(read(start, count))
                    start += count

            at = 0
            for entry in scan(lambda o, n: os.pread(file.fileno(), n, o), size, self._tar):
                members = self._declared.find(self._series, split_name(entry.name)[1])
                if not members:
                    continue
                along(at, entry.offset)
                if entry.size > MAX_MEMBER:
                    raise FMError(f"{self._tar}: {entry.name} has {entry.size} bytes, too many")
                view = read(entry.offset, entry.size)
                digest.update(view)
                at = entry.offset + entry.size
                self._take(entry, members, view)
                advance()
                if len(self._problems) >= MAX_PROBLEMS:
                    break
            if self._problems:
                raise FMError("; ".join(f"{self._tar}: {text}" for text in self._problems))
            along(at, size)
        return self._finish(size, digest.hexdigest())

    def _take(self, entry: Entry, members: tuple[Member, ...], view: memoryview) -> None:
        base, _ = split_name(entry.name)
        if not base:
            self._problems.append(f"{entry.name}: nothing stands before its first dot")
            return
        key = sample_key(base)
        if self._bases.setdefault(key, base) != base:
            self._problems.append(f"{base!r} and {self._bases[key]!r} give one key {key!r}")
            return
        row = self._rows.setdefault(key, {"key": key, "shard": self._tar})
        digest = checksum(view)
        for member in members:
            try:
                if isinstance(member, ArrayMember):
                    self._array(row, entry, member, view, digest)
                elif isinstance(member, JsonMember):
                    self._know(row, metadata.from_json(_small(view, metadata.MAX_JSON), member))
                else:
                    self._know(row, metadata.from_text(_small(view, metadata.MAX_TEXT), member))
            except (CorruptError, FMError) as error:
                self._problems.append(f"{entry.name}: {error}")

    def _know(self, row: dict[str, Any], found: dict[str, Any]) -> None:
        """Add what a member says of the sample; what was said before stands."""
        if "lon" in row and "lon" in found:
            _near((row["lon"], row["lat"]), (found["lon"], found["lat"]))
        if "time" in row:
            found.pop("times", None)
        if "transform" in found and "transform" not in row:
            row.pop("crs", None)  # a transform is of the CRS that came with it
        for name, value in found.items():
            row.setdefault(name, value)

    def _array(
        self, row: dict[str, Any], entry: Entry, member: ArrayMember, view: memoryview, digest: int
    ) -> None:
        if member.optional and not holds(view, member):
            return
        if f"{member.name}.offset" in row:
            raise CorruptError(f"{member.name} comes twice")
        shape, dtype = array_of(view, member)
        if self._dtypes.setdefault(member.name, dtype) != dtype:
            raise CorruptError(f"it is {dtype}, {self._dtypes[member.name]} before")
        tags.check(view, member, dtype)
        if member.places:
            self._know(row, metadata.from_zarr(ZipStore(view), member))
        if self._every and checksum(row["key"].encode()) % self._every == 0:
            pixels = np.empty(shape, dtype)
            decode_foreign(view, member.codec, pixels)
            if member.label is not None:
                check_mask("its mask", pixels, member.label)
            else:
                self._count(row, member, pixels)
        row[f"{member.name}.offset"], row[f"{member.name}.bytes"] = entry.offset, entry.size
        row[f"{member.name}.shape"], row[f"{member.name}.xxh3"] = list(shape), digest

    def _count(self, row: dict[str, Any], member: ArrayMember, array: np.ndarray) -> None:
        valid = copies.valid_elements(array, member.nodata)
        pixels = np.moveaxis(array, -3, 0).reshape(array.shape[-3], -1)
        mask = None if valid is None else np.moveaxis(valid, -3, 0).reshape(pixels.shape)
        if array.dtype.kind != "f":
            assert member.scale is not None
            assert member.offset is not None
            pixels = pixels * np.float64(member.scale) + member.offset
        if member.name not in self._statistics:
            names = [band.name for band in member.table]
            self._statistics[member.name] = Statistics(names, stream=self._stream)
        if mask is None or mask.any():
            self._statistics[member.name].update(pixels, mask)
        share = copies.valid_fraction({member.name: valid})
        self._shares[row["key"]] = min(share, self._shares.get(row["key"], 1.0))

    def _finish(self, size: int, sha256: str) -> Fragment:
        rows = list(self._rows.values())
        members = [m.name for m in self._declared.all() if isinstance(m, ArrayMember)]
        for row in rows:
            if "transform" not in row:
                row.pop("crs", None)
            for name in members:
                if f"{name}.offset" in row:
                    row[f"{name}.shard"] = self._tar
        table = to_table(rows, members, self._declared.labels)
        shares = pa.array([self._shares.get(row["key"]) for row in rows], pa.float64())
        table = table.append_column(SHARE, shares)
        return Fragment(self._tar, size, sha256, table, self._dtypes, self._statistics)


def array_of(view: memoryview, member: ArrayMember) -> tuple[tuple[int, ...], str]:
    """Return `(shape in the index, dtype)` of an array member, having compared its axes.

    Raises:
        CorruptError: it is not as declared, or something that its numbers need was not said.
    """
    stored, dtype = describe(view, member.codec)
    shape = member.shape(stored)
    if shape is None:
        bands = f" of {len(member.table)} bands" if member.table else ""
        raise CorruptError(f"{member.codec} of shape {stored} is not {member.axes}{bands}")
    floating = dtype.startswith("float")
    numbers = [number for number in member.nodata or () if number is not None]
    if floating and numbers:
        raise CorruptError(
            f"{member.name} is {dtype}, whose missing data is NaN, not {numbers[0]}; declare "
            "nodata: none when they hold no such number, else build it with fm shards build"
        )
    if member.label is None and not floating:
        unsaid = [n for n in ("scale", "offset") if getattr(member, n) is None]
        unsaid += [] if member.nodata_said else ["nodata"]
        if unsaid:
            why = f": {member.unsaid}" if member.unsaid else ""
            raise CorruptError(f"{member.name} is {dtype}; say its {' and '.join(unsaid)}{why}")
    return shape, dtype


def holds(view: memoryview, member: ArrayMember) -> bool:
    """Return whether a Zarr member has the array at all."""
    name = member.codec.partition(":")[2].partition("@")[0]
    store = ZipStore(view)
    return f"{name}/.zarray" in store or f"{name}/zarr.json" in store


def _near(one: tuple[float, float], other: tuple[float, float]) -> None:
    apart = abs((one[0] - other[0] + 180) % 360 - 180), abs(one[1] - other[1])
    if max(apart) > FAR:
        raise CorruptError(f"it lies at {other}, another member of its sample at {one}")


def _small(view: memoryview, most: int) -> bytes:
    if len(view) > most:
        raise CorruptError(f"{len(view)} bytes, more than the {most} that are read")
    return bytes(view)
