"""Ten million samples: how long until the first batch, and how much memory?

The index is synthetic: ten thousand shards of a thousand samples, all of them hard links to one
tar of small patches. Each case runs in a process of its own, and its memory is what the process
holds beyond the same work on a thousand samples.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

import shards
from bench import scenes
from bench.runner import Bench, Fact
from fm.files import sha256_file
from shards.format import COLUMNS, INDEX, DatasetInfo, ShardInfo, read_info, write_info
from shards.index import parquet as index_file
from shards.index.columns_build import write_columns

IN_SHARD = 1000
SHARDS, QUICK_SHARDS = 10_000, 100
SIDE = 8
_CHILD = """
import json, resource, sys, time
sys.path.insert(0, sys.argv[3])
import torch, shards, shards.reading.reader, shards.reading.source, pyarrow.parquet
def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))
before, start = resident(), time.perf_counter()
ds = shards.open(sys.argv[1])
opened = time.perf_counter() - start
loader = ds.loader(256, position=int(sys.argv[2]))
batch = next(loader)
print(json.dumps({"opened": opened, "first": time.perf_counter() - start,
                  "bytes": resident() - before, "count": len(ds), "keys": batch.keys[:3]}))
"""


def _base(place: Path) -> DatasetInfo:
    """One shard of small patches."""
    rng = np.random.default_rng(0)

    def samples():
        for i in range(IN_SHARD):
            pixels = rng.integers(0, 4000, (4, SIDE, SIDE)).astype(np.uint16)
            yield shards.Sample(f"s{i:04d}", {"s2l1c_10": pixels}, (0.01 * i, 40.0), "2020-05-01")

    return shards.write_dataset(
        place,
        samples(),
        name="many",
        modalities={"s2l1c_10": shards.Declared("sentinel2-l1c", ("B02", "B03", "B04", "B08"))},
        provenance={},
        licence="CC0-1.0",
        samples_per_shard=IN_SHARD,
    )


def _make(count: int, place: Path) -> None:
    """Write a dataset of `count` shards that are one file."""
    base = place / "base"
    info = _base(base)
    tar = base / info.shards[0].name
    rows = index_file.read(base / INDEX, info)
    names = [f"many-{i:06d}.tar" for i in range(count)]
    listed = tuple(
        ShardInfo(n, IN_SHARD, info.shards[0].bytes, info.shards[0].sha256) for n in names
    )
    with index_file.IndexWriter(place / INDEX, info.members, {}, [0, 40, 10, 40]) as writer:
        for number, name in enumerate(names):
            keys = pa.array([f"{number:06d}_{i:04d}" for i in range(IN_SHARD)])
            table = rows.set_column(0, rows.schema.field("key"), keys)
            shard = pa.array([name] * IN_SHARD)
            writer.write(table.set_column(1, rows.schema.field("shard"), shard))
            os.link(tar, place / name)
    digest = sha256_file(place / INDEX)
    many = DatasetInfo("many", info.modalities, {}, {}, "CC0-1.0", listed, digest)
    write_columns(place / INDEX, many, place / COLUMNS)
    write_info(place, many)
    read_info(place)


def _dataset(count: int) -> Path:
    return scenes.made(f"index-{count}", False, lambda place: _make(count, place))


def _measure(folder: Path, position: int) -> dict:
    root = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", _CHILD, str(folder), str(position), root]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _facts(quick: bool) -> list[Fact]:
    count = QUICK_SHARDS if quick else SHARDS
    folder, small = _dataset(count), _dataset(1)
    samples = count * IN_SHARD
    rounds, bound = (1, None) if quick else (5, 60)  # a small index is mostly what is constant
    result = [
        Fact("samples", samples, "samples"),
        Fact("index.parquet", (folder / INDEX).stat().st_size / samples, "bytes/sample"),
        Fact("index.bin", (folder / COLUMNS).stat().st_size / samples, "bytes/sample"),
    ]
    for name, position in (
        ("position 0", 0),
        ("the middle", samples // 2 + 17),
        ("epoch 7", 7 * samples + 4_321_987),
    ):
        taken = [_measure(folder, position) for _ in range(rounds)]
        least = [_measure(small, 0) for _ in range(rounds)]
        extra = np.median([t["bytes"] for t in taken]) - np.median([t["bytes"] for t in least])
        first = float(np.median([t["first"] for t in taken]))
        opened = float(np.median([t["opened"] for t in taken]))
        result += [
            Fact(f"open, {name}", opened, "s"),
            Fact(f"open and first batch, {name}", first, "s", at_most=2),
            Fact(f"memory, {name}", float(extra) / samples, "bytes/sample", bound),
        ]
    return result


BENCH = Bench(
    name="shards_index",
    question="How soon does a dataset of ten million samples give its first batch, and in how much "
    "memory?",
    competitors={},
    facts=_facts,
    versions=("numpy", "pyarrow"),
)
