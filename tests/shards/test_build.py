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
import pytest

import shards
from fm.errors import FMError, UsageError
from shards.building.build import _digest, build, work_folder
from tests.shards import makers
from tests.shards.makers import bytes_of, content, here, seeds

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Return the folder where `makers.make` leaves its traces."""
    folder = tmp_path / "made"
    folder.mkdir()
    return folder


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
    # two shards before the last, so that a killer who has to wait for a core still comes in time
    moments = sorted(rng.uniform(0, last - 2) for _ in range(kills - 1))
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
