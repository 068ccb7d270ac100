"""What a build puts into a dataset: skips, statistics, copies, keys, bands, codecs."""

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import shards
from fm.errors import FMError, UsageError
from fm.sensors import Band
from shards.codecs.codec import choose
from shards.codecs.video import Video
from shards.index import parquet as index
from tests.shards import makers
from tests.shards.makers import bytes_of, content, here, rows_of, seeds


def test_skipped_samples_are_counted_and_named(tmp_path: Path) -> None:
    tasks = [{"seed": k} for k in range(14)]
    for k in (1, 4, 5, 6, 7):
        tasks[k]["skip"] = "under cloud"
    tasks[4]["named"] = "patch 4"  # a source may name what it skips
    more = [f"task {k}" for k in (5, 6, 7)]
    tasks[2]["empty_rows"] = 8
    tasks[3]["empty_rows"] = 1
    info = here(tmp_path / "out", tasks, min_valid=0.6)
    assert info.provenance["quality"] == {
        "min_valid": 0.6,
        "skipped": {
            "under cloud": {"count": 5, "first": ["task 1", "patch 4", *more]},
            "valid fraction below 0.6": {"count": 1, "first": ["k0002"]},
        },
        "duplicates": 0,
        "dropped_duplicates": 0,
        "duplicates_with_other_labels": 0,
        "near_duplicates": 0,
        "near_duplicate_pairs": [],
    }
    rows = rows_of(tmp_path / "out")
    assert [row["key"] for row in rows] == [f"k{k:04d}" for k in (0, 3, 8, 9, 10, 11, 12, 13)]
    assert [row["valid_fraction"] for row in rows[:3]] == pytest.approx([1, 15 / 16, 1])
    names = [shard.name for shard in info.shards]
    assert names == ["made-000000.tar", "made-000002.tar", "made-000003.tar"], "one is empty"
    assert shards.verify(tmp_path / "out").ok
    with pytest.raises(FMError, match=r"no samples came.*all were skipped: under cloud \(3\)"):
        here(tmp_path / "none", [{"seed": k, "skip": "under cloud"} for k in range(3)])
    with pytest.raises(FMError, match="found no samples"):
        here(tmp_path / "none2", [])


def test_statistics_are_of_valid_elements(tmp_path: Path) -> None:
    tasks = [{"seed": k, "empty_rows": 4 * (k % 3)} for k in range(10)]
    info = here(tmp_path / "out", tasks)
    stored = np.stack([s.arrays["s2l1c_10"] for s in content(tasks).samples()])
    found = info.modalities["s2l1c_10"].statistics
    for band in range(4):
        values = stored[:, band][stored[:, band] != makers.NODATA] * 1e-4
        assert found["count"][band] == values.size
        # float64 sums in another order
        assert found["mean"][band] == pytest.approx(values.mean(), rel=1e-12)
        assert found["std"][band] == pytest.approx(values.std(), rel=1e-12)
        assert found["min"][band] == values.min()
        assert found["p2"][band] == pytest.approx(np.percentile(values, 2), rel=1e-12)
        assert sum(found["histogram"][band]) == values.size
    assert info.modalities["s2l1c_10"].nodata == (0, 0, 0, 0)


COPIES = [{"seed": k} for k in range(14)]
for at, origin in ((3, 1), (9, 1), (10, 5), (11, 11)):
    COPIES[at] = {"seed": at, "pixels": origin}


def test_copies_name_the_first_sample_with_their_pixels(tmp_path: Path) -> None:
    info = here(tmp_path / "out", COPIES)
    found = {row["key"]: row["duplicate_of"] for row in rows_of(tmp_path / "out")}
    named = {key: origin for key, origin in found.items() if origin is not None}
    assert named == {"k0003": "k0001", "k0009": "k0001", "k0010": "k0005"}
    assert info.provenance["quality"]["duplicates"] == 3
    assert info.count == 14


def test_copies_can_be_left_out(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    info = here(tmp_path / "out", COPIES, made, drop_duplicates=True)
    again = seeds(made)[14:]
    kept = [task for k, task in enumerate(COPIES) if k not in (3, 9, 10)]
    assert [row["key"] for row in rows_of(tmp_path / "out")] == [f"k{t['seed']:04d}" for t in kept]
    assert len(again) == 8, "only the two shards that hold copies are made again"
    report = info.provenance["quality"]
    assert (report["duplicates"], report["dropped_duplicates"]) == (3, 3)
    assert report["duplicates_with_other_labels"] == 3, "`size` is the seed"
    values = np.stack([s.arrays["s2l1c_10"] for s in content(kept).samples()])[:, 0] * 1e-4
    found = info.modalities["s2l1c_10"].statistics
    assert found["mean"][0] == pytest.approx(values.mean(), rel=1e-12), "copies do not count"
    assert shards.verify(tmp_path / "out").ok
    (made / "stop-9").touch()
    os.replace(tmp_path / "out", tmp_path / "want")
    with pytest.raises(KeyboardInterrupt):
        here(tmp_path / "out", COPIES, made, drop_duplicates=True)
    (made / "stop-9").unlink()
    here(tmp_path / "out", COPIES, made, drop_duplicates=True)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "want")


