"""When checkpoints are written, and that training goes on meanwhile."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fm.errors import FMError
from pretrain.runs import checkpoints
from pretrain.runs.checkpoints import Checkpoints
from pretrain.runs.folder import Position, RunFolder
from pretrain.settings.checkpoint import CheckpointConfig


class Disk:
    """Writes when it is let."""

    def __init__(self) -> None:
        self.goes = threading.Event()
        self.error: Exception | None = None

    def record(self, folder: str, tag: str, aside: bool) -> Callable[[], None]:
        Path(folder, tag).mkdir()

        def write() -> None:
            assert self.goes.wait(20)
            if self.error is not None:
                raise self.error
            Path(folder, tag, "state").write_text("x")

        return write


def make(tmp_path: Path, disk: Disk, **settings: object) -> tuple[Checkpoints, RunFolder]:
    folder = RunFolder(tmp_path / "run")
    config = CheckpointConfig.model_validate({"every": 4, **settings})
    return Checkpoints(folder, config, torch.device("cpu"), disk.record), folder


def at(step: int) -> Position:
    return Position(step, 8 * step, 1, 0)


def test_steps_go_on_while_it_is_written(tmp_path: Path) -> None:
    disk, told = Disk(), []
    kept, folder = make(tmp_path, disk)
    kept.save(at(4), lambda: told.append(4))
    assert not kept.due(5)
    assert not kept.due(6)
    assert folder.latest() is None
    assert told == []
    disk.goes.set()
    kept.wait()
    assert told == [4]
    assert folder.latest() == (folder.checkpoints / "step-00000004", at(4))


def test_the_next_one_waits_for_it(tmp_path: Path) -> None:
    disk, told = Disk(), []
    kept, folder = make(tmp_path, disk, keep=1)
    kept.save(at(4), lambda: told.append(4))
    threading.Timer(0.2, disk.goes.set).start()
    kept.save(at(8), lambda: told.append(8))
    assert told == [4]
    kept.wait()
    assert told == [4, 8]
    assert [p.name for p in folder.checkpoints.iterdir()] == ["step-00000008"]


def test_without_a_thread_it_is_there_at_once(tmp_path: Path) -> None:
    disk, told = Disk(), []
    disk.goes.set()
    kept, folder = make(tmp_path, disk, asynchronous=False)
    kept.save(at(4), lambda: told.append(4))
    assert folder.latest() is not None
    assert told == [4]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), r"No space left on device; .*B are free"),
        (RuntimeError("enforce fail at 603\nand where"), r"enforce fail at 603; .*B are free"),
    ],
)
def test_an_error_is_told_at_the_next_step(tmp_path: Path, error: Exception, words: str) -> None:
    disk = Disk()
    disk.goes.set()
    kept, folder = make(tmp_path, disk)
    kept.save(at(4))
    kept.wait()
    disk.error = error
    kept.save(at(8))
    flight = kept._flight
    assert flight is not None
    flight.join(20)
    with pytest.raises(FMError, match=words) as caught:
        kept.due(9)
    assert "\n" not in str(caught.value)
    assert "step-00000004 stays valid" in str(caught.value)
    # its room is free, and nothing is left of it
    assert [p.name for p in folder.checkpoints.iterdir()] == ["step-00000004"]
    kept.wait()


def test_an_error_of_the_run_waits_for_it(tmp_path: Path) -> None:
    disk = Disk()
    kept, folder = make(tmp_path, disk)
    kept.save(at(4))
    threading.Timer(0.2, disk.goes.set).start()
    kept.close()
    assert folder.latest() is not None


def test_when_one_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, _ = make(tmp_path, Disk(), milestones=6)
    assert [step for step in range(1, 13) if kept.due(step)] == [4, 6, 8, 12]
    now = [100.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    disk = Disk()
    disk.goes.set()
    kept, _ = make(tmp_path, disk, every=1000, every_minutes=2)
    assert not kept.due(1)
    now[0] += 119
    assert not kept.due(2)
    now[0] += 1
    assert kept.due(3)
    kept.save(at(3))
    assert not kept.due(4)


def test_milestones_stay(tmp_path: Path) -> None:
    disk = Disk()
    disk.goes.set()
    kept, folder = make(tmp_path, disk, keep=1, milestones=8)
    for step in (4, 8, 12, 16, 20):
        kept.save(at(step))
    kept.wait()
    names = sorted(p.name for p in folder.checkpoints.iterdir())
    assert names == ["step-00000008", "step-00000016", "step-00000020"]
