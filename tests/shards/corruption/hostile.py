"""Hostile bytes: every checksum is made to fit, so the reading must bear them."""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shards.codecs.codec import checksum
from shards.dataset import Dataset
from shards.format import COLUMNS, INDEX, DatasetInfo, parse_info
from shards.index import parquet as index
from shards.index.columns import Columns
from shards.integrity.shard_check import ShardCheck
from shards.integrity.spans import Catalogue
from shards.storage.local import LocalStorage
from tests.shards.corruption.mutate import damaged, digest, mutated, rng
from tests.shards.corruption.payload import payload
from tests.shards.corruption.victim import OURS, VICTIMS, Victim


def use(victim: Victim, info: DatasetInfo, columns: Columns | None = None) -> None:
    """Do with a dataset all that a run does; what cannot be read is an error of ours or zero."""
    storage = LocalStorage(victim.folder)
    for work in (_samples, _batches):
        with contextlib.suppress(*OURS):
            work(Dataset(str(victim.folder), info, storage, storage, columns))


def _samples(ds: Dataset) -> None:
    for row in rng.sample(range(len(ds)), min(len(ds), 2)):
        with contextlib.suppress(*OURS):
            ds[row]
        with contextlib.suppress(*OURS):
            ds.read(row)


def _batches(ds: Dataset) -> None:
    crop = rng.choice((None, 12))
    loader = ds.loader(6, threads=0, steps=1, crop=crop, on_quarantine=lambda *_: None)
    for batch in loader:
        del batch


def hostile_description() -> str:
    victim = rng.choice(VICTIMS)
    value = mutated(victim.info.to_dict())
    if not isinstance(value, dict):
        return "survived"
    kept = {"format_version", "modalities", "labels", "shards", "index_sha256"}
    value["manifest_hash"] = digest({k: v for k, v in value.items() if k in kept})
    value.pop("checksum", None)
    value["checksum"] = digest(value)
    info = parse_info(json.dumps(value).encode(), "dataset.json")
    use(victim, info)
    return "survived"


def hostile_index() -> str:
    """Any bytes as the index, with the hash of the description made to fit."""
    victim = rng.choice(VICTIMS)
    bad = damaged(victim.files[INDEX])
    info = dataclasses.replace(victim.info, index_sha256=hashlib.sha256(bad).hexdigest())
    with victim.broken(INDEX, bad):
        with contextlib.suppress(*OURS):
            index.read(victim.folder / INDEX, info)
        (victim.folder / COLUMNS).unlink()
        try:
            use(victim, info)
        finally:
            victim.put(COLUMNS, victim.files[COLUMNS])
    return "survived"


CELLS: dict[str, tuple[Any, ...]] = {
    "int64": (0, 1, -1, 511, 2**31, 2**62, 2**63 - 1, -(2**63), None),
    "uint64": (0, 2**64 - 1, None),
    "int32": (0, -1, 2**31 - 1, None),
    "double": (float("nan"), float("inf"), -1e308, 1e30, None),
    "float": (float("nan"), float("inf"), 2.0, None),
    "string": ("", "../../x", "\0", "x" * 3000, "a.b", "v-000001.tar", None),
    "list<element: int32>": (
        [],
        [0],
        [-4, 5, 5],
        [2**31 - 1] * 3,
        [1] * 6,
        [4, 24, 24, 1, 1],
        None,
    ),
    "list<element: int64>": ([], [-1], [2**62], [0] * 3000, None),
    "list<element: timestamp[us, tz=UTC]>": ([2**63 - 1], [-(2**63)], [], None),
    "list<element: double>": ([], [float("nan")] * 6, [0.0] * 5, None),
    "timestamp[us, tz=UTC]": (2**63 - 1, -(2**63), 0, None),
    "binary": (b"", b"\xff" * 30, None),
}


def hostile_rows() -> str:
    """A well-formed index whose values lie, with every hash made to fit."""
    victim = rng.choice(VICTIMS)
    table = victim.table
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(table.num_columns)
        field = table.schema.field(place)
        kind = str(field.type).replace("list<item", "list<element")
        column = table.column(place).combine_chunks()
        if pa.types.is_timestamp(field.type):
            column = column.cast(pa.int64())
        elif kind.startswith("list<element: timestamp"):
            column = column.cast(pa.list_(pa.int64()))
        values = column.to_pylist()
        for row in rng.sample(range(6), rng.choice((1, 1, 6))):
            values[row] = rng.choice(CELLS[kind])
        if not field.nullable and None in values:
            continue
        table = table.set_column(place, field, pa.array(values, field.type))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    bad = sink.getvalue().to_pybytes()
    info = dataclasses.replace(victim.info, index_sha256=hashlib.sha256(bad).hexdigest())
    with victim.broken(INDEX, bad):
        (victim.folder / COLUMNS).unlink()
        try:
            use(victim, info)
        finally:
            victim.put(COLUMNS, victim.files[COLUMNS])
    for shard in info.shards:
        with contextlib.suppress(*OURS):
            check = ShardCheck(shard, Catalogue(table, info))
            check.feed(memoryview(victim.files[shard.name]))
            check.finish(shard.bytes)
    return "survived"


def hostile_columns() -> str:
    """An `index.bin` whose header or values lie, with every checksum made to fit."""
    victim = rng.choice(VICTIMS)
    data = bytearray(victim.files[COLUMNS])
    size = int.from_bytes(data[8:16], "little")
    header = json.loads(data[24 : 24 + size])
    if rng.random() < 0.5:
        text = json.dumps(mutated(header)).encode()
        data[8:16], data[16:24] = len(text).to_bytes(8, "little"), b""
        data[8:16] = len(text).to_bytes(8, "little") + checksum(text).to_bytes(8, "little")
        data[24 : 24 + max(size, len(text))] = text.ljust(size, b"\0")
    else:
        dtype, width, rows, offset, hashes = rng.choice(list(header["columns"].values()))
        length = np.dtype(dtype).itemsize * width * rows
        if length:
            at, piece = offset + rng.randrange(length), rng.choice((b"\xff" * 8, b"\x80", b"\7"))
            data[at : min(at + len(piece), offset + length)] = piece[: offset + length - at]
            block = checksum(bytes(data[offset : offset + length]))
            data[hashes : hashes + 8] = block.to_bytes(8, "little")
    with victim.broken(COLUMNS, bytes(data)):
        use(victim, victim.info)
    return "survived"


HOSTILE: dict[Callable[[], str], int] = {
    hostile_description: 8,
    hostile_index: 4,
    hostile_rows: 4,
    hostile_columns: 5,
    payload: 22,
}
