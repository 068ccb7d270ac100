"""`index.parquet`: one row a sample, GeoParquet metadata, and the byte range of everything.

Columns: `FIXED_COLUMNS` of `shards.format`; `sample.offset|bytes|xxh3`, the range of the whole
sample in its tar with headers and padding (so that every byte of a tar belongs to somebody; null
for tars that somebody else wrote); one column a label; and for every member M
`M.offset|bytes|shape|xxh3`, null where absent, and `M.shard`, null where it is the sample's.
"""

import bisect
import contextlib
import hashlib
import itertools
import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fm.errors import FMError
from shards.format import FORMAT_VERSION, DatasetInfo, LabelInfo

_LABEL_TYPES = {
    "class": pa.int64(),
    "multilabel": pa.list_(pa.int64()),
    "fractions": pa.list_(pa.float32()),
    "regression": pa.float64(),
    "text": pa.string(),
}
_TIME = pa.timestamp("us", tz="UTC")
GROUP_ROWS = 1 << 16
"""Rows of a row group at most, so that one row is found without reading the whole."""


def schema(
    members: Sequence[str], labels: Mapping[str, LabelInfo], version: int = FORMAT_VERSION
) -> pa.Schema:
    """Return the columns of an index (without the GeoParquet metadata)."""
    whole = pa.int32()
    known = version > 1
    fields = [
        pa.field("key", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        *(pa.field(name, whole) for name in ("row", "col", "height", "width")),
        pa.field("lon", pa.float64()),
        pa.field("lat", pa.float64()),
        pa.field("time", _TIME),
        pa.field("split", pa.string()),
        pa.field("valid_fraction", pa.float32()),
    ]
    if known:
        fields += [
            pa.field("times", pa.list_(_TIME)),
            pa.field("crs", pa.string()),
            pa.field("transform", pa.list_(pa.float64())),
            pa.field("duplicate_of", pa.string()),
        ]
    fields += [
        pa.field("sample.offset", pa.int64(), nullable=known),
        pa.field("sample.bytes", pa.int64(), nullable=known),
        pa.field("sample.xxh3", pa.uint64(), nullable=known),
    ]
    for label in labels.values():
        if label.kind != "mask":
            kind = _LABEL_TYPES[label.kind]
            fields.append(pa.field(label.name, pa.list_(kind) if label.images else kind))
    for member in members:
        fields += [
            pa.field(f"{member}.offset", pa.int64()),
            pa.field(f"{member}.bytes", pa.int64()),
            pa.field(f"{member}.shape", pa.list_(pa.int32())),
            pa.field(f"{member}.xxh3", pa.uint64()),
        ]
        if known:
            fields.append(pa.field(f"{member}.shard", pa.string()))
    fields.append(pa.field("geometry", pa.binary()))
    return pa.schema(fields)


def to_table(
    rows: Sequence[Mapping[str, Any]], members: Sequence[str], labels: Mapping[str, LabelInfo]
) -> pa.Table:
    """Turn rows into a table; a missing key is null, `geometry` is made from `lon` and `lat`."""
    columns = schema(members, labels)
    data = {name: [row.get(name) for row in rows] for name in columns.names}
    data["geometry"] = [
        _point(row["lon"], row["lat"]) if row.get("lon") is not None else None for row in rows
    ]
    return pa.table(data, schema=columns)


def bounds(table: pa.Table, box: Sequence[float] | None = None) -> list[float] | None:
    """Return `[west, south, east, north]` of a table's points, joined with another box."""
    lon, lat = (pc.min_max(table.column(name)).as_py() for name in ("lon", "lat"))
    if lon["min"] is None:
        return None if box is None else list(box)
    new = [lon["min"], lat["min"], lon["max"], lat["max"]]
    return [*map(min, new[:2], (box or new)[:2]), *map(max, new[2:], (box or new)[2:])]


class IndexWriter:
    """Writes an index table by table, in bounded memory.

    Args:
        path: of the new file.
        members: every array member of the dataset.
        labels: of the dataset.
        box: `[west, south, east, north]` of all tables together (see `bounds`), which the
            GeoParquet metadata hold; they come first in the file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        members: Sequence[str],
        labels: Mapping[str, LabelInfo],
        box: Sequence[float] | None,
    ) -> None:
        column: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["Point"]}
        if box is not None:
            column["bbox"] = list(box)
        geo: dict[str, Any] = {"version": "1.1.0", "primary_column": "geometry"}
        geo["columns"] = {"geometry": column}
        self._schema = schema(members, labels).with_metadata({"geo": json.dumps(geo)})
        self._writer = pq.ParquetWriter(Path(path), self._schema, compression="zstd")

    def write(self, table: pa.Table) -> None:
        """Append a table of `to_table`'s columns."""
        table = table.replace_schema_metadata(self._schema.metadata)
        self._writer.write_table(table, row_group_size=GROUP_ROWS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()


def write(
    path: Path,
    rows: Sequence[dict[str, Any]],
    members: Sequence[str],
    labels: Mapping[str, LabelInfo],
) -> None:
    """Write an index from rows that are all at hand."""
    table = to_table(rows, members, labels)
    with IndexWriter(path, members, labels, bounds(table)) as writer:
        writer.write(table)


def read(path: Path, info: DatasetInfo, *, check_hash: bool = True) -> pa.Table:
    """Read an index and check that it fits the description.

    Args:
        path: of the file.
        info: the description.
        check_hash: refuse a file whose SHA-256 is not the one in the description, so that no label
            or position is silently another.

    Raises:
        FMError: unreadable, altered, a column is missing or of another type, a shard that the
            description does not list, or other sample counts.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FMError(f"{path}: the index is missing; copy the whole dataset again") from None
    if check_hash and hashlib.sha256(data).hexdigest() != info.index_sha256:
        raise FMError(
            f"{path}: this is not the index that dataset.json describes (SHA-256 differs); "
            "copy the dataset again"
        )
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read()
        table.validate(full=True)  # text is UTF-8, and lists end inside their values
    except (pa.ArrowException, OSError) as error:
        text = str(error).splitlines()[0]
        raise FMError(f"{path}: unreadable index ({text}); copy the dataset again") from None
    check_columns(path, table.schema, info)
    counts = {shard.name: shard.count for shard in info.shards if shard.count}
    found = {
        item["values"]: item["counts"] for item in table.column("shard").value_counts().to_pylist()
    }
    if found != counts:
        raise FMError(
            f"{path}: its samples per shard are not those of dataset.json; copy the dataset again"
        )
    return table


def check_columns(path: Path, found: pa.Schema, info: DatasetInfo) -> None:
    """Raise `FMError` when a column is missing or of another type."""
    for column in schema(info.members, info.labels, info.format_version):
        if column.name not in found.names:
            raise FMError(f"{path}: column {column.name!r} is missing; copy the dataset again")
        kind = found.field(column.name).type
        if kind != column.type:
            raise FMError(
                f"{path}: column {column.name!r} is {kind}, not {column.type}; "
                "copy the dataset again"
            )


def _point(lon: float, lat: float) -> bytes:
    return struct.pack("<BIdd", 1, 1, lon, lat)


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises over bytes that are no index into one line.

    Raises:
        FMError: instead of it.
    """
    try:
        yield
    except FMError:
        raise
    except (
        pa.ArrowException,
        OSError,
        ArithmeticError,
        ValueError,
        LookupError,
        TypeError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FMError(f"{path}: unreadable index ({reason}); copy the dataset again") from None


class RowReader:
    """Reads single rows; the last row group stays in memory.

    Args:
        path: of the index.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, pq.ParquetFile(path)
        groups = range(self._file.num_row_groups)
        counts = [self._file.metadata.row_group(group).num_rows for group in groups]
        self._starts = [0, *itertools.accumulate(counts)]
        self._group = -1
        self._table: Any = None

    def __call__(self, number: int) -> dict[str, Any]:
        """Return one row."""
        group = bisect.bisect_right(self._starts, number) - 1
        with readable(self._path):
            if self._table is None or group != self._group:
                self._table, self._group = self._file.read_row_group(group), group
            return self._table.slice(number - self._starts[group], 1).to_pylist()[0]
