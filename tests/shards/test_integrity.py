import json
import random
import shutil
from pathlib import Path

import pytest

import shards
from fm.errors import FMError


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


def test_an_index_of_another_dataset_is_found(copy: Path, tmp_path: Path) -> None:
    from tests.conftest import write_tiny

    write_tiny(tmp_path / "other", seed=9)
    shutil.copy(tmp_path / "other" / "index.parquet", copy / "index.parquet")
    report = shards.verify(copy)
    assert "index" in {p.kind for p in report.problems}
    assert "member" in {p.kind for p in report.problems}


def test_the_report_is_json(copy: Path) -> None:
    (copy / "tiny-000003.tar").unlink()
    value = json.loads(json.dumps(shards.verify(copy).to_dict()))
    assert value["ok"] is False
    assert value["problems"][0]["kind"] == "missing"


def test_no_dataset_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FMError, match="not a dataset"):
        shards.verify(tmp_path)
