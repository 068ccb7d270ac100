"""A small dataset and all that can be read of it."""

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fm.errors import FMError
from shards.codecs.codec import CorruptError
from shards.format import COLUMNS, INDEX, DatasetInfo, read_info
from shards.index import parquet as index
from shards.index.columns import Columns, open_columns
from shards.index.columns_build import build_columns
from shards.integrity.spans import Catalogue
from shards.reading.store import Store
from shards.storage.local import LocalStorage
from tests.conftest import tiny_samples, write_tiny

OURS = (FMError, CorruptError)


class Wrong(Exception):
    """Damage that nobody noticed."""


@dataclasses.dataclass
class Victim:
    """A dataset, all that can be read of it, and a folder in which to break it."""

    folder: Path
    info: DatasetInfo
    table: pa.Table
    files: dict[str, bytes]
    arrays: list[dict[str, np.ndarray]]
    columns: Columns
    whole: dict[str, list[Any]]
    catalogue: Catalogue

    @classmethod
    def make(cls, folder: Path, codec: str, seed: int) -> "Victim":
        write_tiny(folder, 6, seed=seed, codec=codec, samples_per_shard=2, name="v")
        info = read_info(folder)
        if not (folder / COLUMNS).exists():
            with open(folder / COLUMNS, "w+b") as stream:
                build_columns(folder / INDEX, info, stream)
        columns = open_columns(folder / COLUMNS, info)
        assert columns is not None
        table = index.read(folder / INDEX, info)
        return cls(
            folder,
            info,
            table,
            {str(p.name): p.read_bytes() for p in folder.iterdir()},
            [sample.arrays for sample in tiny_samples(6, seed)],
            columns,
            everything(columns),
            Catalogue(table, info),
        )

    @contextlib.contextmanager
    def broken(self, name: str, data: bytes):
        """Put other bytes into a file, as a new file."""
        self.put(name, data)
        try:
            yield
        finally:
            self.put(name, self.files[name])

    def put(self, name: str, data: bytes) -> None:
        aside = self.folder / "aside"
        aside.write_bytes(data)
        os.replace(aside, self.folder / name)

    def store(self) -> Store:
        storage = LocalStorage(self.folder)
        return Store(storage, self.info, self.columns, self.info.members)


VICTIMS: list[Victim] = []


def everything(columns: Columns) -> dict[str, list[Any]]:
    """Read every column of an `index.bin`."""
    rows, result = np.arange(columns.count), {"header": [columns.header]}
    for name in sorted(columns.header["columns"]):
        result[name] = columns.take(name, rows).tolist() if not name.endswith(".data") else []
        if name.endswith(".end"):
            result[name] = [piece.tolist() for piece in columns.pieces(name[:-4], rows)]
    return result
