"""`index.parquet`: one row a sample, GeoParquet metadata, and the byte range of everything.

Columns: `FIXED_COLUMNS` of `shards.format`; `sample.offset|bytes|xxh3`, the range of the whole
sample in its tar with headers and padding (so that every byte of a tar belongs to somebody);
one column a label; and for every member M `M.offset|bytes|shape|xxh3`, null where absent.
"""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fm.errors import FMError
from shards.format import DatasetInfo, LabelInfo

_LABEL_TYPES = {"class": pa.int64(), "multilabel": pa.list_(pa.int64()), "regression": pa.float64()}


def schema(members: Sequence[str], labels: Mapping[str, LabelInfo]) -> pa.Schema:
    """Return the columns of an index (without the GeoParquet metadata)."""
    whole = pa.int32()
    fields = [
        pa.field("key", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        *(pa.field(name, whole) for name in ("row", "col", "height", "width")),
        pa.field("lon", pa.float64()),
        pa.field("lat", pa.float64()),
        pa.field("time", pa.timestamp("us", tz="UTC")),
        pa.field("split", pa.string()),
        pa.field("valid_fraction", pa.float32()),
        pa.field("sample.offset", pa.int64(), nullable=False),
        pa.field("sample.bytes", pa.int64(), nullable=False),
        pa.field("sample.xxh3", pa.uint64(), nullable=False),
    ]
    for label in labels.values():
        if label.kind != "mask":
            fields.append(pa.field(label.name, _LABEL_TYPES[label.kind]))
    for member in members:
        fields += [
            pa.field(f"{member}.offset", pa.int64()),
            pa.field(f"{member}.bytes", pa.int64()),
            pa.field(f"{member}.shape", pa.list_(pa.int32())),
            pa.field(f"{member}.xxh3", pa.uint64()),
        ]
    fields.append(pa.field("geometry", pa.binary()))
    return pa.schema(fields)


def write(
    path: Path,
    rows: Sequence[dict[str, Any]],
    members: Sequence[str],
    labels: Mapping[str, LabelInfo],
) -> None:
    """Write an index; `geometry` is made from `lon` and `lat`."""
    columns = schema(members, labels)
    points = [(row["lon"], row["lat"]) for row in rows if "lon" in row]
    data = {name: [row.get(name) for row in rows] for name in columns.names}
    data["geometry"] = [_point(row["lon"], row["lat"]) if "lon" in row else None for row in rows]
    column: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["Point"]}
    if points:
        lons, lats = zip(*points, strict=True)
        column["bbox"] = [min(lons), min(lats), max(lons), max(lats)]
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    table = pa.table(data, schema=columns.with_metadata({"geo": json.dumps(geo)}))
    pq.write_table(table, path, compression="zstd")


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
        if check_hash and hashlib.sha256(data).hexdigest() != info.index_sha256:
            raise FMError(
                f"{path}: this is not the index that dataset.json describes (SHA-256 differs); "
                "copy the dataset again"
            )
        table = pq.ParquetFile(pa.BufferReader(data)).read()
    except FileNotFoundError:
        raise FMError(f"{path}: the index is missing; copy the whole dataset again") from None
    except (pa.ArrowException, OSError) as error:
        text = str(error).splitlines()[0]
        raise FMError(f"{path}: unreadable index ({text}); copy the dataset again") from None
    for column in schema(info.members, info.labels):
        if column.name not in table.column_names:
            raise FMError(f"{path}: column {column.name!r} is missing; copy the dataset again")
        kind = table.schema.field(column.name).type
        if kind != column.type:
            raise FMError(
                f"{path}: column {column.name!r} is {kind}, not {column.type}; "
                "copy the dataset again"
            )
    counts = {shard.name: shard.count for shard in info.shards}
    found = {
        item["values"]: item["counts"] for item in table.column("shard").value_counts().to_pylist()
    }
    if found != counts:
        raise FMError(
            f"{path}: its samples per shard are not those of dataset.json; copy the dataset again"
        )
    return table


def _point(lon: float, lat: float) -> bytes:
    return struct.pack("<BIdd", 1, 1, lon, lat)
