"""Remote files: the same bytes through every fault, counted retries, one line for what is final."""

import contextlib
import multiprocessing
import random
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest
import xxhash

import shards
from bench.flaky_server import FAULTS, FlakyServer, Plan
from fm.errors import FMError, UsageError
from shards.codecs.codec import CorruptError
from shards.storage.cache import HOME
from shards.storage.remote import MissingError, RemoteStorage

BLOCK = 1 << 16
SIZES = {"a_000001.tar": 10 * BLOCK + 777, "S2L1C/a_000002.tar": 6 * BLOCK, "empty.tar": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("served")
    for seed, (name, size) in enumerate(SIZES.items()):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(np.random.default_rng(seed).bytes(size))
    return root


@contextlib.contextmanager
def opened(url: str, cache: Path, **options: object):
    settings = {"block_bytes": BLOCK, "backoff": 0.001, "timeout": 5.0, "threads": 4}
    storage = RemoteStorage(url, cache, **(settings | options))
    try:
        yield storage
    finally:
        storage.close()


def pieces(seed: int, count: int) -> list[tuple[str, int, int]]:
    """Random ranges, and after them every byte of every file."""
    rng, found = random.Random(seed), []
    for _ in range(count):
        name = rng.choice([name for name, size in SIZES.items() if size])
        size = rng.choice([1, 100, 5000, BLOCK, 3 * BLOCK])
        found.append((name, rng.randrange(SIZES[name] - size + 1), size))
    return [*found, *((name, 0, size) for name, size in SIZES.items())]


def read(storage: RemoteStorage, name: str, offset: int, size: int) -> bytes:
    out = bytearray(size)
    storage.read_into(name, offset, memoryview(out))
    return bytes(out)


def right(folder: Path, name: str, offset: int, size: int) -> bytes:
    return (folder / name).read_bytes()[offset : offset + size]


def wrong(storage: RemoteStorage, folder: Path, wanted: list[tuple[str, int, int]]) -> int:
    return sum(read(storage, *piece) != right(folder, *piece) for piece in wanted)


@pytest.mark.parametrize("kind", [f for f in FAULTS if f not in ("corrupt", "stall")])
def test_each_fault_is_survived_and_every_retry_is_counted(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    with FlakyServer(folder, Plan({kind: 0.5}, seed=1)) as server:
        with opened(server.url, tmp_path) as storage:
            assert wrong(storage, folder, pieces(0, 60)) == 0
            counts = storage.counters.snapshot()
        assert server.faults[kind] == server.faults.total() >= 5
    assert counts["retries"] == server.faults.total()
    assert counts["misses"] == 17
    assert counts["bytes_fetched"] == sum(SIZES.values())


def test_a_stalled_answer_times_out_and_is_asked_for_again(folder: Path, tmp_path: Path) -> None:
    plan = Plan({"stall": 1.0}, most=1, stall=20.0)
    told = {"timeout": 1.0, "threads": 6}  # the six blocks stall at once; good answers come sooner
    with FlakyServer(folder, plan) as server, opened(server.url, tmp_path, **told) as storage:
        start = time.monotonic()
        assert wrong(storage, folder, [("a_000001.tar", 0, 6 * BLOCK)]) == 0
        assert time.monotonic() - start < 10
        assert storage.counters.retries == server.faults["stall"] == 6


def test_all_faults_at_once_two_passes(folder: Path, tmp_path: Path) -> None:
    """Bytes that were damaged on the way are found by the reader's checksum and fetched again."""
    rates = {"drop": 0.15, "truncate": 0.15, "unavailable": 0.15, "corrupt": 0.3}
    wanted = pieces(1, 40)
    sums = {piece: xxhash.xxh3_64_digest(right(folder, *piece)) for piece in wanted}
    bad = 0
    with FlakyServer(folder, Plan(rates, seed=5, most=4)) as server:
        with opened(server.url, tmp_path) as storage:
            for _ in range(2):
                storage.prefetch(wanted)
                for piece in wanted:
                    data = read(storage, *piece)
                    for _ in range(20):  # a long range meets several faults, one after the other
                        if xxhash.xxh3_64_digest(data) == sums[piece]:
                            break
                        bad += 1
                        assert storage.invalidate(*piece) is True
                        data = read(storage, *piece)
                    assert data == right(folder, *piece)
        assert server.faults["corrupt"] >= 3
        assert bad >= 3
        assert min(server.faults[kind] for kind in rates) >= 1
        requests = server.requests["GET"]
        with opened(server.url, tmp_path) as storage:
            assert wrong(storage, folder, wanted) == 0
            assert storage.counters.misses == 0
            assert storage.counters.hits > len(wanted)
        assert server.requests["GET"] == requests


def test_small_bounds_hold_while_everything_is_read(folder: Path, tmp_path: Path) -> None:
    limit = 5 * BLOCK
    with (
        FlakyServer(folder, Plan({"drop": 0.2}, seed=2)) as server,
        opened(server.url, tmp_path, cache_bytes=limit) as storage,
    ):
        for piece in pieces(2, 50):
            storage.prefetch([piece])
            assert read(storage, *piece) == right(folder, *piece)
            assert _used(tmp_path) <= limit
        assert storage.counters.evictions > 10


def _used(folder: Path) -> int:
    total = 0
    for path in (folder / HOME).rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() and path.name != "lock" else 0
    return total


def test_read_ahead_fetches_before_the_reader_comes(folder: Path, tmp_path: Path) -> None:
    name = "a_000001.tar"
    with FlakyServer(folder) as server, opened(server.url, tmp_path, threads=6) as storage:
        size = storage.size(name)
        server.goes.clear()
        storage.prefetch([(name, 0, size)])
        assert storage.counters.misses == 0, "it comes back before anything is there"
        while server.requests["GET"] < 6:  # as many at once as there are threads
            time.sleep(0.005)
        server.goes.set()
        while storage.counters.misses < 11:
            time.sleep(0.005)
        assert server.requests["HEAD"] == 1
        gets = server.requests["GET"]
        assert wrong(storage, folder, [(name, 0, size)]) == 0
        assert server.requests["GET"] == gets == 11
        assert storage.counters.hits == 11


def test_read_ahead_is_bounded(folder: Path, tmp_path: Path) -> None:
    name = "a_000001.tar"
    with (
        FlakyServer(folder) as server,
        opened(server.url, tmp_path, threads=2, ahead_bytes=3 * BLOCK) as storage,
    ):
        storage.size(name)
        server.goes.clear()
        storage.prefetch([(name, 0, 11 * BLOCK), (name, 0, 11 * BLOCK)])
        while server.requests["GET"] < 2:
            time.sleep(0.005)
        time.sleep(0.1)
        assert server.requests["GET"] == 2
        server.goes.set()
        while storage._ahead:
            time.sleep(0.01)
        assert storage.counters.misses == 3
        assert wrong(storage, folder, [(name, 3 * BLOCK - 5, 10)]) == 0


def test_failed_read_ahead_is_left_to_the_reader(folder: Path, tmp_path: Path) -> None:
    with FlakyServer(folder) as server, opened(server.url, tmp_path, retries=0) as storage:
        storage.prefetch([("nowhere.tar", 0, 10), ("a_000001.tar", 2**40, 10)])
        while storage._ahead:
            time.sleep(0.005)
        with pytest.raises(MissingError):
            read(storage, "nowhere.tar", 0, 10)
        with pytest.raises(CorruptError, match=r"a_000001\.tar ends early"):
            read(storage, "a_000001.tar", 2**40, 10)


def test_threads_read_right_bytes_and_each_block_is_fetched_once(
    folder: Path, tmp_path: Path
) -> None:
    wanted = pieces(6, 200)
    with (
        FlakyServer(folder, Plan({"drop": 0.2}, seed=7)) as server,
        opened(server.url, tmp_path) as storage,
        ThreadPoolExecutor(8) as pool,
    ):
        found = list(pool.map(lambda piece: read(storage, *piece), wanted))
        assert storage.counters.misses == 17
    assert found == [right(folder, *piece) for piece in wanted]


def _reader(url: str, folder: Path, cache: Path, seed: int, out: "multiprocessing.Queue") -> None:
    with opened(url, cache) as storage:
        bad = wrong(storage, folder, pieces(seed, 60))
        out.put((bad, storage.counters.misses))


def test_two_processes_share_a_cache(folder: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    with FlakyServer(folder, Plan({"unavailable": 0.3}, seed=8)) as server:
        arguments = [(server.url, folder, tmp_path, seed, out) for seed in (10, 11)]
        workers = [context.Process(target=_reader, args=a) for a in arguments]
        for worker in workers:
            worker.start()
        results = [out.get(timeout=60) for _ in workers]
        for worker in workers:
            worker.join(30)
    assert [bad for bad, _ in results] == [0, 0]
    assert sum(misses for _, misses in results) == 17


def test_what_is_missing_or_refused_is_one_line_and_is_not_asked_twice(
    folder: Path, tmp_path: Path
) -> None:
    with FlakyServer(folder) as server, opened(server.url, tmp_path) as storage:
        with pytest.raises(MissingError) as missing:
            storage.read_bytes("dataset.json")
        assert str(missing.value) == f"{server.url}/dataset.json: not found; check the URL"
        assert isinstance(missing.value, FMError)
        assert isinstance(missing.value, FileNotFoundError)
        server.status = 403
        with pytest.raises(FMError, match=r"a_000001\.tar: HTTP status 403; .*credentials"):
            storage.size("a_000001.tar")
        assert storage.counters.retries == 0
        # fsspec asks by HEAD, then by GET
        assert server.requests.total() == 4


def test_a_server_that_stays_away_ends_in_one_line(folder: Path, tmp_path: Path) -> None:
    with FlakyServer(folder) as server, opened(server.url, tmp_path, retries=3) as storage:
        assert storage.size("a_000001.tar") == SIZES["a_000001.tar"]
        server.status = 503
        with pytest.raises(FMError, match=r"gave up after 4 tries \(HTTP status 503\)") as caught:
            read(storage, "a_000001.tar", 0, 100)
        assert not isinstance(caught.value, OSError)  # an outage is no damaged sample
        assert "\n" not in str(caught.value)
        assert storage.counters.retries == 3
        with pytest.raises(FMError, match="gave up after 4 tries"):
            storage.size("S2L1C/a_000002.tar")
        server.status = None
        assert read(storage, "a_000001.tar", 0, 100) == right(folder, "a_000001.tar", 0, 100)
    with (
        opened(server.url, tmp_path, retries=1) as storage,
        pytest.raises(FMError, match=r"gave up after 2 tries \(.*Connect"),
    ):
        storage.size("a_000001.tar")


def test_whole_files(folder: Path, tmp_path: Path) -> None:
    name = "a_000001.tar"
    with (
        FlakyServer(folder, Plan({"drop": 0.4}, seed=9)) as server,
        opened(server.url, tmp_path) as storage,
    ):
        path = storage.local(name)
        assert path.read_bytes() == (folder / name).read_bytes()
        assert path.is_relative_to(tmp_path / HOME)
        gets = server.requests["GET"]
        assert storage.local(name) == path
        assert server.requests["GET"] == gets
        assert storage.read_bytes(name) == (folder / name).read_bytes()
        assert storage.read_bytes("empty.tar") == b""
        assert read(storage, "empty.tar", 0, 0) == b""
        storage.invalidate(name, 5, 10)
        assert not path.exists()
        assert storage.local(name).read_bytes() == (folder / name).read_bytes()


def test_a_file_that_was_replaced_is_not_served_from_an_old_cache(tmp_path: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    (served / "a.tar").write_bytes(b"1" * 1000)
    with FlakyServer(served) as server:
        for digit in (b"1", b"2"):
            (served / "a.tar").write_bytes(digit * 1000)
            with opened(server.url, tmp_path / "cache") as storage:
                assert read(storage, "a.tar", 0, 1000) == digit * 1000
                assert storage.local("a.tar").read_bytes() == digit * 1000
                assert storage.read_bytes("a.tar") == digit * 1000


def test_a_block_damaged_on_disk_is_fetched_again(folder: Path, tmp_path: Path) -> None:
    rng, name = random.Random(0), "a_000001.tar"
    with FlakyServer(folder) as server, opened(server.url, tmp_path) as storage:
        for _ in range(3):
            assert wrong(storage, folder, [(name, 0, SIZES[name])]) == 0
            for path in (tmp_path / HOME / "blocks").glob("*/*"):
                data = bytearray(path.read_bytes())
                if rng.random() < 0.5:
                    data[rng.randrange(len(data))] ^= 1
                else:
                    del data[rng.randrange(len(data)) :]
                path.write_bytes(data)
        assert storage.counters.damaged == 22
        assert storage.counters.misses == 33


def test_releasing_ends_the_threads_and_keeps_the_rest(folder: Path, tmp_path: Path) -> None:
    with FlakyServer(folder) as server, opened(server.url, tmp_path, threads=2) as storage:
        path = storage.local("S2L1C/a_000002.tar")
        server.goes.clear()
        storage.prefetch([("a_000001.tar", 0, 11 * BLOCK)])
        storage.release()
        server.goes.set()
        limit = time.monotonic() + 10
        while _threads() and time.monotonic() < limit:
            time.sleep(0.01)
        assert not _threads()
        assert storage.counters.misses <= 3, "the local copy, and what was under way"
        assert path.exists()
        storage.prefetch([("a_000001.tar", 0, 1)])
        assert wrong(storage, folder, [("a_000001.tar", 0, 2 * BLOCK)]) == 0


def _threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("shards-remote")]


def test_closing_does_not_wait_for_retries(folder: Path, tmp_path: Path) -> None:
    with FlakyServer(folder) as server:
        server.status = 503
        with opened(server.url, tmp_path, backoff=30.0) as storage:
            storage.prefetch([("a_000001.tar", 0, 100)])
            time.sleep(0.1)
            start = time.monotonic()
        assert time.monotonic() - start < 5
        with pytest.raises(FMError, match="was closed"):
            storage.size("a_000001.tar")
    assert not _threads()


def test_another_filesystem_than_http(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(3 * BLOCK)
    fsspec.filesystem("memory").pipe("/set/a.tar", data)
    with opened("memory://set/", tmp_path) as storage:
        assert read(storage, "a.tar", 70, 2 * BLOCK) == data[70 : 70 + 2 * BLOCK]
        assert storage.read_bytes("a.tar") == storage.local("a.tar").read_bytes() == data
        assert storage.url == "memory://set"
        with pytest.raises(MissingError, match=r"memory://set/b\.tar: not found"):
            storage.size("b.tar")
        fsspec.filesystem("memory").pipe("/set/deep/b.tar", data)
        with pytest.raises(MissingError, match="deep is a folder, not a file"):
            storage.size("deep")
        with pytest.raises(CorruptError, match=r"a\.tar ends early"):
            read(storage, "a.tar", 3 * BLOCK - 1, 2)


def test_a_cache_folder_must_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EOFM_CACHE", raising=False)
    with pytest.raises(UsageError, match="pass cache= or set EOFM_CACHE"):
        RemoteStorage("http://127.0.0.1:9/set")
    monkeypatch.setenv("EOFM_CACHE", str(tmp_path))
    RemoteStorage("http://127.0.0.1:9/set").close()
    assert (tmp_path / HOME).is_dir()


@pytest.mark.parametrize(
    "name", ["../a.tar", "/a.tar", "a//b.tar", "a/../b.tar", "a.tar?x", "", "%2e"]
)
def test_a_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    with opened("memory://set", tmp_path) as storage, pytest.raises(FMError, match="not allowed"):
        storage.size(name)


def test_a_query_is_sent_and_never_shown(folder: Path, tmp_path: Path) -> None:
    with FlakyServer(folder) as server:
        with opened(f"{server.url}/?token=secret", tmp_path) as storage:
            assert wrong(storage, folder, [("a_000001.tar", 10, 100)]) == 0
            assert storage.url == server.url
            with pytest.raises(MissingError) as caught:
                storage.size("b.tar")
            assert "secret" not in str(caught.value)
        stored = b"".join(p.read_bytes() for p in (tmp_path / HOME).rglob("*") if p.is_file())
        assert b"secret" not in stored
        with opened(f"{server.url}/?token=other", tmp_path) as storage:
            assert wrong(storage, folder, [("a_000001.tar", 10, 100)]) == 0
            assert storage.counters.misses == 1


def test_an_error_that_quotes_the_url_is_shown_without_its_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(url: str) -> None:
        raise ValueError(f"cannot read http://me:word@nowhere/d/a.tar?sig=secret ({url})")

    with opened("http://me:word@nowhere/d?sig=secret", tmp_path) as storage:
        monkeypatch.setattr(storage._fs, "info", refuse)
        with pytest.raises(FMError, match="cannot read") as caught:
            storage.size("a.tar")
    assert "secret" not in str(caught.value)
    assert "word" not in str(caught.value)


def test_a_server_without_ranges_is_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.flaky_server._RANGE", _Deaf())
    with FlakyServer(folder) as server, opened(server.url, tmp_path) as storage:
        with pytest.raises(FMError, match=r"ignores byte ranges .*supports Range"):
            read(storage, "a_000001.tar", 0, 10)
        assert storage.counters.retries == 0


class _Deaf:
    def fullmatch(self, text: str) -> dict[int, str]:
        return {1: "0", 2: ""}


def _pixels(ds: shards.Dataset, **options: object) -> dict[str, bytes]:
    found = {}
    for batch in ds.loader(batch_size=5, pad=True, **options):
        for slot, key in enumerate(batch.keys):
            if batch.weight[slot]:
                arrays = (pixels[slot].numpy().tobytes() for pixels in batch.pixels.values())
                found[key] = b"".join(arrays)
    return found


def test_a_dataset_is_the_same_through_every_fault(tiny_dataset: Path, tmp_path: Path) -> None:
    rates = {"drop": 0.3, "truncate": 0.3, "unavailable": 0.2}
    whole = _pixels(shards.open(tiny_dataset))
    with FlakyServer(tiny_dataset, Plan(rates, seed=1)) as server:
        for threads in (0, 2):
            ds = shards.open(server.url, cache=tmp_path)
            assert _pixels(ds, threads=threads) == whole
        assert server.faults.total() >= 3
        server.plan = Plan({"corrupt": 1.0}, most=1)  # the first answer to every request
        for path in (tmp_path / HOME / "blocks").glob("*/*"):
            path.unlink()
        server.again(0)
        assert _pixels(ds) == whole
        assert server.faults["corrupt"] == 4  # one block a shard
        ds.close()


def test_a_missing_shard_costs_its_samples_and_a_refusal_stops(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    served = tmp_path / "served"
    shutil.copytree(tiny_dataset, served)
    min(served.glob("*.tar")).unlink()
    lost: dict[str, str] = {}
    with FlakyServer(served) as server:
        ds = shards.open(server.url, cache=tmp_path / "cache")
        found = _pixels(ds, on_quarantine=lost.__setitem__, max_bad=0.5)
        assert len(lost) == 7
        assert all("not found" in reason for reason in lost.values())
        whole = _pixels(shards.open(tiny_dataset))
        assert found == {key: data for key, data in whole.items() if key not in lost}
        ds.close()
        ds = shards.open(server.url, cache=tmp_path / "other")
        server.status = 403
        with pytest.raises(FMError, match="HTTP status 403"):
            _pixels(ds)
        ds.close()
