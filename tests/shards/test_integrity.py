import dataclasses
import json
import os
import random
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import shards
from bench.flaky_server import FlakyServer, Plan
from fm.errors import FMError, UsageError
from fm.files import sha256_file
from shards.format import INDEX, read_info, write_info
from shards.index import parquet as index
from shards.index.columns_build import write_columns
from tests.conftest import write_tiny


@pytest.fixture
def copy(tiny_dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_dataset, tmp_path / "copy"))


def owner(rows: list[dict], shard: str, at: int) -> str | None:
    for row in rows:
        start = row["sample.offset"]
        if row["shard"] == shard and start <= at < start + row["sample.bytes"]:
            return row["key"]
    return None


def test_a_whole_dataset_passes(tiny_dataset: Path) -> None:
    report = shards.verify(tiny_dataset)
    assert report.ok
    assert (report.samples, report.shards, report.problems) == (24, 4, [])
    files = [path for path in tiny_dataset.iterdir() if path.name != "dataset.json"]
    assert report.bytes == sum(path.stat().st_size for path in files)


def test_a_flipped_byte_anywhere_in_a_tar_is_found_and_its_sample_named(copy: Path) -> None:
    rows = shards.open(copy).index.to_pylist()
    rng = random.Random(0)
    path = copy / "tiny-000001.tar"
    good = path.read_bytes()
    row = next(row for row in rows if row["shard"] == path.name)
    # a header, the padding behind a member, KEY.json, the end, and wherever chance goes
    places = [0, 156, row["s2l1c_10.offset"] - 1, row["s2l1c_10.offset"], len(good) - 1]
    places += [row["s2l1c_10.offset"] + row["s2l1c_10.bytes"], row["sample.bytes"] - 1]
    places += [row["sample.bytes"] - 513]
    places += rng.sample(range(len(good)), 120)
    for at in places:
        bad = bytearray(good)
        bad[at] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        report = shards.verify(copy)
        assert not report.ok, at
        assert {p.shard for p in report.problems} == {path.name}
        key = owner(rows, path.name, at)
        assert report.bad_keys == ([] if key is None else [key]), at
    path.write_bytes(good)
    assert shards.verify(copy).ok


def test_the_member_is_named(copy: Path) -> None:
    row = shards.open(copy).index.to_pylist()[3]
    with open(copy / row["shard"], "r+b") as stream:
        stream.seek(row["s2l1c_60.offset"])
        stream.write(b"\xff")
    (problem,) = shards.verify(copy).problems
    assert (problem.kind, problem.key, problem.member) == ("member", "tiny_003", "s2l1c_60")
    assert str(problem) == "member: tiny-000000.tar: tiny_003: s2l1c_60: checksum mismatch"


def test_missing_extra_and_short_shards(copy: Path) -> None:
    (copy / "tiny-000000.tar").rename(copy / "other.tar")
    with open(copy / "tiny-000001.tar", "r+b") as stream:
        stream.truncate(5000)
    report = shards.verify(copy)
    kinds = {(p.kind, p.shard) for p in report.problems}
    assert {("missing", "tiny-000000.tar"), ("extra", "other.tar")} <= kinds
    assert ("archive", "tiny-000001.tar") in kinds
    assert set(report.bad_keys) == {f"tiny_{i:03d}" for i in range(7, 14)}


def test_bytes_behind_the_archive_are_found(copy: Path) -> None:
    with open(copy / "tiny-000002.tar", "ab") as stream:
        stream.write(bytes(512))
    (problem,) = shards.verify(copy).problems
    assert (problem.kind, problem.shard) == ("archive", "tiny-000002.tar")


def test_a_flipped_byte_in_the_index_is_found_and_not_read(copy: Path) -> None:
    (copy / "index.bin").unlink(missing_ok=True)
    path, rng = copy / "index.parquet", random.Random(1)
    good = path.read_bytes()
    for at in rng.sample(range(len(good)), 40):
        bad = bytearray(good)
        bad[at] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        report = shards.verify(copy)
        assert any(p.kind == "index" for p in report.problems), at
        with pytest.raises(FMError, match=r"index\.parquet.*copy the dataset again"):
            shards.open(copy)
    path.unlink()
    assert [p.kind for p in shards.verify(copy).problems] == ["index"]


