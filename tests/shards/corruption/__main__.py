"""Runs cases and prints what came of them as JSON."""

import collections
import faulthandler
import json
import mmap
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

import shards
from tests.shards.corruption.damage import DAMAGE
from tests.shards.corruption.hostile import HOSTILE
from tests.shards.corruption.mutate import rng
from tests.shards.corruption.payload import prepare
from tests.shards.corruption.victim import OURS, VICTIMS, Victim

SECONDS = 10.0
"""A case that takes longer has hung."""
ADDRESS_SPACE = 4 << 30
"""Bytes of address space above what the process has at the start."""
KINDS = {"damage": DAMAGE, "hostile": HOSTILE, "all": DAMAGE | HOSTILE}


def peak() -> int:
    """Return the most memory that was resident, in bytes.

    Getrusage's is inherited: beside a parent of 2 GiB nothing would ever grow.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def run(folder: Path, cases: int, seed: int, which: str = "all") -> dict[str, Any]:
    """Run the cases; return what came of them."""
    rng.seed(seed)
    os.fsync = lambda _: None  # nothing here must outlive this process
    for number, codec in enumerate(("npy", "blosc-lz4", "blosc-zstd")):
        VICTIMS.append(Victim.make(folder / codec, codec, number))
    prepare()
    if which != "damage":
        next(shards.open(VICTIMS[0].folder).loader(2))  # so that everything is imported
    pool = pa.default_memory_pool()
    resident = peak()
    space = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (space + ADDRESS_SPACE,) * 2)
    outcomes: collections.Counter[str] = collections.Counter()
    failures: list[str] = []
    slowest, begin = 0.0, time.monotonic()
    weights = KINDS[which]
    kinds = rng.choices(list(weights), weights=list(weights.values()), k=cases)
    for number, kind in enumerate(kinds):
        rng.seed(f"{seed}/{number}")
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        start = time.monotonic()
        try:
            outcome = kind()
        except OURS as error:
            outcome = "detected"
            if "\n" in str(error):
                failures.append(f"{kind.__name__} {number}: {error!r} has several lines")
        except Exception as error:
            outcome = "failed"
            failures.append(f"{kind.__name__} {number}: {type(error).__name__}: {error}"[:300])
        slowest = max(slowest, time.monotonic() - start)
        outcomes[f"{kind.__name__} {outcome}"] += 1
    faulthandler.cancel_dump_traceback_later()
    grown = peak() - resident
    return {
        "cases": cases,
        "outcomes": dict(sorted(outcomes.items())),
        "failures": failures,
        "seconds": time.monotonic() - begin,
        "slowest": slowest,
        "grown_mb": grown / 1e6,
        "arrow_mb": pool.max_memory() / 1e6,
    }


if __name__ == "__main__":
    faulthandler.enable()
    print(json.dumps(run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])))
