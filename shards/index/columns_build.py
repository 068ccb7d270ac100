"""Making `index.bin` from `index.parquet`, batch by batch, in bounded memory."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fm.errors import FMError
from shards.codecs.codec import checksum
from shards.format import DatasetInfo, LabelInfo
from shards.index.columns import (
    BATCH,
    BLOCK,
    MAGIC,
    NULL,
    UNKNOWN,
    Column,
    Columns,
    aligned,
    blocks,
    kinds_of,
    merged,
)
from shards.index.columns_check import layout_of
from shards.index.parquet import readable

MAX_AXES = 5
MAX_KINDS = 1024
"""Combinations of shapes that the header lists; with more they are counted at opening."""


def columns_in_memory(parquet: Path, info: DatasetInfo) -> Columns:
    """Make the columns without a file, for an index that has none beside it."""
    descriptor = os.memfd_create("eofm-columns")
    with os.fdopen(descriptor, "w+b") as stream:
        build_columns(parquet, info, stream)
        stream.flush()
        return Columns(stream.fileno(), f"columns of {parquet}", info)


def write_columns(parquet: Path, info: DatasetInfo, path: Path) -> None:
    """Write `index.bin`; the caller makes the folder appear whole."""
    with open(path, "w+b") as stream:
        build_columns(parquet, info, stream)


def build_columns(parquet: Path, info: DatasetInfo, stream: BinaryIO) -> None:
    """Write the columns of an index, batch by batch, in bounded memory.

    Args:
        parquet: the index.
        info: its description.
        stream: empty file, readable and writable.

    Raises:
        FMError: the index cannot be read, or contradicts the description.
    """
    with readable(parquet):
        _Builder(parquet, info, stream).run()


class _Builder:
    def __init__(self, parquet: Path, info: DatasetInfo, stream: BinaryIO) -> None:
        self._file, self._where = pq.ParquetFile(parquet), str(parquet)
        self._info, self._stream = info, stream
        self._names = set(self._file.schema_arrow.names)
        self._shards = {shard.name: i for i, shard in enumerate(info.shards)}
        self._shapes: dict[tuple[int, ...], int] = {}
        self._splits: dict[str, int] = {}
        self._kinds = np.empty((0, len(info.members) + 2), np.int64)

    def run(self) -> None:
        rows = self._file.metadata.num_rows
        fixed, lists = layout_of(self._info)
        totals, elsewhere = self._survey(lists)
        fixed |= {f"{member}.shard": (np.dtype("<u4"), 1) for member in elsewhere}
        sizes = {f"{name}.end": (np.dtype("<u8"), 1, rows) for name in lists}
        sizes |= {name: (dtype, width, rows) for name, (dtype, width) in fixed.items()}
        sizes |= {f"{name}.data": (lists[name], 1, totals[name]) for name in lists}
        header_room = self._room(sizes)
        columns, end = {}, header_room
        for name, (dtype, width, count) in sizes.items():
            bytes_ = dtype.itemsize * width * count
            hashes = aligned(end + bytes_)
            columns[name] = Column(dtype, width, count, end, hashes)
            end = aligned(hashes + 8 * blocks(bytes_))
        self._stream.truncate(end)
        self._fill(columns, fixed, lists)
        few = len(self._kinds) <= MAX_KINDS
        header = json.dumps(
            {
                "rows": rows,
                "index_sha256": self._info.index_sha256,
                "columns": {
                    name: [c.dtype.str, c.width, c.rows, c.offset, c.hashes]
                    for name, c in columns.items()
                },
                "shapes": [list(shape) for shape in self._shapes],
                "splits": list(self._splits),
                "members": self._info.members,
                "kinds": self._kinds.tolist() if few else None,
            }
        ).encode()
        if 24 + len(header) > header_room:
            raise FMError(
                f"{self._info.name}: {len(self._shapes)} different shapes and {len(self._splits)} "
                "splits; an index holds a few thousand; cut patches of equal size"
            )
        self._stream.seek(0)
        parts = (len(header), checksum(header))
        self._stream.write(MAGIC + b"".join(n.to_bytes(8, "little") for n in parts) + header)
        for column in columns.values():
            self._hash(column)
        self._stream.flush()

    def _room(self, sizes: Mapping[str, Any]) -> int:
        """Bytes for the header: its columns, and shapes and splits, which are known at the end."""
        return aligned(4096 + 128 * len(sizes) + (1 << 18))

    def _survey(self, lists: Mapping[str, np.dtype]) -> tuple[dict[str, int], list[str]]:
        """Lengths of the lists, and the members that lie in tars of their own."""
        totals, elsewhere = dict.fromkeys(lists, 0), set()
        samples = np.zeros(len(self._shards), np.int64)
        for batch in self._batches():
            for name in lists:
                totals[name] += len(self._list(batch, name)[1])
            for member in self._info.members:
                name = f"{member}.shard"
                if name in self._names and batch.column(name).null_count < batch.num_rows:
                    elsewhere.add(member)
            here = self._numbers(batch.column("shard"), self._shards)
            samples += np.bincount(here, minlength=len(samples))
        if samples.tolist() != [shard.count for shard in self._info.shards]:
            raise FMError(
                f"{self._where}: its samples per shard are not those of dataset.json; copy the "
                "dataset again"
            )
        return totals, [member for member in self._info.members if member in elsewhere]

    def _batches(self) -> Iterator[pa.RecordBatch]:
        wanted = [n for n in self._names if n != "geometry" and not n.startswith("sample.")]
        return self._file.iter_batches(BATCH, columns=sorted(wanted))

    def _fill(
        self,
        columns: Mapping[str, Column],
        fixed: Mapping[str, Any],
        lists: Mapping[str, np.dtype],
    ) -> None:
        row, filled = 0, dict.fromkeys(lists, 0)
        members = self._info.members
        for batch in self._batches():
            made = {name: self._fixed(batch, name) for name in fixed}
            for name, values in made.items():
                self._put(columns[name], row, np.ascontiguousarray(values, columns[name].dtype))
            numbers = np.stack([made[f"{member}.shape"] for member in members], axis=1)
            self._count(*kinds_of(numbers, np.arange(row, row + batch.num_rows)))
            for name in lists:
                ends, data = self._list(batch, name)
                self._put(columns[f"{name}.end"], row, (ends + filled[name]).astype("<u8"))
                self._put(columns[f"{name}.data"], filled[name], data)
                filled[name] += len(data)
            row += batch.num_rows

    def _count(self, *kinds: np.ndarray) -> None:
        """Add to the combinations of shapes, until they are too many for the header."""
        if len(self._kinds) > MAX_KINDS:
            return
        here = np.concatenate([kinds[0], np.stack(kinds[1:], axis=1)], axis=1)
        both = np.concatenate([self._kinds, here])
        found, counts, first = merged(both[:, :-2], both[:, -2], both[:, -1])
        self._kinds = np.concatenate([found, np.stack([counts, first], axis=1)], axis=1)

    def _put(self, column: Column, row: int, values: np.ndarray) -> None:
        self._stream.seek(column.offset + row * column.row_bytes)
        self._stream.write(values.tobytes())

    def _hash(self, column: Column) -> None:
        hashes = np.empty(blocks(column.bytes), "<u8")
        for block in range(len(hashes)):
            self._stream.seek(column.offset + block * BLOCK)
            size = min(BLOCK, column.bytes - block * BLOCK)
            hashes[block] = checksum(self._stream.read(size))
        self._stream.seek(column.hashes)
        self._stream.write(hashes.tobytes())

    def _fixed(self, batch: pa.RecordBatch, name: str) -> np.ndarray:
        array = batch.column(name)
        member, _, part = name.rpartition(".")
        if name == "shard":
            return self._numbers(array, self._shards)
        if name in ("lon", "lat"):
            return array.fill_null(np.nan).to_numpy(zero_copy_only=False)
        if name == "time":
            return array.cast(pa.int64()).fill_null(UNKNOWN).to_numpy(zero_copy_only=False)
        if name == "split":
            return self._grow(array, self._splits)
        if member and part == "shape":
            return self._shape_numbers(array, name)
        if member and part == "shard":
            own = self._numbers(batch.column("shard"), self._shards)
            return np.where(array.is_valid(), self._numbers(array, self._shards), own)
        if member:
            return array.fill_null(0).to_numpy(zero_copy_only=False)
        return _label(array, self._info.labels[name])

    def _list(self, batch: pa.RecordBatch, name: str) -> tuple[np.ndarray, np.ndarray]:
        array = batch.column(name)
        if pa.types.is_list(array.type):
            lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
            values = _items(array, name).cast(pa.int64()).to_numpy(zero_copy_only=False)
            return np.cumsum(lengths, dtype=np.int64), values
        texts = [NULL if text is None else text.encode() for text in array.to_pylist()]
        ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
        return ends, np.frombuffer(b"".join(texts), np.uint8)

    def _numbers(self, array: pa.Array, numbers: Mapping[str, int]) -> np.ndarray:
        """Strings to numbers of a table that is known; null is 0."""
        coded = array.dictionary_encode()
        names = coded.dictionary.to_pylist()
        if unknown := [name for name in names if name not in numbers]:
            raise FMError(
                f"{self._where}: shard {unknown[0]!r} is not listed in dataset.json; copy the "
                "dataset again"
            )
        table = np.array([numbers[name] for name in names] or [0], np.int64)
        return table[coded.indices.fill_null(0).to_numpy(zero_copy_only=False)]

    def _grow(self, array: pa.Array, numbers: dict[str, int]) -> np.ndarray:
        """Strings to numbers from 1 in the order in which they come; null is 0."""
        for name in pc.unique(array).to_pylist():
            if name is not None:
                numbers.setdefault(name, len(numbers) + 1)
        return np.where(array.is_valid(), self._numbers(array, numbers), 0)

    def _shape_numbers(self, array: pa.Array, name: str) -> np.ndarray:
        lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        if lengths.max(initial=0) > MAX_AXES:
            raise FMError(f"{self._where}: a shape has too many axes; copy the dataset again")
        padded = np.zeros((len(array), MAX_AXES), np.int64)
        inside = np.arange(padded.shape[1]) < lengths[:, None]
        padded[inside] = _items(array, name).to_numpy(zero_copy_only=False)
        kinds, inverse = np.unique(padded, axis=0, return_inverse=True)
        numbers = []
        for kind in kinds.tolist():
            shape = tuple(size for size in kind if size)
            numbers.append(self._shapes.setdefault(shape, len(self._shapes) + 1) if shape else 0)
        return np.array(numbers, np.int64)[inverse.ravel()]


def _items(array: pa.Array, name: str) -> pa.Array:
    """All items of the lists of a column."""
    items = array.flatten()
    if items.null_count:  # NumPy would make floats of them all
        raise FMError(
            f"column {name!r} has a list with an empty place; build or index the dataset again"
        )
    return items


def _label(array: pa.Array, label: LabelInfo) -> np.ndarray:
    if label.images is None:
        return _of_one(array, label)
    known = array.is_valid().to_numpy(zero_copy_only=False)
    lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    if (lengths[known] != label.images).any():
        raise FMError(
            f"label {label.name!r}: a sample has not {label.images} images; copy the dataset again"
        )
    places = np.cumsum(np.repeat(known, label.images)) - 1
    unknown = ~np.repeat(known, label.images)
    each = array.flatten().take(pa.array(np.maximum(places, 0), mask=unknown))
    return _of_one(each, label).reshape(len(array), -1)


def _of_one(array: pa.Array, label: LabelInfo) -> np.ndarray:
    """Return the label of each place of an array: `[N]`, or `[N, width]`."""
    if label.kind == "class":
        return array.fill_null(UNKNOWN).to_numpy(zero_copy_only=False)
    if label.kind == "regression":
        return array.fill_null(np.nan).to_numpy(zero_copy_only=False)
    if label.kind == "fractions":
        shares = np.full((len(array), len(label.classes)), np.nan, np.float32)
        here = array.is_valid().to_numpy(zero_copy_only=False)
        counts = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        if (counts[here] != len(label.classes)).any():
            raise FMError(f"label {label.name!r}: not one share a class; copy the dataset again")
        values = _items(array, label.name).to_numpy(zero_copy_only=False)
        shares[here] = values.reshape(-1, len(label.classes))
        return shares
    # bits: one a class, and the last one of the row says that the label is known
    bits = np.zeros((len(array), 8 * (len(label.classes) // 8 + 1)), bool)
    lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    values = _items(array, label.name).to_numpy(zero_copy_only=False)
    rows = np.repeat(np.arange(len(array)), lengths)
    kept = values != label.ignore if label.ignore is not None else np.ones(len(values), bool)
    if ((values[kept] < 0) | (values[kept] >= len(label.classes))).any():
        raise FMError(
            f"label {label.name!r}: a class number is out of range; copy the dataset again"
        )
    bits[rows[kept], values[kept]] = True
    bits[:, -1] = array.is_valid().to_numpy(zero_copy_only=False)
    return np.packbits(bits, axis=1)
