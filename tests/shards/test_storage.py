import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import shards
from fm.errors import FMError
from shards.codecs.codec import CorruptError
from shards.storage.local import LocalStorage, open_storage
from tests.conftest import write_tiny

DATA = np.random.default_rng(0).integers(0, 256, 50_000).astype(np.uint8)


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    (tmp_path / "x.tar").write_bytes(DATA.tobytes())
    return LocalStorage(tmp_path, max_idle=1)


def read(storage: LocalStorage, name: str, offset: int, size: int) -> bytes:
    buffer = bytearray(size)
    storage.read_into(name, offset, memoryview(buffer))
    return bytes(buffer)


@pytest.mark.parametrize(("offset", "size"), [(0, 50_000), (4096, 4096), (4095, 2), (49_999, 1)])
def test_ranges_read_and_mapped_are_the_bytes_of_the_file(
    storage: LocalStorage, offset: int, size: int
) -> None:
    want = DATA[offset : offset + size]
    assert read(storage, "x.tar", offset, size) == want.tobytes()
    found = storage.view("x.tar", offset, size)
    if sys.platform == "linux":
        assert found is not None
        assert not found.flags.writeable
        assert np.array_equal(found, want)


def test_past_the_end_is_corrupt_not_short(storage: LocalStorage) -> None:
    for call in (
        lambda: read(storage, "x.tar", 49_999, 2),
        lambda: storage.view("x.tar", 0, 50_001),
    ):
        with pytest.raises(CorruptError, match=r"x\.tar ends early"):
            call()
    with pytest.raises(FileNotFoundError):
        read(storage, "y.tar", 0, 1)


def test_a_file_cut_short_after_it_was_mapped_is_an_error_not_a_signal(tmp_path: Path) -> None:
    # in a process of its own: a page beyond the end of a mapped file raises SIGBUS when touched
    code = """
import os, sys
from pathlib import Path
from shards.storage import local as module
from shards.codecs.codec import CorruptError
for own in (True, False):
    (Path(sys.argv[1]) / "x.tar").write_bytes(bytes(64 * 4096))
    place = module.LocalStorage(Path(sys.argv[1]))
    place.view("x.tar", 0, 100)
    place._maps["x.tar"] = place._maps["x.tar"]._replace(own=own)
    assert place.view("x.tar", 0, 64 * 4096).max() == 0
    os.truncate(Path(sys.argv[1]) / "x.tar", 8 * 4096)
    try:
        place.view("x.tar", 0, 64 * 4096).max()
    except CorruptError as error:
        print(own, error)
    assert place.view("x.tar", 0, 8 * 4096).max() == 0
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True x.tar ends early", "False x.tar ends early"]


def test_idle_files_are_closed_and_lent_ones_stay(storage: LocalStorage, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(b"x")
        assert read(storage, name, 0, 1) == b"x"
    assert len(storage._open) == 1
    lent = storage._lend("a")
    storage.release()
    assert os.pread(lent[0], 1, 0) == b"x"  # another loader of the dataset may be reading
    storage._take_back(lent)
    storage.release()
    assert not storage._open
    assert read(storage, "a", 0, 1) == b"x"  # and it goes on afterwards


def test_two_loaders_of_one_dataset_do_not_disturb_each_other(tmp_path: Path) -> None:
    write_tiny(tmp_path / "d")
    ds = shards.open(tmp_path / "d")
    want = [batch.pixels["s2l1c_10"].numpy().copy() for batch in ds.loader(5, steps=12)]
    wrong: list[str] = []

    def run() -> None:
        for _ in range(3):
            found = [batch.pixels["s2l1c_10"].numpy().copy() for batch in ds.loader(5, steps=12)]
            if not all(np.array_equal(a, b) for a, b in zip(found, want, strict=True)):
                wrong.append("differs")
            ds.read(0)

    running = [threading.Thread(target=run) for _ in range(3)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert not wrong


def test_a_place_is_a_path_or_a_url(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    assert open_storage(tmp_path).read_bytes("a") == b"1"
    assert open_storage(f"file://{tmp_path}").size("a") == 1
    assert open_storage(tmp_path).local("a") == tmp_path / "a"
    assert open_storage(tmp_path).invalidate("a", 0, 1) is False
    with pytest.raises(FMError, match="no such dataset folder"):
        open_storage(tmp_path / "absent")


def test_many_shards_and_few_descriptors_lose_no_sample(tmp_path: Path) -> None:
    pixels = np.arange(4 * 36, dtype=np.uint16).reshape(4, 6, 6)
    shards.write_dataset(
        tmp_path / "d",
        (shards.Sample(f"k{i:03d}", {"s2l1c_10": pixels + np.uint16(i)}) for i in range(150)),
        name="d",
        modalities={"s2l1c_10": shards.Declared("sentinel2-l1c", ("B02", "B03", "B04", "B08"))},
        provenance={},
        licence="",
        codec="npy",
        samples_per_shard=1,
    )
    code = """
import resource, sys
import shards, shards.reading.reader, shards.reading.source
ds = shards.open(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
total = sum(float(b.weight.sum()) for b in ds.loader(10, pad=True, shuffle=False))
print(total, sum(int(b.pixels["s2l1c_10"][:, 0, 0, 0].sum()) for b in ds.loader(10, steps=15)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "d")], capture_output=True, text=True
    )
    assert done.stdout.split() == ["150.0", str(sum(range(150)))], done.stderr


def test_a_machine_without_descriptors_is_not_blamed_on_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny(tmp_path / "d")
    ds = shards.open(tmp_path / "d")

    def full(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(LocalStorage, "read_into", full)
    with pytest.raises(FMError, match=r"Too many open files; that is this machine, not the data"):
        next(ds.loader(4))
