"""Embeddings of samples as GeoParquet: one row a sample, vectors of one length."""

import contextlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fm.errors import FMError
from fm.version import WRITER, check_format

ENDING = ".parquet"
FORMAT_VERSION = 1
_FORMAT = {"format_version": FORMAT_VERSION, "written_by": WRITER}
_ROWS = 8192
"""Rows written and read at a time."""


@dataclass(frozen=True)
class Rows:
    """What a file says of its samples.

    Attributes:
        keys: of the samples.
        lonlat: `[N, 2]` degrees, NaN where unknown.
        time: ISO 8601 UTC or None, a sample each.
        about: what `eofm` in its metadata says: model, model_sha256, dataset, manifest_hash.
    """

    keys: list[str]
    lonlat: NDArray[np.float64]
    time: list[str | None]
    about: dict[str, Any]

    def vector(self, row: int) -> NDArray[np.float32]:
        """Return the embedding of a sample, `[D]`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Embeddings(Rows):
    """What a file holds, with `embedding` `[N, D]`."""

    embedding: NDArray[np.float32]

    def vector(self, row: int) -> NDArray[np.float32]:
        """Return the embedding of a sample, `[D]`."""
        return self.embedding[row]


@dataclass(frozen=True)
class Stored(Rows):
    """What a file says; its embeddings stay where they are, in `path`, until they are asked for."""

    path: Path

    def vector(self, row: int) -> NDArray[np.float32]:
        """Read the embedding of a sample, `[D]`, with no more than its own group of rows."""
        with _opened(self.path) as file:
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                if row < count:
                    column = file.read_row_group(group, columns=["embedding"])
                    return _vectors(column, self.path)[row]
                row -= count
        raise IndexError(row)

    def whole(self) -> Embeddings:
        """Read all embeddings, and keep them beside the rest."""
        return Embeddings(self.keys, self.lonlat, self.time, self.about, self.read())

    def read(self) -> NDArray[np.float32]:
        """Read all embeddings, `[N, D]`."""
        with _opened(self.path) as file:
            return _vectors(file.read(columns=["embedding"]), self.path)


def write(
    path: Path,
    table: pa.Table,
    dim: int,
    read: Callable[[int, int], np.ndarray],
    about: Mapping[str, Any],
) -> None:
    """Write samples and their embeddings, some thousand rows at a time.

    Args:
        path: of the file, where nothing is yet.
        table: key, lon, lat, time and what else there is of each sample.
        dim: D.
        read: (first row, last row + 1) to `[n, D]` float32.
        about: plain values for the metadata.
    """
    columns = [table.schema.field(name) for name in table.column_names]
    vectors = pa.list_(pa.field("element", pa.float32(), nullable=False), dim)
    fields = [*columns, pa.field("embedding", vectors), pa.field("geometry", pa.binary())]
    metadata = {"geo": json.dumps(_geo(table)), "eofm": json.dumps({**_FORMAT, **about})}
    schema = pa.schema(fields, metadata=metadata)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, max(1, len(table)), _ROWS):
            some = table.slice(start, _ROWS)
            numbers = np.ascontiguousarray(read(start, start + len(some)), np.float32)
            embedding = pa.FixedSizeListArray.from_arrays(
                pa.array(numbers.reshape(-1), pa.float32()), type=vectors
            )
            places = zip(
                some.column("lon").to_pylist(), some.column("lat").to_pylist(), strict=True
            )
            points = pa.array([_point(lon, lat) for lon, lat in places], pa.binary())
            parts = [some.column(name).combine_chunks() for name in table.column_names]
            writer.write_table(pa.Table.from_arrays([*parts, embedding, points], schema=schema))


def read(path: Path) -> Embeddings:
    """Read a file that `fm embed` wrote.

    Raises:
        FMError: no such file, or none of embeddings.
    """
    return look(path).whole()


def look(path: Path) -> Stored:
    """Read all but the embeddings of a file that `fm embed` wrote; see `read`."""
    with _opened(path) as file:
        schema = file.schema_arrow
        missing = {"key", "lon", "lat", "embedding"} - set(schema.names)
        told = (schema.metadata or {}).get(b"eofm")
        if missing or told is None:
            raise FMError(f"{path}: no embeddings of fm embed; make them from a dataset")
        names = [n for n in ("key", "lon", "lat", "time") if n in schema.names]
        table = file.read(columns=names)
        try:
            about = {"format_version": 1, **json.loads(told)}  # 0.1.0 wrote none
        except (TypeError, ValueError):
            raise FMError(f"{path}: eofm in its metadata is damaged; make it again") from None
        check_format(about, FORMAT_VERSION, str(path))
    if not len(table):
        raise FMError(f"{path}: a file without a row")
    places = [
        np.array([np.nan if v is None else v for v in table.column(name).to_pylist()], np.float64)
        for name in ("lon", "lat")
    ]
    time = table.column("time") if "time" in table.column_names else None
    return Stored(
        keys=[str(key) for key in table.column("key").to_pylist()],
        lonlat=np.stack(places, axis=1),
        time=[None] * len(table) if time is None else [_iso(t) for t in time.to_pylist()],
        about=about,
        path=path,
    )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except FileNotFoundError:
        raise FMError(f"{path}: no such file of embeddings") from None
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:160]
        hint = "what is searched is the .parquet that fm embed makes of a dataset"
        raise FMError(f"{path}: not a Parquet file that can be read ({reason}); {hint}") from None


def _vectors(table: pa.Table, path: Path) -> NDArray[np.float32]:
    """Return the embeddings of some rows, `[n, D]`.

    Raises:
        FMError: one is missing, or they have several lengths.
    """
    column = table.column("embedding").combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    if not len(table) or column.null_count or len(flat) % len(table):
        raise FMError(f"{path}: embeddings that are missing or of several lengths")
    made: NDArray[np.float32] = flat.reshape(len(table), -1)
    return made


def _iso(moment: Any) -> str | None:
    if moment is None:
        return None
    return (
        str(moment.strftime("%Y-%m-%dT%H:%M:%SZ")) if hasattr(moment, "strftime") else str(moment)
    )


def _point(lon: float | None, lat: float | None) -> bytes | None:
    """Little-endian WKB of a point."""
    if lon is None or lat is None:
        return None
    return struct.pack("<BIdd", 1, 1, lon, lat)


def _geo(table: pa.Table) -> dict[str, Any]:
    column: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["Point"]}
    lon = [x for x in table.column("lon").to_pylist() if x is not None]
    lat = [x for x in table.column("lat").to_pylist() if x is not None]
    if lon and lat:
        column["bbox"] = [min(lon), min(lat), max(lon), max(lat)]
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
