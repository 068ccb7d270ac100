"""The block cache: bounded, never wrong, whatever is torn, flipped, shared or crashed."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fm.errors import FMError, UsageError
from shards.storage.bounded import BoundedFolder
from shards.storage.cache import HOME, Block, BlockCache

SIZE = 4096
ROOT = Path(__file__).resolve().parents[2]


def block(number: int, size: int = SIZE, version: str = "v1") -> Block:
    return Block("http://here/data", "a.tar", number * SIZE, size, version)


def content(what: Block) -> bytes:
    seed = [what.offset, *what.version.encode()]
    return np.random.default_rng(seed).bytes(what.size)


def get(cache: BlockCache, what: Block) -> bytes:
    return cache.get(what, lambda: content(what))


def read(cache: BlockCache, what: Block, offset: int = 0, size: int = SIZE) -> bytes | None:
    out = bytearray(size)
    return bytes(out) if cache.read_into(what, offset, memoryview(out)) else None


def used(folder: Path) -> int:
    return sum(p.stat().st_size for p in (folder / HOME).rglob("*") if p.is_file()) - 8  # ledger


def ledger(folder: Path) -> int:
    return int.from_bytes((folder / HOME / "lock").read_bytes(), "little")


def block_files(folder: Path) -> list[Path]:
    return sorted((folder / HOME / "blocks").glob("*/*"))


def test_a_block_is_fetched_once_and_then_read_from_disk(tmp_path: Path) -> None:
    cache, what = BlockCache(tmp_path, 10**6), block(3)
    assert read(cache, what) is None
    assert get(cache, what) == content(what)
    assert read(cache, what, 100, 50) == content(what)[100:150]
    assert cache.get(what, lambda: pytest.fail("fetched again")) == content(what)
    assert read(BlockCache(tmp_path, 10**6), what) == content(what)
    counts = cache.counters.snapshot()
    assert (counts["hits"], counts["misses"], counts["damaged"]) == (2, 1, 0)


def test_everything_lies_in_one_folder_of_the_cache(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    cache = BlockCache(tmp_path, 3 * SIZE)
    for number in range(9):
        get(cache, block(number))
    assert sorted(os.listdir(tmp_path)) == [HOME, "mine.txt"]
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_every_flipped_bit_and_every_truncation_is_a_miss(tmp_path: Path) -> None:
    cache, what = BlockCache(tmp_path, 10**6), block(0, size=64)
    get(cache, what)
    (file,) = block_files(tmp_path)
    good = file.read_bytes()
    damages = [good[:n] for n in range(len(good))] + [good + b"\0"]
    for at in range(len(good)):
        wrong = bytearray(good)
        wrong[at] ^= 1 << at % 8
        damages.append(bytes(wrong))
    for count, damage in enumerate(damages, start=1):
        file.write_bytes(damage)
        assert read(cache, what, 0, 64) is None
        assert cache.counters.damaged == count
        assert not file.exists()
    assert get(cache, what) == content(what)


def test_a_block_in_the_place_of_another_is_a_miss(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 10**6)
    get(cache, block(0))
    (first,) = block_files(tmp_path)
    get(cache, block(1))
    (second,) = set(block_files(tmp_path)) - {first}
    first.write_bytes(second.read_bytes())
    assert read(cache, block(0)) is None
    assert read(cache, block(1)) == content(block(1))


def test_another_version_of_the_remote_file_is_another_content(tmp_path: Path) -> None:
    cache, old, new = BlockCache(tmp_path, 10**6), block(0), block(0, version="v2")
    get(cache, old)
    assert read(cache, new) is None
    assert get(cache, new) == content(new)
    assert read(cache, old) is None
    assert len(block_files(tmp_path)) == 1
    assert ledger(tmp_path) == used(tmp_path)
    assert cache.counters.damaged == 0


def test_a_dropped_block_is_fetched_again(tmp_path: Path) -> None:
    cache, what = BlockCache(tmp_path, 10**6), block(0)
    cache.get(what, lambda: bytes(SIZE))  # wrong bytes came over the network
    assert read(cache, what) == bytes(SIZE)
    cache.drop(what)
    assert get(cache, what) == content(what)
    assert ledger(tmp_path) == used(tmp_path)


def test_the_limit_holds_at_every_moment_and_the_least_recent_goes_first(tmp_path: Path) -> None:
    each = SIZE + len(block(0).identity) + 16
    limit = 10 * each + 100  # identities differ by a digit
    cache = BlockCache(tmp_path, limit)
    for number in range(10):
        get(cache, block(number))
    assert read(cache, block(0)) is not None
    get(cache, block(10))
    kept = {n for n in range(11) if cache.has(block(n))}
    assert {0, 10} <= kept
    assert 1 not in kept
    for number in range(11, 60):
        get(cache, block(number))
        assert used(tmp_path) <= limit
        assert ledger(tmp_path) == used(tmp_path)
    assert cache.counters.evictions == 60 - len(block_files(tmp_path))
    assert len(block_files(tmp_path)) >= 8


def test_a_block_larger_than_the_limit_is_delivered_and_not_kept(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 1000)
    assert get(cache, block(0)) == content(block(0))
    assert block_files(tmp_path) == []
    assert used(tmp_path) == 0


def test_opening_a_folder_over_a_smaller_limit_shrinks_it(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 10**6)
    for number in range(20):
        get(cache, block(number))
    BlockCache(tmp_path, 5 * SIZE)
    assert 0 < used(tmp_path) <= 5 * SIZE


def test_threads_that_want_one_block_share_one_download(tmp_path: Path) -> None:
    cache, downloads, gate = BlockCache(tmp_path, 10**6), [], threading.Event()

    def download() -> bytes:
        downloads.append(1)
        gate.wait(5)
        return content(block(0))

    with ThreadPoolExecutor(8) as pool:
        results = [pool.submit(cache.get, block(0), download) for _ in range(8)]
        time.sleep(0.05)
        gate.set()
        assert {r.result() for r in results} == {content(block(0))}
    assert len(downloads) == 1
    assert (cache.counters.hits, cache.counters.misses) == (7, 1)


def test_a_failed_download_fails_for_all_and_can_be_repeated(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 10**6)

    def fails() -> bytes:
        raise FMError("no connection")

    with pytest.raises(FMError, match="no connection"):
        cache.get(block(0), fails)
    assert list((tmp_path / HOME / "partial").iterdir()) == []
    assert ledger(tmp_path) == 0
    assert get(cache, block(0)) == content(block(0))


def _fetch_all(folder: Path, seed: int, counts: "multiprocessing.Queue") -> None:
    cache, downloads = BlockCache(folder, 10**7), 0
    for number in np.random.default_rng(seed).permutation(12).tolist():
        right = content(block(number))

        def download(data: bytes = right) -> bytes:
            nonlocal downloads
            downloads += 1
            time.sleep(0.01)
            return data

        assert cache.get(block(number), download) == right
    counts.put(downloads)


def test_two_processes_fetch_each_block_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    counts = context.Queue()
    workers = [context.Process(target=_fetch_all, args=(tmp_path, s, counts)) for s in (1, 2)]
    for worker in workers:
        worker.start()
    assert sum(counts.get(timeout=30) for _ in workers) == 12
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    assert ledger(tmp_path) == used(tmp_path)


def _churn(folder: Path, seed: int, limit: int, failed: "multiprocessing.Queue") -> None:
    cache, rng = BlockCache(folder, limit), np.random.default_rng(seed)
    wrong = over = 0
    for number in rng.integers(0, 40, 150).tolist():
        wrong += get(cache, block(number)) != content(block(number))
        over += ledger(folder) > limit
    failed.put((wrong, over))


def test_the_limit_holds_for_two_processes_and_no_byte_is_wrong(tmp_path: Path) -> None:
    limit = 12 * SIZE
    context = multiprocessing.get_context("fork")
    failed = context.Queue()
    workers = [context.Process(target=_churn, args=(tmp_path, s, limit, failed)) for s in (1, 2)]
    for worker in workers:
        worker.start()
    most = 0
    while any(worker.is_alive() for worker in workers):
        most = max(most, _used_now(tmp_path))
    assert [failed.get(timeout=30) for _ in workers] == [(0, 0), (0, 0)]
    assert 0 < most <= limit
    assert ledger(tmp_path) == used(tmp_path) <= limit


def _used_now(folder: Path) -> int:
    """Bytes of the cache with its lock held, so that no file moves between two looks."""
    if not (folder / HOME / "lock").exists():
        return 0
    import fcntl

    with open(folder / HOME / "lock", "r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return used(folder)


CRASH = """
import os, sys
from pathlib import Path
from tests.shards.test_cache import block, content
from shards.storage.cache import BlockCache
cache = BlockCache(sys.argv[1], 10**6)
real, left = os.write, int(sys.argv[2])
def write(descriptor, data):
    real(descriptor, data[:left])
    os._exit(9)
