import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shards
from fm.errors import FMError
from shards.format import COLUMNS, INDEX, DatasetInfo, LabelInfo, ModalityInfo, ShardInfo, read_info
from shards.index import columns as module
from shards.index import parquet as index_file
from shards.index.columns import UNKNOWN, Columns, open_columns
from shards.index.columns_build import build_columns, columns_in_memory, write_columns

BANDS = ("B02", "B03", "B04", "B08")
LABELS = {
    "cover": LabelInfo("cover", "class", ("a", "b", "c"), ignore=9),
    "tags": LabelInfo("tags", "multilabel", tuple("abcdefghij"), ignore=99),
    "level": LabelInfo("level", "regression"),
    "words": LabelInfo("words", "text"),
    "map": LabelInfo("map", "mask", ("x",), member="map", dtype="uint8", codec="npy"),
}


def made(rows: list[dict[str, Any]], folder: Path) -> tuple[Path, DatasetInfo]:
    """Write an index of such rows and a description that fits."""
    names = sorted({row["shard"] for row in rows} | {f"other-{i}.tar" for i in range(2)})
    modality = ModalityInfo("s2l1c_10", "sentinel2-l1c", BANDS, "uint16", "npy", 1e-4, 0, 10, {})
    path = folder / INDEX
    index_file.write(path, rows, ("s2l1c_10", "map"), LABELS)
    return path, DatasetInfo(
        name="x",
        modalities={"s2l1c_10": modality},
        labels=LABELS,
        provenance={},
        licence="",
        shards=tuple(
            ShardInfo(n, sum(row["shard"] == n for row in rows), 2**40, "") for n in names
        ),
        index_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def some_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)

    def maybe(value: Any, share: float = 0.7) -> Any:
        return value if rng.random() < share else None

    rows = []
    for i in range(count):
        side = int(rng.choice([8, 16]))
        lon = maybe(float(rng.uniform(-180, 180)))
        row = {
            "key": f"k{i}_{'x' * int(rng.integers(0, 30))}",
            "shard": f"s{i // 50}.tar",
            "lon": lon,
            "lat": None if lon is None else float(rng.uniform(-90, 90)),
            "time": maybe(np.datetime64(int(rng.integers(0, 2**50)), "us").astype(object)),
            "times": maybe([np.datetime64(int(t), "us").astype(object) for t in range(i % 4)]),
            "split": maybe(str(rng.choice(["train", "val", "test"]))),
            "cover": maybe(int(rng.integers(0, 3))),
            "tags": maybe([int(t) for t in rng.choice([*range(10), 99], i % 5, replace=False)]),
            "level": maybe(float(rng.normal())),
            "words": maybe(str(rng.choice(["", "a field", "Grün", "\u6d77"]))),
            "s2l1c_10.offset": int(rng.integers(0, 2**39)),
            "s2l1c_10.bytes": int(rng.integers(1, 2**31)),
            "s2l1c_10.shape": [4, side, side],
            "s2l1c_10.xxh3": int(rng.integers(0, 2**64, dtype=np.uint64)),
        }
        if rng.random() < 0.5:
            row |= {"map.offset": 5, "map.bytes": 6, "map.shape": [side, side], "map.xxh3": 7}
            row["map.shard"] = "other-1.tar"
        rows.append(row)
    return rows


