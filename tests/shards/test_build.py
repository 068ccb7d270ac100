"""Builds: the same bytes from any executor and after any kill; skips, copies and errors."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import shards
from fm.errors import FMError, UsageError
from fm.sensors import Band
from shards.building.build import _digest, build, work_folder
from shards.codecs.codec import choose
from shards.codecs.video import Video
from shards.index import parquet as index
from tests.shards import makers
from tests.shards.makers import content

ROOT = Path(__file__).resolve().parents[2]


def here(out: Path, tasks: Any, folder: Path | None = None, **options: Any) -> shards.DatasetInfo:
    """Build in this process, four samples a shard."""
    changes = options.pop("changes", {})
    settings = {"samples_per_shard": 4, "workers": 0} | options
    return build(out, content(tasks, folder, **changes), **settings)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "index.parquet").to_pylist()


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Return the folder where `makers.make` leaves its traces."""
    folder = tmp_path / "made"
    folder.mkdir()
    return folder


def seeds(folder: Path) -> list[int]:
    """Return the seeds of the samples that were made, and forget them."""
    found = []
    for path in folder.glob("*-*-*"):
        found.append(int(path.name.split("-")[1]))
        path.unlink()
    return sorted(found)


def test_a_pool_dask_and_one_process_write_the_same_bytes(tmp_path: Path, made: Path) -> None:
    here(tmp_path / "here", 22)
    written = content(22)
    shards.write_dataset(
        tmp_path / "streamed",
        written.samples(),
        name=written.name,
        modalities=written.modalities,
        labels=written.labels,
        provenance=written.provenance,
        licence=written.licence,
        samples_per_shard=4,
    )
    build(tmp_path / "pool", content(22, made), samples_per_shard=4, workers=2)
    workers = {path.name.split("-")[0] for path in made.iterdir()}
    assert os.getpid() not in map(int, workers)
    assert seeds(made) == list(range(22))
    build(tmp_path / "dask", content(22), samples_per_shard=4, workers=2, dask="local")
    want = bytes_of(tmp_path / "here")
    assert len(want) == 6 + 3
    for name in ("streamed", "pool", "dask"):
        assert bytes_of(tmp_path / name) == want, name
    assert shards.verify(tmp_path / "pool").ok
    names = {"here", "streamed", "pool", "dask", "made"}
    assert {path.name for path in tmp_path.iterdir()} == names, "work folders are gone"


def finish_after_kills(tmp_path: Path, kills: int, seed: int) -> None:
    """Kill a build's whole process group at random moments, let it finish, compare."""
    count, rng = 60, random.Random(seed)
    here(tmp_path / "want", count)
    out, done = tmp_path / "out", 0
    words = [sys.executable, "-m", "tests.shards.makers", str(out), str(count), "0.02"]
    parts = work_folder(out) / "parts"
    last = count // 4
    moments = sorted(rng.uniform(0, last) for _ in range(kills - 1))
    # from before the first shard is there to after the last, when the index is being written
    for moment in [*moments, last + rng.uniform(0, 0.9)]:
        process = subprocess.Popen(words, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE)
        while process.poll() is None and len(list(parts.glob("*.json"))) < int(moment):
            time.sleep(0.005)
        time.sleep((moment % 1) * 0.1)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        _, error = process.communicate(timeout=30)
        assert process.returncode in (-signal.SIGKILL, 0), error.decode()
        done += process.returncode != 0
        if out.exists() and not work_folder(out).exists():
            break
    assert done >= kills - 1, "a build may end while its killer sleeps, but not before the last"
    if not out.exists() or work_folder(out).exists():
        subprocess.run(words, cwd=ROOT, check=True, timeout=60, capture_output=True)
    assert bytes_of(out) == bytes_of(tmp_path / "want")
    assert not work_folder(out).exists()


