"""A full disk: seen before a checkpoint where it can be, told in one line where it is met."""

import errno
import json
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from fm.errors import FMError
from pretrain.engine.engine import Engine
from pretrain.loop import Moment, Watcher
from pretrain.runs import room
from pretrain.runs.folder import RunFolder
from pretrain.trainer import run
from tests.pretrain.test_checkpoints import Disk, at, make
from tests.pretrain.test_trainer import config_file, losses

Usage = namedtuple("Usage", "total used free")


def test_a_checkpoint_that_would_not_fit_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    disk.goes.set()
    kept, folder = make(tmp_path, disk, asynchronous=False)
    kept.save(at(4))
    latest = folder.latest()
    assert latest is not None
    (latest[0] / "weights").write_bytes(b"x" * 3000)
    needed = room.checkpoint_bytes(folder)
    assert needed is not None
    assert needed >= 3000
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, needed - 1024))
    with pytest.raises(FMError, match=r"1\.0 KiB there") as caught:
        kept.save(at(8))
    text = str(caught.value)
    assert str(folder.checkpoints) in text
    assert f"a checkpoint takes {room.words(needed)}" in text
    assert "step-00000004 stays valid" in text
    assert "\n" not in text
    assert folder.latest() == latest
    assert [path.name for path in folder.checkpoints.iterdir()] == ["step-00000004"]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, needed))
    kept.save(at(8))
    assert folder.latest() != latest


def test_a_checkpoint_on_a_full_disk_leaves_the_one_before(
    tmp_path: Path, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, calls = Engine.record, []

    def short_of_room(
        self: Engine, folder: str, tag: str, *rest: bool, **named: bool
    ) -> Callable[[], None]:
        write = record(self, folder, tag, *rest, **named)
        calls.append(folder)

        def half() -> None:
            write()
            if len(calls) == 2:
                os.truncate(next(Path(folder, tag).iterdir()), 100)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)

        return half

    monkeypatch.setattr(Engine, "record", short_of_room)
    path, words = str(config_file(tmp_path, tiny_dataset)), ["schedule.steps=10"]
    with pytest.raises(FMError) as caught:
        run(path, words)
    text = str(caught.value)
    assert "step 8 could not be written (No space left on device" in text
    assert "a checkpoint takes" in text
    assert "\n" not in text
    folder = RunFolder(tmp_path / "run")
    assert [one.name for one in folder.checkpoints.iterdir()] == ["step-00000004"]
    assert (folder.state() or {})["status"] == "failed"
    assert run(path, words).steps == 10
    assert len(losses(tmp_path / "run")) == 10


class Full(Watcher):
    """Writes a figure of each step, until the disk is full."""

    def after_step(self, moment: Moment) -> None:
        if moment.step == 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "figures.jsonl")


def test_a_disk_that_is_full_for_metrics_leaves_a_run_that_goes_on(
    tmp_path: Path, tiny_dataset: Path
) -> None:
    path = str(config_file(tmp_path, tiny_dataset))
    words = ["schedule.steps=8"]
    with pytest.raises(FMError) as caught:
        run(path, words, watchers=[Full()])
    text = str(caught.value)
    assert text.startswith("figures.jsonl: no space left on device: ")
    assert "a checkpoint takes" in text
    assert "step-00000004 stays valid" in text
    assert "\n" not in text
    state = json.loads((tmp_path / "run" / "state.json").read_text())
    assert (state["status"], state["reason"]) == ("failed", text)
    assert run(path, words).steps == 8


def test_other_errors_of_files_are_left_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), room.told(RunFolder(tmp_path)):
        raise PermissionError(errno.EACCES, "denied", "x")


def test_bytes_in_words() -> None:
    told = [room.words(n) for n in (1023, 1024, 3 * 2**30 + 2**29, 2**60)]
    assert told == ["1023 B", "1.0 KiB", "3.5 GiB", "1048576.0 TiB"]