def check(columns: Columns, info: DatasetInfo, rows: list[dict[str, Any]], at: np.ndarray) -> None:
    """Every column at some rows against the rows themselves."""
    shapes = [(), *(tuple(s) for s in columns.header["shapes"])]
    splits = [None, *columns.header["splits"]]
    names = [shard.name for shard in info.shards]
    wanted = [rows[i] for i in at]

    def get(name: str) -> list[Any]:
        return columns.take(name, at).tolist()

    assert columns.text("key", at) == [row["key"] for row in wanted]
    assert columns.text("words", at) == [row["words"] for row in wanted]
    assert [names[n] for n in get("shard")] == [row["shard"] for row in wanted]
    assert [splits[n] for n in get("split")] == [row["split"] for row in wanted]
    for name in ("lon", "lat", "level"):
        found = [None if np.isnan(v) else v for v in get(name)]
        assert found == [row[name] for row in wanted]
    for name, unit in (("time", "us"), ("cover", None)):
        found = [None if v == UNKNOWN else v for v in get(name)]
        want = [row[name] for row in wanted]
        assert found == [
            None if v is None else int(np.datetime64(v, "us").astype(np.int64)) if unit else v
            for v in want
        ]
    for values, row in zip(columns.pieces("times", at), wanted, strict=True):
        assert values.tolist() == [
            int(np.datetime64(t, "us").astype(np.int64)) for t in row["times"] or []
        ]
    for bits, row in zip(columns.take("tags", at), wanted, strict=True):
        unpacked = np.unpackbits(bits)
        assert bool(unpacked[-1]) == (row["tags"] is not None)
        hot = np.flatnonzero(unpacked[:10]).tolist()
        assert hot == sorted(set(row["tags"] or []) - {99})
    for member, default in (("s2l1c_10", None), ("map", ())):
        for part in ("offset", "bytes", "xxh3"):
            assert get(f"{member}.{part}") == [row.get(f"{member}.{part}", 0) for row in wanted]
        assert [shapes[n] for n in get(f"{member}.shape")] == [
            tuple(row.get(f"{member}.shape", default)) for row in wanted
        ]
    tars = [names[n] for n in get("map.shard")]
    assert tars == [row.get("map.shard", row["shard"]) for row in wanted]
    assert "s2l1c_10.shard" not in columns


