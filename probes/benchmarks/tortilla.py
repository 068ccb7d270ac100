"""Read tortillas: many files in one, with a table of them at the end (TACO's first format).

A tortilla begins with `#y` (with more about the whole, `WX`), then the offset and the length of its
table, 8 bytes each, little-endian; files follow one another, and last comes the table, Parquet:
`tortilla:id`, `tortilla:file_format`, `tortilla:offset`, `tortilla:length` and what the authors
add. A file may be a tortilla itself, whose offsets count from its own first byte. Rasters are read
in place by GDAL (`/vsisubfile/`); nothing is unpacked.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fm.errors import FMError
from shards.sources import raster_io

MAGIC = (b"#y", b"WX")
HEAD = 18
NESTED, RASTER = "TORTILLA", "GTiff"
_ID, _FORMAT, _OFFSET, _LENGTH = (
    f"tortilla:{name}" for name in ("id", "file_format", "offset", "length")
)


@dataclass(frozen=True)
class Item:
    """A file inside a tortilla.

    Attributes:
        name: its `tortilla:id`.
        kind: its format, such as `TORTILLA` or `GTiff`.
        offset: of its first byte in the outermost file.
        length: in bytes.
        about: all columns of its row.
    """

    name: str
    kind: str
    offset: int
    length: int
    about: Mapping[str, Any]


def contents(path: Path, inside: Item | None = None) -> list[Item]:
    """List a tortilla, or one that lies inside it, in the order of its table.

    Raises:
        FMError: no tortilla, cut off, its table is damaged or lacks a column, or a file of it
            leaves it.
    """
    what = str(path) if inside is None else f"{path}: {inside.name}"
    start = 0 if inside is None else inside.offset
    try:
        size = path.stat().st_size if inside is None else inside.length
        with path.open("rb") as file:
            file.seek(start)
            head = file.read(HEAD)
            if head[:2] not in MAGIC or len(head) < HEAD:
                raise FMError(f"{what}: not a tortilla; take the published file")
            at, length = (int.from_bytes(head[i : i + 8], "little") for i in (2, 10))
            if at < HEAD or at + length > size:
                raise FMError(
                    f"{what}: its table should end at byte {at + length:,} of {size:,}; the "
                    f"download is incomplete"
                )
            file.seek(start + at)
            rows = _table(file.read(length), what)
    except OSError as error:
        raise FMError(f"{what}: cannot be read ({error}); take the published file") from None
    items = []
    for row in rows:
        first, count = row[_OFFSET], row[_LENGTH]
        if first < HEAD or count <= 0 or first + count > at:
            raise FMError(f"{what}: {row[_ID]} leaves the file; take the published file")
        items.append(Item(row[_ID], row[_FORMAT], start + first, count, row))
    return items


def raster(path: Path, item: Item) -> np.ndarray:
    """Read a GeoTIFF inside a tortilla, [C, H, W] as stored.

    Raises:
        FMError: of another format, or damaged.
    """
    if item.kind != RASTER:
        raise FMError(f"{path}: {item.name} is {item.kind}, expected {RASTER}")
    place = f"/vsisubfile/{item.offset}_{item.length},{os.fspath(path)}"
    try:
        return raster_io.read_all(place)[0]
    except FMError:
        raise FMError(
            f"{path}: {item.name} at byte {item.offset:,} is no GeoTIFF that can be read; take "
            f"the published file"
        ) from None


def _table(data: bytes, what: str) -> list[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(pyarrow.BufferReader(data))
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise FMError(f"{what}: its table cannot be read ({reason})") from None
    absent = [name for name in (_ID, _FORMAT, _OFFSET, _LENGTH) if name not in table.column_names]
    if absent:
        raise FMError(f"{what}: its table has no {absent[0]}; take the published file")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
