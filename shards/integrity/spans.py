"""Which byte ranges of each tar have a checksum in the index, and checking a stream against them.

Two layers: the whole range of every sample (with tar headers, padding and `KEY.json`), which lie
end to end in tars that we wrote and are unknown in tars that somebody else wrote; and the members.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from shards.format import DatasetInfo

WHOLE = -1
"""The member number of a range that is a whole sample."""


@dataclass(frozen=True)
class Spans:
    """Byte ranges of one tar, by their start.

    Attributes:
        start: int64 [n], bytes from the beginning of the tar.
        size: int64 [n].
        xxh3: uint64 [n], what the bytes hash to.
        row: int64 [n], of the index.
        member: int64 [n], a place in `DatasetInfo.members`, or `WHOLE`.
    """

    start: np.ndarray
    size: np.ndarray
    xxh3: np.ndarray
    row: np.ndarray
    member: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    def take(self, kept: np.ndarray) -> "Spans":
        """Return the spans with these numbers, or where a mask is true."""
        columns = (self.start, self.size, self.xxh3, self.row, self.member)
        return Spans(*(column[kept] for column in columns))

    def sorted(self) -> "Spans":
        """Return the spans by start."""
        return self.take(np.argsort(self.start, kind="stable"))


class Catalogue:
    """The spans of every tar that an index describes.

    Args:
        table: the index.
        info: the description that it belongs to.
    """

    def __init__(self, table: pa.Table, info: DatasetInfo) -> None:
        self._names = {shard.name: number for number, shard in enumerate(info.shards)}
        self._members = info.members
        self._keys = table.column("key")
        home = self._codes(table.column("shard"))
        self._parts = [_Part(table, "sample", home, WHOLE)]
        for number, member in enumerate(info.members):
            codes = home
            if f"{member}.shard" in table.column_names:
                other = table.column(f"{member}.shard")
                if other.null_count < len(other):
                    codes = self._codes(other)
                    null = other.combine_chunks().is_null().to_numpy(zero_copy_only=False)
                    codes = np.where(null, home, codes)
            self._parts.append(_Part(table, member, codes, number))

    def _codes(self, column: Any) -> np.ndarray:
        """Return the shard's number of each row, -1 where it is none of the description's."""
        encoded = column.combine_chunks().dictionary_encode()
        numbers = [self._names.get(name, -1) for name in encoded.dictionary.to_pylist()]
        at = encoded.indices.fill_null(len(numbers)).to_numpy(zero_copy_only=False)
        return np.asarray([*numbers, -1], np.int64)[at]

    def samples(self, shard: str) -> Spans:
        """Return the ranges of whole samples in a tar; none in a tar that somebody else wrote."""
        return self._parts[0].of(self._names[shard]).sorted()

    def members(self, shard: str) -> Spans:
        """Return the ranges of the members in a tar."""
        found = [part.of(self._names[shard]) for part in self._parts[1:]]
        columns = [
            np.concatenate([getattr(spans, name) for spans in found])
            for name in ("start", "size", "xxh3", "row", "member")
        ]
        spans = Spans(*columns).sorted()
        # several arrays may lie in one file of somebody else's tar: it is checked once
        told = (spans.start, spans.size, spans.row, spans.xxh3)
        same = np.logical_and.reduce([column[1:] == column[:-1] for column in told])
        return spans.take(np.concatenate([np.ones(min(1, len(spans)), bool), ~same]))

    def strays(self) -> list[int]:
        """Return the rows that name a tar which the description does not list."""
        found = [part.rows(-1) for part in self._parts]
        return sorted({int(row) for rows in found for row in rows})

    def key(self, row: int) -> str:
        """Return a sample's key."""
        return str(self._keys[row].as_py())

    def member(self, number: int) -> str | None:
        """Return a member's name; None for a whole sample."""
        return None if number == WHOLE else self._members[number]


class _Part:
    """One kind of range: its columns, and the rows by tar."""

    def __init__(self, table: pa.Table, name: str, codes: np.ndarray, member: int) -> None:
        self._member = member
        self._start = _numbers(table, f"{name}.offset", -1)
        self._size = _numbers(table, f"{name}.bytes", 0)
        self._xxh3 = _numbers(table, f"{name}.xxh3", 0)
        here = table.column(f"{name}.offset").combine_chunks().is_valid()
        has = np.flatnonzero(here.to_numpy(zero_copy_only=False))
        self._order = has[np.argsort(codes[has], kind="stable")]
        self._codes = codes[self._order]

    def rows(self, shard: int) -> np.ndarray:
        """Return the rows with such a range in a tar."""
        first, last = np.searchsorted(self._codes, (shard, shard + 1))
        return self._order[first:last]

    def of(self, shard: int) -> Spans:
        rows = self.rows(shard)
        member = np.full(len(rows), self._member, np.int64)
        return Spans(self._start[rows], self._size[rows], self._xxh3[rows], rows, member)


def _numbers(table: pa.Table, name: str, missing: int) -> np.ndarray:
    column = table.column(name).combine_chunks()
    return column.fill_null(pa.scalar(missing, column.type)).to_numpy(zero_copy_only=False)


def impossible(spans: Spans, end: int) -> np.ndarray:
    """Return which sorted spans are empty, leave `[0, end)` or begin inside another, bool [n]."""
    bad = (spans.start < 0) | (spans.size <= 0) | (spans.size > end)
    bad |= spans.start > end - np.where(bad, 0, spans.size)
    reach, ends = 0, (spans.start + np.where(bad, 0, spans.size)).tolist()
    for number, start in enumerate(spans.start.tolist()):
        if bad[number]:
            continue
        if start < reach:
            bad[number] = True
        else:
            reach = ends[number]
    return bad


class Checker:
    """Hashes a stream of consecutive pieces and says which spans do not fit their checksum.

    Args:
        spans: sorted, possible (see `impossible`) spans.
    """

    def __init__(self, spans: Spans) -> None:
        self._ends = (spans.start + spans.size).tolist()
        self._starts, self._wanted = spans.start.tolist(), spans.xxh3.tolist()
        self._at, self._place, self._hash = 0, 0, xxhash.xxh3_64()

    def feed(self, piece: memoryview) -> Iterator[int]:
        """Take the next bytes; yield the numbers of the spans that ended in them and are wrong."""
        place, end = self._place, self._place + len(piece)
        while self._at < len(self._starts) and self._starts[self._at] < end:
            number = self._at
            start, stop = max(self._starts[number], place), self._ends[number]
            self._hash.update(piece[start - place : min(stop, end) - place])
            if stop > end:
                break
            if self._hash.intdigest() != self._wanted[number]:
                yield number
            self._hash.reset()
            self._at += 1
        self._place = end

    def short(self) -> Sequence[int]:
        """Return the numbers of the spans whose end never came."""
        return range(self._at, len(self._starts))