def test_an_index_of_another_dataset_is_not_believed(copy: Path, tmp_path: Path) -> None:
    write_tiny(tmp_path / "other", seed=9)
    shutil.copy(tmp_path / "other" / "index.parquet", copy / "index.parquet")
    (copy / "index.bin").unlink(missing_ok=True)
    with open(copy / "tiny-000002.tar", "r+b") as stream:
        stream.write(b"\0")
    report = shards.verify(copy)
    assert [(p.kind, p.shard) for p in report.problems] == [
        ("index", None),
        ("archive", "tiny-000002.tar"),  # by its SHA-256 alone
    ]


def test_the_report_is_json(copy: Path) -> None:
    (copy / "tiny-000003.tar").unlink()
    value = json.loads(json.dumps(shards.verify(copy).to_dict()))
    assert value["ok"] is False
    assert value["problems"][0]["kind"] == "missing"


def test_no_dataset_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FMError, match="not a dataset"):
        shards.verify(tmp_path)


def broken(copy: Path) -> None:
    rows = shards.open(copy).index.to_pylist()
    for row in rows[::5]:
        with open(copy / row["shard"], "r+b") as stream:
            stream.seek(row["s2l1c_10.offset"] + 7)
            stream.write(b"\xff\x00\xff")
    (copy / "tiny-000003.tar").unlink()