def test_near_copies_are_reported(tmp_path: Path) -> None:
    tasks = [{"seed": k} for k in range(12)]
    tasks[7] = {"seed": 7, "pixels": 2, "noise": 3}
    info = here(tmp_path / "out", tasks)
    report = info.provenance["quality"]
    assert report["near_duplicates"] == 2
    assert report["near_duplicate_pairs"] == [["k0002", "k0007"]]
    assert report["duplicates"] == 0


def test_keys_and_types_are_checked_across_shards(tmp_path: Path) -> None:
    tasks = [{"seed": k} for k in range(14)]
    for k, other in ((6, 1), (13, 1), (12, 2)):
        tasks[k] = {"seed": k, "key": f"k{other:04d}"}
    with pytest.raises(FMError, match="sample key 'k0001', 'k0002' comes twice"):
        here(tmp_path / "out", tasks)
    for first, text in (
        (12, r"uint16 in made-000000\.tar but int16 in made-000003\.tar"),
        (10, "10"),
    ):
        tasks = [{"seed": k, "dtype": "int16" if k >= first else "uint16"} for k in range(14)]
        with pytest.raises(FMError, match=text):
            here(tmp_path / f"out{first}", tasks)


def test_a_copy_that_is_left_out_may_have_a_key_that_was_taken(tmp_path: Path) -> None:
    tasks = [{"seed": k} for k in range(9)]
    tasks[7] = {"seed": 7, "key": "k0002", "pixels": 2}
    with pytest.raises(FMError, match="comes twice"):
        here(tmp_path / "out", tasks)
    assert here(tmp_path / "out2", tasks, drop_duplicates=True).count == 8


def test_row_groups_are_filled_across_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here(tmp_path / "one", 22)
    monkeypatch.setattr(index, "GROUP_ROWS", 6)
    here(tmp_path / "many", 22)
    found = pq.ParquetFile(tmp_path / "many" / "index.parquet").metadata
    sizes = [found.row_group(k).num_rows for k in range(found.num_row_groups)]
    assert sizes == [6, 6, 6, 4]
    assert rows_of(tmp_path / "many") == rows_of(tmp_path / "one")


def test_a_sensor_of_one_s_own_is_described_by_the_dataset(tmp_path: Path) -> None:
    table = tuple(Band(f"x{k}", 400.0 + k, 10.0, 5.0, "reflectance") for k in range(4))
    own = shards.Declared("my-camera", ("x0", "x1", "x2", "x3"), 1e-3, 0.0, table=table)
    info = here(tmp_path / "out", 3, changes={"modalities": {"s2l1c_10": own}})
    found = shards.open(tmp_path / "out").modalities["s2l1c_10"]
    assert found == info.modalities["s2l1c_10"]
    assert [band.wavelength_nm for band in found.table] == [400.0, 401.0, 402.0, 403.0]
    assert (found.sensor, found.gsd_m, found.scale, found.nodata) == ("my-camera", 5.0, 1e-3, None)


def test_each_dtype_gets_its_codec_and_losses_are_summed_over_shards(tmp_path: Path) -> None:
    info = here(tmp_path / "auto", 6)
    chosen = choose("auto", "uint16")
    assert info.modalities["s2l1c_10"].codec == chosen != "auto"
    assert info.modalities["s2l1c_10"].quality is None
    assert info.labels["truth"].codec == choose("auto", "uint8")
    pytest.importorskip("av")
    film = here(tmp_path / "film", 6, codec="video", video=Video(max_error=5))
    quality = film.modalities["s2l1c_10"].quality
    assert film.labels["truth"].codec == choose("auto", "uint8"), "labels are never lossy"
    assert sum(quality["coders"].values()) == 6
    want, back = (shards.open(tmp_path / name) for name in ("auto", "film"))
    pairs = [(want[k].arrays, back[k].arrays) for k in range(6)]
    errors = [
        np.abs(a["s2l1c_10"].astype(int) - b["s2l1c_10"].astype(int)).max(axis=(1, 2))
        for a, b in pairs
    ]
    assert np.max(errors, axis=0).tolist() == quality["max_error"]
    assert 0 < max(quality["max_error"]) <= 5
    assert all(np.array_equal(a["truth"], b["truth"]) for a, b in pairs)
    with pytest.raises(UsageError, match="ask for the codec 'video'"):
        here(tmp_path / "no", 6, video=Video(max_error=5))
