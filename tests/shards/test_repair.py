import dataclasses
import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import shards
from bench.flaky_server import FlakyServer, Plan
from fm.cli import main
from fm.errors import FMError, UsageError
from fm.files import sha256_file
from shards.format import DESCRIPTION, INDEX, read_info, write_info
from shards.index import parquet as index
from shards.integrity.repair import repair
from shards.storage.remote import RemoteStorage
from tests.conftest import TINY, tiny_samples, write_tiny


@pytest.fixture
def pair(tiny_dataset: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A dataset and its copy."""
    (tmp_path / "other").mkdir()
    return (
        Path(shutil.copytree(tiny_dataset, tmp_path / "d")),
        Path(shutil.copytree(tiny_dataset, tmp_path / "other" / "d")),
    )


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def flip(folder: Path, *rows: int, member: str = "s2l1c_20") -> None:
    table = index.read(folder / INDEX, read_info(folder)).to_pylist()
    for row in rows:
        with open(folder / table[row]["shard"], "r+b") as stream:
            stream.seek(table[row][f"{member}.offset"] + 20)
            stream.write(b"\xff\x00\xff\x00")


def damages(folder: Path) -> dict[str, Callable[[], None]]:
    tar = folder / "tiny-000001.tar"

    def cut() -> None:
        os.truncate(tar, 5000)

    def longer() -> None:
        with open(tar, "ab") as stream:
            stream.write(bytes(2048))

    def header() -> None:
        with open(tar, "r+b") as stream:
            stream.write(b"\0")

    def tail() -> None:
        with open(tar, "r+b") as stream:
            stream.seek(-1, os.SEEK_END)
            stream.write(b"\1")

    def other_file(name: str, data: bytes) -> Callable[[], None]:
        return lambda: (folder / name).write_bytes(data) and None

    def swap() -> None:
        tar.rename(folder / "aside")
        (folder / "tiny-000002.tar").rename(tar)
        (folder / "aside").rename(folder / "tiny-000002.tar")

    return {
        "a member": lambda: flip(folder, 9),
        "several": lambda: flip(folder, 0, 8, 9, 22),
        "cut": cut,
        "longer": longer,
        "header": header,
        "tail": tail,
        "missing": tar.unlink,
        "empty": other_file(tar.name, b""),
        "swapped": swap,
        "index": other_file(INDEX, b"PAR1 no more"),
        "no index": (folder / INDEX).unlink,
        "description": other_file("dataset.json", b"{"),
        "no description": (folder / "dataset.json").unlink,
    }


DAMAGES = list(damages(Path("/")))


@pytest.mark.parametrize("name", DAMAGES)
def test_another_copy_brings_every_byte_back(name: str, pair: tuple[Path, Path]) -> None:
    folder, copy = pair
    good = content(copy)
    damages(folder)[name]()
    damaged = content(folder)
    assert damaged != good
    planned = repair(folder, copy, dry_run=True)
    assert content(folder) == damaged
    done = repair(folder, copy)
    assert planned.mended == done.mended != []
    assert done.ok
    assert content(folder) == good
    assert shards.verify(folder).ok
    assert repair(folder, copy).mended == []
    assert content(copy) == good


def test_the_copy_may_be_broken_elsewhere(pair: tuple[Path, Path]) -> None:
    folder, copy = pair
    good = content(folder)
    flip(folder, 7, 8, 20)
    flip(copy, 9, 10, 21, 3, member="s2l1c_60")
    (copy / "dataset.json").write_bytes(b"")
    (copy / INDEX).write_bytes(b"")
    assert repair(folder, copy).ok
    assert content(folder) == good


def test_a_copy_at_a_url_that_changes_bytes_on_the_way(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, other = pair
    before = content(folder)
    flip(folder, 0, 7)
    (folder / INDEX).write_bytes(b"no index")
    (folder / DESCRIPTION).write_bytes(b"{")
    small = RemoteStorage.read_bytes

    def read_bytes(storage: RemoteStorage, name: str) -> bytes:
        assert name != INDEX, "an index may be larger than what is read in one piece"
        return small(storage, name)

    monkeypatch.setattr(RemoteStorage, "read_bytes", read_bytes)
    with FlakyServer(other, Plan({"corrupt": 1.0}, most=2)) as server:
        result = repair(folder, server.url, cache=tmp_path / "cache")
        assert server.faults["corrupt"] >= 6
    assert result.ok
    assert content(folder) == before


def test_bytes_of_another_dataset_are_never_taken(pair: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = pair
    write_tiny(tmp_path / "strange", seed=5)
    flip(folder, 7)
    before = content(folder)
    found = repair(folder, tmp_path / "strange")
    assert not found.ok
    assert content(folder) == before
    (folder / "dataset.json").unlink()
    with pytest.raises(FMError, match="describes another dataset"):
        repair(folder, tmp_path / "strange")
    with pytest.raises(FMError, match="give another copy with --from"):
        repair(folder)


def test_without_a_copy_it_mends_what_needs_none_and_says_the_rest(
    pair: tuple[Path, Path],
) -> None:
    folder, copy = pair
    good = content(folder)
    damages(folder)["tail"]()
    flip(folder, 0, 20)
    (folder / "stray.tar").write_bytes(b"")
    found = repair(folder)
    assert found.mended == ["tiny-000001.tar"]
    assert found.left == [
        "tiny-000000.tar: 1 samples (tiny_000); name a copy with --from, or --drop them",
        "tiny-000002.tar: 1 samples (tiny_020); name a copy with --from, or --drop them",
        "stray.tar: no part of the dataset; remove it yourself",
    ]
    (folder / "stray.tar").unlink()
    flip(copy, 20)
    found = repair(folder, copy)
    assert found.left == [
        "tiny-000002.tar: 1 samples (tiny_020); the copy has them broken too: name another one "
        "with --from, or --drop them"
    ]
    assert content(folder)["tiny-000000.tar"] == good["tiny-000000.tar"]


def samples_of(folder: Path) -> dict[str, shards.Sample]:
    ds = shards.open(folder)
    return {ds.keys[i]: ds[i] for i in range(len(ds))}


def check_dropped(folder: Path, dropped: set[str]) -> None:
    assert shards.verify(folder).ok
    found = samples_of(folder)
    written = {sample.key: sample for sample in tiny_samples()}
    assert set(found) == set(written) - dropped
    for key, sample in found.items():
        for name, array in sample.arrays.items():
            assert np.array_equal(array, written[key].arrays[name])
        assert sample.labels == written[key].labels
    keys = [key for b in shards.open(folder).loader(8, shuffle=False, pad=True) for key in b.keys]
    assert [key for key in keys if key] == [key for key in written if key not in dropped]


def test_what_cannot_be_copied_is_dropped_and_told(pair: tuple[Path, Path]) -> None:
    folder, copy = pair
    before = shards.open(folder).info
    flip(folder, 0, 8, 9, 20)
    flip(copy, 8, 9, member="s2l1c_10")
    (folder / "splits.txt").write_text("beside")
    untouched = (folder / "tiny-000003.tar").stat().st_ino
    planned = repair(folder, copy, drop_lost=True, dry_run=True)
    found = repair(folder, copy, drop_lost=True)
    assert dataclasses.replace(planned, dry_run=False) == found
    assert found.ok
    assert list(found.dropped) == ["tiny_008", "tiny_009"]
    assert found.mended == ["tiny-000000.tar", "tiny-000002.tar"]
    check_dropped(folder, {"tiny_008", "tiny_009"})
    info = shards.open(folder).info
    assert info.manifest_hash != before.manifest_hash
    assert [shard.count for shard in info.shards] == [7, 5, 7, 3]
    (entry,) = info.provenance["repairs"]
    assert entry["dropped"] == [{"key": k, "reason": "checksum mismatch"} for k in found.dropped]
    assert entry["time"].endswith("Z")
    assert "statistics" in entry["note"]
    assert info.modalities == before.modalities
    assert (folder / "splits.txt").read_text() == "beside"
    assert (folder / "tiny-000003.tar").stat().st_ino == untouched  # a link, no copy
    assert sorted(p.name for p in folder.parent.iterdir()) == ["d", "other"]
    # a second one adds to the first
    (folder / "tiny-000003.tar").unlink()
    assert len(repair(folder, drop_lost=True).dropped) == 3
    check_dropped(folder, {"tiny_008", "tiny_009", *(f"tiny_{i:03d}" for i in range(21, 24))})
    info = shards.open(folder).info
    assert [shard.count for shard in info.shards] == [7, 5, 7]
    assert len(info.provenance["repairs"]) == 2


def test_an_heir_takes_the_place_of_a_dropped_first(pair: tuple[Path, Path]) -> None:
    folder, _ = pair
    info = read_info(folder)
    table = index.read(folder / INDEX, info)
    first = [None] * TINY
    for row in (5, 11, 18):
        first[row] = "tiny_002"
    first[12] = "tiny_001"
    rows = [row | {"duplicate_of": of} for row, of in zip(table.to_pylist(), first, strict=True)]
    index.write(folder / INDEX, rows, info.members, info.labels)
    write_info(folder, dataclasses.replace(info, index_sha256=sha256_file(folder / INDEX)))
    (folder / "index.bin").unlink(missing_ok=True)
    flip(folder, 2)
    repair(folder, drop_lost=True)
    ds = shards.open(folder)
    of = dict(zip(ds.keys, ds.index.column("duplicate_of").to_pylist(), strict=True))
    assert {key: value for key, value in of.items() if value} == {
        "tiny_011": "tiny_005",
        "tiny_018": "tiny_005",
        "tiny_012": "tiny_001",
    }


def test_nothing_left_and_no_dataset_are_one_line(pair: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = pair
    for tar in folder.glob("*.tar"):
        tar.unlink()
    before = content(folder)
    with pytest.raises(FMError, match="nothing would be left"):
        repair(folder, drop_lost=True)
    assert content(folder) == before
    with pytest.raises(FMError, match="no such dataset folder"):
        repair(tmp_path / "absent")
    with pytest.raises(UsageError, match="is the dataset itself"):
        repair(folder, folder)
    with pytest.raises(FMError, match="only a folder can be repaired"):
        repair("s3://bucket/d")


def test_tars_of_somebody_else_are_copied_again_but_never_rewritten(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, copy = pair
    info = read_info(folder)
    rows = index.read(folder / INDEX, info).to_pylist()
    for row in rows:
        row |= {"sample.offset": None, "sample.bytes": None, "sample.xxh3": None}
    index.write(folder / INDEX, rows, info.members, info.labels)
    (folder / "index.bin").unlink(missing_ok=True)
    archive = tmp_path / "archive"
    archive.mkdir()
    for tar in folder.glob("*.tar"):
        tar.rename(archive / tar.name)
    digest = sha256_file(folder / INDEX)
    write_info(folder, dataclasses.replace(info, index_sha256=digest, root=str(archive)))
    good = content(archive)

    def damage() -> None:
        with open(archive / "tiny-000001.tar", "r+b") as stream:
            stream.seek(rows[9]["s2l1c_20.offset"])
            stream.write(b"\xff\xff\xff\xff")
            stream.seek(0)  # and a header, which no checksum of the index covers
            stream.write(b"\0")

    damage()
    flip(copy, 11)  # its plain tars are a copy of the archive, broken elsewhere
    assert not repair(folder, copy).left
    assert content(archive) == good
    damage()
    with pytest.raises(FMError, match="never rewritten"):
        repair(folder, drop_lost=True)
    assert repair(folder).left != []


def test_format_1_is_repaired_as_format_1(tmp_path: Path) -> None:
    old = Path(__file__).parent / "data" / "format1"
    folder = Path(shutil.copytree(old, tmp_path / "d"))
    with open(folder / "old-000001.tar", "r+b") as stream:
        stream.seek(700)
        stream.write(b"\xff\x00\xff\x00")
    assert list(repair(folder, drop_lost=True).dropped) == ["old_2"]
    assert shards.verify(folder).ok
    assert shards.open(folder).info.format_version == 1
    assert list(shards.open(folder).keys) == ["old_0", "old_1", "old_3", "old_4"]


def killed_at(event: int, work: Callable[[], None]) -> bool:
    """Run in a child that dies, as by kill -9, at the n-th call that opens or changes a file."""
    child = os.fork()
    if child == 0:
        seen = 0

        def hook(name: str, _: tuple) -> None:
            nonlocal seen
            if name == "open" or name.startswith(("os.", "shutil.", "ctypes.dl")):
                seen += 1
                if seen == event:
                    os._exit(9)

        sys.addaudithook(hook)
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize("apart", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_at_any_moment_leaves_the_old_or_the_new(
    apart: int, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At moments that are at most so many calls apart."""
    monkeypatch.setattr("os.fsync", lambda _: None)  # a kill loses no page of the cache
    folder, copy = pair
    flip(folder, 0, 8, 9)
    flip(copy, 8, 9)
    before = shards.open(folder)
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    repair(folder, copy, drop_lost=True)
    after = shards.open(folder)
    keys = {ds.manifest_hash: list(ds.keys) for ds in (before, after)}
    rng, seen, event = random.Random(0), [], 0
    while True:
        event += rng.randint(1, apart)
        shutil.rmtree(folder)
        shutil.copytree(broken, folder)
        if not killed_at(event, lambda: repair(folder, copy, drop_lost=True) and None):
            break
        found = shards.open(folder)
        seen.append(found.manifest_hash)
        assert found.keys == keys[found.manifest_hash], event
        assert sha256_file(folder / INDEX) == found.info.index_sha256, event
        again = repair(folder, copy, drop_lost=True)
        assert again.ok, event
        assert shards.verify(folder).ok, event
        assert len(shards.open(folder)) == TINY - 2
        assert sorted(p.name for p in tmp_path.iterdir()) == ["broken", "d", "other"]
    assert set(seen) == set(keys)  # kills on both sides of the exchange
    assert len(seen) >= 15


def test_file_systems_that_cannot_exchange(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = pair
    flip(folder, 8)
    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: object())
    real = os.replace

    def fail_once(a: Path, b: Path) -> None:
        if Path(b) == folder:
            raise KeyboardInterrupt
        real(a, b)

    monkeypatch.setattr("os.replace", fail_once)
    with pytest.raises(KeyboardInterrupt):
        repair(folder, drop_lost=True)
    assert not folder.exists()
    monkeypatch.setattr("os.replace", real)
    assert list(repair(folder, drop_lost=True).dropped) == ["tiny_008"]
    check_dropped(folder, {"tiny_008"})


def test_one_repair_at_a_time(pair: tuple[Path, Path]) -> None:
    import fcntl

    folder, copy = pair
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(FMError, match="another repair is at work"):
            repair(folder, copy)
    finally:
        os.close(descriptor)
    assert repair(folder, copy).ok


def test_the_command(pair: tuple[Path, Path], capsys: pytest.CaptureFixture) -> None:
    folder, copy = pair
    flip(folder, 8)
    assert main(["shards", "repair", str(folder)]) == 1
    assert "left: tiny-000001.tar: 1 samples (tiny_008); name a copy" in capsys.readouterr().out
    assert main(["shards", "repair", str(folder), "--from", str(copy), "--dry-run"]) == 0
    assert "would be mended: tiny-000001.tar" in capsys.readouterr().out
    assert main(["shards", "repair", str(folder), "--drop", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["dropped"] == {"tiny_008": "checksum mismatch"}
    assert value["ok"] is True
    assert main(["shards", "verify", str(folder)]) == 0
