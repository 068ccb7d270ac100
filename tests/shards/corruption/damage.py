"""Damage: bytes change and their checksums do not, so it is noticed or does not matter."""

import contextlib
import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from shards.codecs.codec import checksum, webdataset_decode
from shards.format import CODECS, COLUMNS, DESCRIPTION, INDEX, parse_info
from shards.index import parquet as index
from shards.index.columns import open_columns
from shards.integrity.shard_check import ShardCheck
from shards.integrity.verify_journal import Journal
from shards.reading.quarantine import Quarantine
from shards.reading.store import Store
from tests.shards.corruption.mutate import damaged, mutated, rng
from tests.shards.corruption.victim import OURS, VICTIMS, Victim, Wrong, everything


def tar() -> str:
    victim = rng.choice(VICTIMS)
    name = rng.choice(victim.info.shards).name
    good = victim.files[name]
    kind = rng.randrange(8)
    if kind == 0:  # another tar under this name, of this dataset or another
        bad = rng.choice(VICTIMS).files[rng.choice(victim.info.shards).name]
    elif kind == 1:  # two members of equal size change places
        spans = victim.catalogue.members(name)
        a, b = rng.sample(range(len(spans)), 2)
        size = int(min(spans.size[a], spans.size[b]))
        a, b, data = int(spans.start[a]), int(spans.start[b]), bytearray(good)
        data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]
        bad = bytes(data)
    else:
        bad = damaged(good)
    rows = np.flatnonzero(np.array(victim.table.column("shard").to_pylist()) == name)
    with victim.broken(name, good if kind == 2 else bad):
        store = victim.store()
        if kind == 2:  # cut short after it was opened and mapped
            store.read(int(rows[0]), "s2l1c_10")
            bad = good[: rng.randrange(len(good))]
            os.truncate(victim.folder / name, len(bad))
        found = reads(victim, store, rows)
        store.release()
    (shard,) = (shard for shard in victim.info.shards if shard.name == name)
    check = ShardCheck(shard, victim.catalogue)
    for at in range(0, min(len(bad), shard.bytes), 4096):
        check.feed(memoryview(bad)[at : min(at + 4096, shard.bytes)])
    if bool(check.finish(len(bad))) != (bad != good):
        raise Wrong(f"verify says {check.problems} of {name}")
    return found if bad != good else "harmless"


def reads(victim: Victim, store: Store, rows: np.ndarray) -> str:
    found = "harmless"
    for row in rows.tolist():
        for member, array in victim.arrays[row].items():
            try:
                got = store.read(row, member)
            except OURS:
                found = "detected"
                continue
            if not np.array_equal(got, array):
                raise Wrong(f"{member} of row {row} is another")
    return found


def description() -> str:
    victim = rng.choice(VICTIMS)
    info = parse_info(damaged(victim.files[DESCRIPTION]), "dataset.json")
    if info != victim.info:
        raise Wrong("another description")
    return "harmless"


def index_file() -> str:
    victim = rng.choice(VICTIMS)
    bad = damaged(victim.files[INDEX])
    with victim.broken(INDEX, bad):
        if index.read(victim.folder / INDEX, victim.info) != victim.table:
            raise Wrong("another index")
    return "harmless"


def columns_file() -> str:
    victim = rng.choice(VICTIMS)
    good = victim.files[COLUMNS]
    header = 24 + int.from_bytes(good[8:16], "little")
    values = min(column[3] for column in victim.columns.header["columns"].values())
    if rng.random() < 0.5:  # what lies between is room that nobody reads
        bad = damaged(good[:header]) + good[header:]
    else:
        bad = good[:values] + damaged(good[values:])
    with victim.broken(COLUMNS, bad):
        columns = open_columns(victim.folder / COLUMNS, victim.info)
        if columns is None or everything(columns) != victim.whole:
            raise Wrong("another index.bin")
    return "harmless"


def json_member() -> str:
    victim = rng.choice(VICTIMS)
    row = rng.randrange(6)
    sample: dict[str, Any] = {"__key__": f"tiny_{row:03d}"}
    for member in victim.info.members:
        entry = victim.table.slice(row, 1).to_pylist()[0]
        at, size = entry[f"{member}.offset"], entry[f"{member}.bytes"]
        ending = CODECS[victim.info.stored(member)[1]]
        sample[f"{member}.{ending}"] = victim.files[entry["shard"]][at : at + size]
    members = {
        name.rpartition(".")[0]: {
            "shape": list(victim.arrays[row][name.rpartition(".")[0]].shape),
            "dtype": "uint16",
            "xxh3": f"{checksum(data):016x}",
        }
        for name, data in sample.items()
        if name != "__key__"
    }
    hostile = rng.random() < 0.5
    sample["json"] = json.dumps({"members": mutated(members) if hostile else members}).encode()
    if not hostile:
        name = rng.choice([name for name in sample if name != "__key__"])
        sample[name] = damaged(sample[name])
    found = webdataset_decode(sample)
    for member, array in victim.arrays[row].items():
        if member in found and not hostile and not np.array_equal(found[member], array):
            raise Wrong(f"{member} is another")
    return "survived" if hostile else "harmless"


def ledgers() -> str:
    """A quarantine report and a verify journal: torn lines are passed over, nothing else."""
    path = VICTIMS[0].folder / "ledger"
    if rng.random() < 0.5:
        quarantine = Quarantine(100, report=path, on_quarantine=lambda *_: None)
        for key in "abc":
            quarantine.add(key, "v.tar", "short", 3)
        path.write_bytes(damaged(path.read_bytes()))
        read: Callable[[], Any] = lambda: Quarantine(100, report=path).known()  # noqa: E731
    else:
        journal = Journal(path, "hash")
        for name in "abc":
            journal.add(name, {"size": 3}, "0", [])
        path.write_bytes(damaged(path.read_bytes()))
        read = lambda: Journal(path, "hash").find("a", {"size": 3})  # noqa: E731
    try:
        with open(os.devnull, "w") as null, contextlib.redirect_stderr(null):
            read()
    finally:
        path.unlink()
    return "survived"


DAMAGE: dict[Callable[[], str], int] = {
    tar: 30,
    description: 12,
    index_file: 6,
    columns_file: 10,
    json_member: 6,
    ledgers: 3,
}