def test_a_build_that_was_killed_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    finish_after_kills(tmp_path, kills=3, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
def test_a_build_killed_ten_times_writes_the_same_bytes(tmp_path: Path, seed: int) -> None:
    finish_after_kills(tmp_path, kills=10, seed=seed)


def stopped(tmp_path: Path, made: Path, bad: int, **options: Any) -> Path:
    """Leave a build that failed at one sample; return its work folder."""
    (made / f"bad-{bad}").touch()
    with pytest.raises(FMError, match=f"scene {bad} is unreadable"):
        here(tmp_path / "out", 16, made, **options)
    (made / f"bad-{bad}").unlink()
    assert not (tmp_path / "out").exists()
    seeds(made)
    return work_folder(tmp_path / "out")


def test_only_what_is_missing_or_damaged_is_made_again(tmp_path: Path, made: Path) -> None:
    work = stopped(tmp_path, made, bad=9)
    tar = work / "dataset" / "made-000001.tar"
    data = bytearray(tar.read_bytes())
    data[700] ^= 1
    tar.write_bytes(data)
    (work / "parts" / "leftover.partial").touch()
    here(tmp_path / "out", 16, made)
    assert seeds(made) == [4, 5, 6, 7, 8, 9, 10, 11], "the flipped shard and the one that failed"
    here(tmp_path / "want", 16)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "want")
    assert not work.exists()


def test_shards_whose_files_have_changed_are_made_again(tmp_path: Path, made: Path) -> None:
    for seed in range(16):
        (tmp_path / f"scene-{seed}").write_text("old")
    changes = {"files": partial(makers.files, tmp_path)}
    stopped(tmp_path, made, bad=9, changes=changes)
    (tmp_path / "scene-2").write_text("newer")
    os.utime(tmp_path / "scene-13", (1, 1))
    here(tmp_path / "out", 16, made, changes=changes)
    assert seeds(made) == [*range(4), *range(8, 16)], "the second shard alone is as it was"
    here(tmp_path / "want", 16)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "want")


@pytest.mark.parametrize("ending", ["arrow", "npz", "json"])
def test_a_part_with_a_damaged_state_is_made_again(tmp_path: Path, made: Path, ending: str) -> None:
    work = stopped(tmp_path, made, bad=13)
    path = work / "parts" / f"000002.{ending}"
    path.write_bytes(path.read_bytes()[:-3])
    here(tmp_path / "out", 16, made)
    assert seeds(made) == [8, 9, 10, 11, 12, 13, 14, 15]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"samples_per_shard": 5}, "options"),
        ({"min_valid": 0.5}, "options"),
        ({"codec": "npy"}, "options"),
        ({"drop_duplicates": True}, "options"),
        ({"changes": {"pause": 0.001}}, "source"),
        ({"changes": {"name": "other"}}, "source and options"),
        ({"changes": {"tasks": [{"seed": k + 1} for k in range(16)]}}, "list of samples"),
        ({"changes": {"licence": "mine"}}, "provenance or licence"),
    ],
)
def test_another_build_does_not_go_on_from_this_one(
    tmp_path: Path, made: Path, options: dict[str, Any], what: str
) -> None:
    work = stopped(tmp_path, made, bad=9)
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*.tar")}
    changes = dict(options.get("changes", {}))
    again = options | {"changes": changes}
    tasks = changes.pop("tasks", 16)
    with pytest.raises(FMError, match=f"unfinished build with another {what}; run") as error:
        here(tmp_path / "out", tasks, made, **again)
    assert "\n" not in str(error.value)
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*.tar")} == before
    assert seeds(made) == []


def test_what_fails_is_listed_and_what_is_whole_is_kept(tmp_path: Path, made: Path) -> None:
    for seed in (1, 6, 7):
        (made / f"bad-{seed}").touch()
    with pytest.raises(FMError) as error:
        here(tmp_path / "out", 16, made)
    text = str(error.value)
    assert text.startswith("3 samples could not be made: task 1: ValueError: scene 1 is unreadable")
    assert "scene 6" in text
    assert "scene 7 is unreadable (makers.py:" in text
    assert f"2 of 4 shards are kept in {work_folder(tmp_path / 'out')}" in text
    assert "\n" not in text
    for seed in range(16, 60):
        (made / f"bad-{seed}").touch()
    with pytest.raises(FMError, match=r"^20 or more samples could not") as error:
        here(tmp_path / "out2", 200, made)
    assert str(error.value).count("unreadable") == 20
    assert max(seeds(made)) < 40, "it stops"


