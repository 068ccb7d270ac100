"""One checkpoint on its way: nothing is a checkpoint before all ranks wrote."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pretrain.runs.flight import Flight, begin
from pretrain.runs.folder import Position, RunFolder
from pretrain.runs.retention import name_of


def fly(
    folder: RunFolder, aside: Path, rank: int, write: Callable[[], None], step: int = 4
) -> Flight:
    position = Position(step, 8 * step, 2, 1)
    return Flight(folder, aside, position, write, rank=rank, keep=2, milestones=None)


def file_of(aside: Path, rank: int) -> Callable[[], None]:
    return lambda: (aside / f"state-{rank}.pt").write_bytes(b"x") and None


def test_latest_moves_when_all_ranks_wrote(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    aside = begin(folder, name_of(4))
    goes = threading.Event()

    def late() -> None:
        goes.wait(20)
        file_of(aside, 1)()

    first, second = fly(folder, aside, 0, file_of(aside, 0)), fly(folder, aside, 1, late)
    first.wait_written()
    time.sleep(0.2)
    assert folder.latest() is None
    assert not first.over
    goes.set()
    first.join(20)
    second.join(20)
    assert first.over
    assert second.over
    found = folder.latest()
    assert found is not None
    path, position = found
    assert position == Position(4, 32, 2, 1)
    assert sorted(p.name for p in path.iterdir()) == ["position.json", "state-0.pt", "state-1.pt"]
    assert [p.name for p in folder.checkpoints.iterdir()] == [name_of(4)]


def test_a_rank_that_cannot_write_leaves_the_one_before(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    aside = begin(folder, name_of(2))
    for flight in [fly(folder, aside, rank, file_of(aside, rank), step=2) for rank in (1, 0)]:
        flight.join(20)
    aside = begin(folder, name_of(4))

    def full() -> None:
        raise OSError(28, "No space left on device")

    first, second = fly(folder, aside, 0, file_of(aside, 0)), fly(folder, aside, 1, full)
    second.join(20)
    assert isinstance(second.error, OSError)
    assert not second.over  # `due` would take it for one that arrived
    first.wait_written()
    assert not first.over  # it waits for the other until it is told
    first.cancel()
    first.join(20)
    found = folder.latest()
    assert found is not None
    assert found[1].step == 2


def test_a_kill_while_an_old_one_is_removed_leaves_no_half_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    for step in (2, 4):
        aside = begin(folder, name_of(step))
        for rank in (1, 0):
            fly(folder, aside, rank, file_of(aside, rank), step=step).join(20)
    aside = begin(folder, name_of(6))
    seen: list[list[str]] = []

    def killed(path: Path) -> None:
        seen.append(sorted(p.name for p in folder.checkpoints.glob("step-*")))
        raise OSError("killed here")

    monkeypatch.setattr("pretrain.runs.flight.shutil.rmtree", killed)
    for rank in (1, 0):
        fly(folder, aside, rank, file_of(aside, rank), step=6).join(20)
    assert seen == [[name_of(4), name_of(6)]]
    monkeypatch.undo()
    begin(folder, name_of(8))
    assert sorted(p.name for p in folder.checkpoints.iterdir()) == [
        f".{name_of(8)}.partial",
        name_of(4),
        name_of(6),
    ]


def test_what_did_not_end_is_removed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    begin(folder, name_of(2))
    (folder.checkpoints / ".step-00000002-universal.partial").mkdir()
    begin(folder, name_of(4))
    assert [p.name for p in folder.checkpoints.iterdir()] == [f".{name_of(4)}.partial"]