os.write = write
cache.get(block(0), lambda: content(block(0)))
"""


@pytest.mark.parametrize("written", [0, 1000, SIZE])
def test_a_process_that_dies_while_writing_leaves_no_block(tmp_path: Path, written: int) -> None:
    other = BlockCache(tmp_path, 10**6)  # was open before the crash
    words = [sys.executable, "-c", CRASH, str(tmp_path), str(written)]
    assert subprocess.run(words, cwd=ROOT, check=False).returncode == 9
    assert len(list((tmp_path / HOME / "partial").iterdir())) == 1
    assert read(other, block(0)) is None
    assert get(other, block(0)) == content(block(0))
    assert list((tmp_path / HOME / "partial").iterdir()) == []


def test_stray_partial_files_are_cleaned_when_the_cache_is_opened(tmp_path: Path) -> None:
    words = [sys.executable, "-c", CRASH, str(tmp_path), "1000"]
    assert subprocess.run(words, cwd=ROOT, check=False).returncode == 9
    assert ledger(tmp_path) > 0
    BlockCache(tmp_path, 10**6)
    assert list((tmp_path / HOME / "partial").iterdir()) == []
    assert ledger(tmp_path) == used(tmp_path) == 0


def test_a_partial_file_at_work_is_not_cleaned(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 10**6)

    def download() -> bytes:
        BlockCache(tmp_path, 10**6)  # another process opens the folder
        return content(block(0))

    assert cache.get(block(0), download) == content(block(0))
    assert read(cache, block(0)) == content(block(0))


def test_a_stuck_writer_is_not_waited_for_without_end(tmp_path: Path) -> None:
    folder = BoundedFolder(tmp_path / HOME, ("blocks", "files"), 10**6, 60.0, lambda path: None)
    claim = folder.claim(block(0).key)
    assert claim is not None
    cache = BlockCache(tmp_path, 10**6, patience=0.05)
    assert get(cache, block(0)) == content(block(0))
    assert not cache.has(block(0))
    with pytest.raises(FMError, match=r"without progress for 0\.05 s"):
        cache.whole(block(0), lambda descriptor: None)
    folder.release(claim, block(0).key)
    get(cache, block(0))
    assert cache.has(block(0))


def test_a_whole_file_is_kept_while_it_is_in_use(tmp_path: Path) -> None:
    cache, other = BlockCache(tmp_path, 5 * SIZE), BlockCache(tmp_path, 5 * SIZE)
    what = Block("http://here/data", "deep/index.parquet", 0, 3 * SIZE, "v1")
    path = cache.whole(what, lambda descriptor: _write(descriptor, content(what)))
    assert path.read_bytes() == content(what)
    assert path.name.endswith("-index.parquet")
    for number in range(20):
        get(other, block(number))
    assert path.exists()
    assert used(tmp_path) <= 5 * SIZE
    cache.close()
    for number in range(20, 30):
        get(other, block(number))
    assert not path.exists()


def test_a_damaged_whole_file_is_fetched_again(tmp_path: Path) -> None:
    what = Block("http://here/data", "index.parquet", 0, 3 * SIZE, "v1")

    def download(descriptor: int) -> None:
        _write(descriptor, content(what))

    cache = BlockCache(tmp_path, 10**6)
    path = cache.whole(what, download)
    assert cache.whole(what, lambda d: pytest.fail("fetched again")) == path
    for damage in (content(what)[:-1], bytes(3 * SIZE), b""):
        path.write_bytes(damage)
        assert cache.whole(what, download).read_bytes() == content(what)
    assert cache.counters.damaged == 3
    cache.drop(what)
    assert not path.exists()
    assert used(tmp_path) == 0


def _write(descriptor: int, data: bytes) -> None:
    assert os.pwrite(descriptor, data, 0) == len(data)


def test_a_whole_file_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    what = Block("http://here/data", "index.bin", 0, 3 * SIZE, "v1")
    with pytest.raises(FMError, match=r"index\.bin has 12288 bytes.*raise cache_bytes"):
        BlockCache(tmp_path, SIZE).whole(what, lambda descriptor: None)
    assert used(tmp_path) == 0


def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = BlockCache(tmp_path, 10**6)

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(FMError, match="No space left on device; free the disk, lower cache_bytes"):
        get(cache, block(0))
    assert used(tmp_path) == ledger(tmp_path) == 0


def test_a_ledger_that_was_lost_is_counted_again(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 10**6)
    get(cache, block(0))
    os.truncate(tmp_path / HOME / "lock", 3)
    get(cache, block(1))
    assert ledger(tmp_path) == used(tmp_path)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(FMError, match="Not a directory"):
        BlockCache(tmp_path / "file", 10**6)
    with pytest.raises(UsageError, match="cache_bytes 0"):
        BlockCache(tmp_path, 0)