def test_ctrl_c_leaves_what_is_made_and_says_how_to_go_on(
    tmp_path: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (made / "stop-10").touch()
    with pytest.raises(KeyboardInterrupt):
        here(tmp_path / "out", 16, made)
    (made / "stop-10").unlink()
    said = capsys.readouterr().err
    assert f"stopped; the same command goes on from {work_folder(tmp_path / 'out')}" in said
    assert not list(work_folder(tmp_path / "out").rglob("*.partial"))
    seeds(made)
    here(tmp_path / "out", 16, made)
    assert min(seeds(made)) == 8


def test_a_worker_that_dies_is_one_line(tmp_path: Path, made: Path) -> None:
    (made / "die-9").touch()
    with pytest.raises(FMError, match=r"ended without a word.*goes on from") as error:
        build(tmp_path / "out", content(16, made), samples_per_shard=4, workers=1)
    assert "\n" not in str(error.value)


def test_two_builds_do_not_share_a_folder(tmp_path: Path, made: Path) -> None:
    work = stopped(tmp_path, made, bad=9)
    import fcntl

    with open(work / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(FMError, match="another process is building here"):
            here(tmp_path / "out", 16, made)


def test_a_build_killed_while_it_tidied_up_is_finished(tmp_path: Path, made: Path) -> None:
    work = stopped(tmp_path, made, bad=9)
    state = (work / "build.json").read_text()
    info = here(tmp_path / "out", 16, made)
    (work / "parts").mkdir(parents=True)
    (work / "build.json").write_text(state)
    seeds(made)
    assert here(tmp_path / "out", 16, made) == info
    assert seeds(made) == []
    assert not work.exists()
    with pytest.raises(FMError, match="exists already"):
        here(tmp_path / "out", 16, made)


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


def test_copies_can_be_left_out(tmp_path: Path, made: Path) -> None:
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


@dataclass(frozen=True)
class Scene:
    """A task as a source may have it."""

    path: Path
    rows: tuple[int, ...]


def test_the_digest_of_tasks_is_their_content() -> None:
    one = [Scene(Path("a/b"), (1, 2)), {"x": 1, "y": {3, 1, 2}}, np.arange(3), {(1, 2): "pair"}]
    same = [Scene(Path("a/b"), (1, 2)), {"y": {2, 3, 1}, "x": 1}, np.arange(3), {(1, 2): "pair"}]
    assert _digest(one) == _digest(same)
    for other in (
        [Scene(Path("a/c"), (1, 2)), *one[1:]],
        [Scene(Path("a/b"), (1, 3)), *one[1:]],
        [*one[:2], np.arange(3).astype(np.int32), one[3]],
        [*one[:3], {(1, 2): "other"}],
        one[:3],
        [one],
    ):
        assert _digest(other) != _digest(one)
    script = (
        "from shards.building.build import _digest;"
        "print(_digest([{'a', 'b', 'c', 'd'}, {'x': frozenset('hijk')}]))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": number},
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
        for number in ("1", "2")
    }
    assert len(found) == 1, "whatever the order of a process's sets"


def test_a_sensor_of_one_s_own_is_described_by_the_dataset(tmp_path: Path) -> None:
    table = tuple(Band(f"x{k}", 400.0 + k, 10.0, 5.0, "reflectance") for k in range(4))
    own = shards.Declared("my-camera", ("x0", "x1", "x2", "x3"), 1e-3, 0.0, table=table)
    info = here(tmp_path / "out", 3, changes={"modalities": {"s2l1c_10": own}})
    found = shards.open(tmp_path / "out").modalities["s2l1c_10"]
    assert found == info.modalities["s2l1c_10"]
    assert [band.wavelength_nm for band in found.table] == [400.0, 401.0, 402.0, 403.0]
    assert (found.sensor, found.gsd_m, found.scale, found.nodata) == ("my-camera", 5.0, 1e-3, None)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"samples_per_shard": 0}, "at least 1"),
        ({"min_valid": 1.5}, "fraction from 0 to 1"),
        ({"workers": -1}, "number of processes"),
        ({"codec": "zip"}, "unknown codec"),
        ({"changes": {"provenance": {"quality": 1}}}, "writer's own"),
        ({"changes": {"provenance": {"when": {1, 2}}}}, "no JSON"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_made(
    tmp_path: Path, made: Path, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        here(tmp_path / "out", 4, made, **options)
    assert seeds(made) == []
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_the_state_of_a_build_is_readable(tmp_path: Path, made: Path) -> None:
    work = stopped(tmp_path, made, bad=9)
    assert set(json.loads((work / "build.json").read_text())) == {
        *("source", "options", "list of samples", "provenance or licence", "version of eofm"),
    }


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