def test_threads_and_pieces_change_nothing(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(copy)
    whole = shards.verify(copy, threads=1).to_dict()
    assert len(whole["problems"]) == 6
    assert shards.verify(copy, threads=5).to_dict() == whole
    for piece in (512, 1000, 4097):
        monkeypatch.setattr("shards.integrity.verify.PIECE", piece)
        assert shards.verify(copy).to_dict() == whole
    with pytest.raises(UsageError, match="threads=0"):
        shards.verify(copy, threads=0)


def test_a_journal_passes_over_what_has_not_changed(copy: Path, tmp_path: Path) -> None:
    journal = tmp_path / "verify.jsonl"
    broken(copy)
    first = shards.verify(copy, journal=journal, threads=1)  # its lines are in order
    again = shards.verify(copy, journal=journal)
    assert (first.skipped, again.skipped) == (0, 3)
    assert again.problems == first.problems
    assert again.bytes < first.bytes
    # a line torn by a kill costs one tar, a changed tar is read again
    journal.write_bytes(journal.read_bytes()[:-30])
    with open(copy / "tiny-000001.tar", "r+b") as stream:
        stream.write(b"\0")
    third = shards.verify(copy, journal=journal)
    assert third.skipped == 1
    assert len(third.problems) == len(first.problems) + 1
    assert shards.verify(copy, journal=journal).skipped == 3


def test_a_journal_of_another_dataset_is_refused(copy: Path, tmp_path: Path) -> None:
    journal = tmp_path / "verify.jsonl"
    write_tiny(tmp_path / "other", 2, seed=9)
    shards.verify(tmp_path / "other", journal=journal)
    before = journal.read_bytes()
    with pytest.raises(FMError, match="no journal of this dataset"):
        shards.verify(copy, journal=journal)
    assert journal.read_bytes() == before
    with pytest.raises(FMError, match="cannot write the journal"):
        shards.verify(copy, journal=copy / "dataset.json" / "x")


def test_what_is_no_file_is_a_problem_not_a_hang(copy: Path) -> None:
    (copy / "tiny-000000.tar").unlink()
    os.mkfifo(copy / "tiny-000000.tar")
    (copy / "tiny-000001.tar").unlink()
    (copy / "tiny-000001.tar").symlink_to("/dev/zero")
    (copy / "tiny-000002.tar").unlink()
    (copy / "tiny-000002.tar").mkdir()
    report = shards.verify(copy)
    assert {p.shard for p in report.problems} == {f"tiny-00000{i}.tar" for i in range(3)}


def rewritten(copy: Path, change: Callable[[list[dict]], None], **fields: Any) -> None:
    """Change rows of the index and make every checksum fit again, as an attacker would."""
    info = shards.open(copy).info
    rows = shards.open(copy).index.to_pylist()
    change(rows)
    index.write(copy / INDEX, rows, info.members, info.labels)
    (copy / "index.bin").unlink(missing_ok=True)
    digest = sha256_file(copy / INDEX)
    write_info(copy, dataclasses.replace(info, index_sha256=digest, **fields))


def test_ranges_that_cannot_be_are_named_and_cost_no_memory(copy: Path) -> None:
    def change(rows: list[dict]) -> None:
        rows[0]["s2l1c_10.bytes"] = 2**62
        rows[1]["s2l1c_20.offset"] = 2**63 - 1
        rows[2]["s2l1c_60.offset"] = rows[1]["s2l1c_60.offset"]
        rows[3]["s2l1c_10.bytes"] = -5
        rows[8]["sample.bytes"] = 2**40
        rows[9]["sample.offset"] = -1

    rewritten(copy, change)
    tracemalloc.start()
    report = shards.verify(copy)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert {
        p.key for p in report.problems if p.kind == "index" and p.shard == "tiny-000000.tar"
    } >= {f"tiny_00{i}" for i in range(4)}
    assert {"tiny_008", "tiny_009"} <= set(report.bad_keys)
    assert peak < 20e6


def test_tars_of_somebody_else_are_checked_by_member_and_file(copy: Path, tmp_path: Path) -> None:
    def change(rows: list[dict]) -> None:
        for row in rows:
            row |= {"sample.offset": None, "sample.bytes": None, "sample.xxh3": None}

    rewritten(copy, change, root=str(tmp_path / "archive"))
    (tmp_path / "archive").mkdir()
    for tar in copy.glob("*.tar"):
        tar.rename(tmp_path / "archive" / tar.name)
    (tmp_path / "archive" / "unrelated.tar").write_bytes(b"")
    assert shards.verify(copy).ok
    row = shards.open(copy).index.to_pylist()[9]
    at = {"tiny-000001.tar": row["s2l1c_20.offset"], "tiny-000002.tar": 0}
    for name, place in at.items():
        with open(tmp_path / "archive" / name, "r+b") as stream:
            stream.seek(place)
            stream.write(b"\0")
    assert [str(p) for p in shards.verify(copy).problems] == [
        "member: tiny-000001.tar: tiny_009: s2l1c_20: checksum mismatch",
        "archive: tiny-000002.tar: SHA-256 is not that of dataset.json",
    ]
    (tmp_path / "archive" / "tiny-000003.tar").unlink()
    assert ("missing", "tiny-000003.tar") in {
        (p.kind, p.shard) for p in shards.verify(copy).problems
    }


def test_the_copy_of_the_index_must_agree_with_it(copy: Path) -> None:
    path = copy / "index.bin"
    if not path.exists():
        write_columns(copy / INDEX, shards.open(copy).info, path)
    assert shards.verify(copy).ok
    good = path.read_bytes()
    for bad in (good[:-1], good + b"\0", good[:100] + b"\1" + good[101:]):
        path.write_bytes(bad)
        assert [p.kind for p in shards.verify(copy).problems] == ["columns"]


def test_a_verdict_on_a_url_is_about_the_server_not_the_cache(copy: Path, tmp_path: Path) -> None:
    with FlakyServer(copy) as server:
        ds = shards.open(server.url, cache=tmp_path / "cache")
        assert all(batch.weight.all() for batch in ds.loader(8, steps=3))
        ds.close()
        row = index.read(copy / INDEX, read_info(copy)).to_pylist()[3]
        path = copy / row["shard"]
        before = path.stat()
        with open(path, "r+b") as stream:
            stream.seek(row["s2l1c_60.offset"])
            stream.write(b"\xff")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # so the cache's blocks stay
        report = shards.verify(server.url, cache=tmp_path / "cache")
    assert [(p.kind, p.key, p.member) for p in report.problems] == [
        ("member", "tiny_003", "s2l1c_60")
    ]


def test_what_is_changed_on_the_way_is_no_damage(copy: Path, tmp_path: Path) -> None:
    with FlakyServer(copy, Plan({"corrupt": 1.0}, most=1)) as server:
        report = shards.verify(server.url, cache=tmp_path / "cache")
        assert server.faults["corrupt"] == 7  # description, index, its columns, four tars
        assert report.problems == []
        assert shards.verify(server.url, cache=tmp_path / "cache").ok
    with (
        FlakyServer(copy, Plan({"corrupt": 1.0}, most=100)) as server,
        pytest.raises(FMError, match=r"dataset\.json"),
    ):
        shards.verify(server.url, cache=tmp_path / "other")


def test_an_index_that_contradicts_itself_is_a_problem_not_an_error(copy: Path) -> None:
    info = read_info(copy)
    table = index.read(copy / INDEX, info)
    place = table.schema.get_field_index("s2l1c_10.shape")
    shapes = table.column(place).to_pylist()
    shapes[2] = [1] * 6
    table = table.set_column(place, table.schema.field(place), pa.array(shapes, table[place].type))
    pq.write_table(table, copy / INDEX)
    write_info(copy, dataclasses.replace(info, index_sha256=sha256_file(copy / INDEX)))
    report = shards.verify(copy)
    assert [p.kind for p in report.problems] == ["index"]
    assert "too many axes" in report.problems[0].detail