@given(seed=st.integers(0, 99), block=st.sampled_from([64, 4096, 65536]))
@settings(max_examples=12, deadline=None)
def test_every_column_is_that_of_the_parquet(
    seed: int, block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("shards.index.columns", "shards.index.columns_build"):
            patch.setattr(f"{name}.BLOCK", block)
            patch.setattr(f"{name}.BATCH", 70)  # several batches
        rows = some_rows(180, seed)
        path, info = made(rows, tmp_path_factory.mktemp("c"))
        columns = columns_in_memory(path, info)
        rng = np.random.default_rng(seed)
        check(columns, info, rows, rng.integers(0, 180, 40))
        check(columns, info, rows, np.arange(180)[::-1])
        assert columns.take("lon", np.empty(0, np.int64)).shape == (0,)


def test_kinds_of_shapes_from_the_header_and_by_counting_agree(tmp_path: Path) -> None:
    rows = some_rows(300)
    path, info = made(rows, tmp_path)
    columns = columns_in_memory(path, info)
    members = ("map", "s2l1c_10")
    listed = columns.kinds(members, None)
    counted = columns.kinds(members, np.arange(300))
    columns.header["kinds"] = None
    for found in (counted, columns.kinds(members, None)):
        assert all(np.array_equal(a, b) for a, b in zip(listed, found, strict=True))
    assert listed[1].sum() == 300
    assert listed[2].tolist() == sorted(listed[2].tolist())
    some = columns.kinds(members, np.array([5, 7, 299]))
    assert some[1].sum() == 3
    assert some[2][0] == 5
    one = columns.kinds(("s2l1c_10",), None)
    assert len(one[0]) == 2


def test_the_written_file_opens_mapped_and_a_stale_one_is_not_taken(tmp_path: Path) -> None:
    rows = some_rows(100)
    path, info = made(rows, tmp_path)
    write_columns(path, info, tmp_path / COLUMNS)
    columns = open_columns(tmp_path / COLUMNS, info)
    assert columns is not None
    check(columns, info, rows, np.arange(100))
    (tmp_path / "b").mkdir()
    _, other = made(some_rows(100, seed=1), tmp_path / "b")
    assert open_columns(tmp_path / COLUMNS, other) is None
    assert open_columns(tmp_path / "absent", info) is None


def test_each_changed_byte_is_found_or_harmless(tmp_path: Path) -> None:
    rows = some_rows(60)
    path, info = made(rows, tmp_path)
    with open(tmp_path / COLUMNS, "w+b") as stream:
        build_columns(path, info, stream)
    data = (tmp_path / COLUMNS).read_bytes()
    rng = np.random.default_rng(0)
    header = int.from_bytes(data[8:16], "little") + 24
    places = [*range(24), *rng.integers(24, header, 20), *rng.integers(0, len(data), 60)]
    found = 0
    for place in map(int, places):
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        (tmp_path / COLUMNS).write_bytes(changed)
        try:
            columns = open_columns(tmp_path / COLUMNS, info)
            assert columns is not None
            check(columns, info, rows, np.arange(60))
        except FMError as error:
            assert "index.bin" in str(error)  # noqa: PT017
            found += 1
    assert found >= 44  # every byte of the header, and then where a column lies
    for size in (0, 10, header - 1, len(data) // 2, len(data) - 64):
        (tmp_path / COLUMNS).write_bytes(data[:size])
        with pytest.raises(FMError, match=r"index\.bin"):
            check(open_columns(tmp_path / COLUMNS, info), info, rows, np.arange(60))


def test_blocks_are_checked_when_first_touched_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 64)
    monkeypatch.setattr("shards.index.columns_build.BLOCK", 64)
    path, info = made(some_rows(100), tmp_path)
    columns = columns_in_memory(path, info)
    checked: list[int] = []
    plain = module.checksum

    def counting(data: memoryview) -> int:
        checked.append(len(data))
        return plain(data)

    monkeypatch.setattr(module, "checksum", counting)
    for _ in range(2):
        columns.take("lon", np.array([3, 3, 5, 99]))  # 8 of them in a block: blocks 0 and 12
    assert checked == [64, 32]
    columns.checked()
    columns.take("lat", np.arange(100))
    assert len(checked) == sum(len(blocks) for blocks in columns._checked.values())


def test_an_index_that_contradicts_the_description_is_refused(tmp_path: Path) -> None:
    rows = some_rows(20)
    path, info = made(rows, tmp_path)
    for change in ({"count": 19}, {"name": "gone.tar"}):
        first = info.shards[-1]
        bad = ShardInfo(change.get("name", first.name), change.get("count", first.count), 2**40, "")
        other = DatasetInfo(
            "x", info.modalities, LABELS, {}, "", (*info.shards[:-1], bad), info.index_sha256
        )
        with pytest.raises(FMError, match=r"not (those of|listed in) dataset\.json"):
            columns_in_memory(path, other)
    rows[3]["tags"] = [12]
    path, info = made(rows, tmp_path)
    with pytest.raises(FMError, match="'tags': a class number is out of range"):
        columns_in_memory(path, info)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tags", [1, None]),
        ("times", [np.datetime64(5, "us").astype(object), None]),
        ("s2l1c_10.shape", [4, None, 8]),
    ],
)
def test_an_empty_place_in_a_list_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    rows = some_rows(5)
    rows[3][name] = value
    with pytest.raises(FMError, match=f"column '{name}' has a list with an empty place") as caught:
        columns_in_memory(*made(rows, tmp_path))
    assert "\n" not in str(caught.value)


def test_a_dataset_reads_alike_with_the_file_and_without(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(tiny_dataset, tmp_path / "copy"))
    (copy / COLUMNS).unlink(missing_ok=True)
    info = read_info(copy)
    assert pq.read_metadata(copy / INDEX).num_rows == info.count
    without = [batch.keys for batch in shards.open(copy).loader(5, steps=9)]
    write_columns(copy / INDEX, info, copy / COLUMNS)
    assert [batch.keys for batch in shards.open(copy).loader(5, steps=9)] == without
    data = bytearray((copy / COLUMNS).read_bytes())
    os.truncate(copy / COLUMNS, len(data) // 2)
    with pytest.raises(FMError, match="fm shards repair"):
        list(shards.open(copy).loader(5, steps=9))
