"""How ranks end: signals, faults of one of them, dead launchers; in real processes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pretrain.loop import Moment, Watcher
from pretrain.runs.folder import read_lines
from pretrain.trainer import run
from tests import ranks as forked
from tests.pretrain import faulty
from tests.pretrain.test_trainer import config_file, losses
from tests.pretrain.test_trainer import wait_for_steps as steps_logged

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
LAUNCHER = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
ENDLESS = ("schedule.steps=100000", "checkpoint.every=1000")


def start(fault: str, rank: int, step: int, config: Path, *words: str) -> subprocess.Popen[str]:
    """Start two ranks under torchrun."""
    module = ["-m", "tests.pretrain.faulty", fault, str(rank), str(step), str(config), *words]
    return subprocess.Popen(
        [sys.executable, *LAUNCHER, *module],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def own_lines(stderr: str) -> list[str]:
    """Return the lines that are ours; the launcher prints a summary of its own."""
    return [line for line in stderr.splitlines() if line.startswith("fm pretrain: ")]


def state(folder: Path) -> dict[str, object]:
    return json.loads((folder / "state.json").read_text())


def wait_for_steps(folder: Path, count: int, child: subprocess.Popen[str]) -> None:
    metrics, end = folder / "metrics.jsonl", time.monotonic() + 120
    while not metrics.exists() or len(metrics.read_bytes().splitlines()) < count:
        assert child.poll() is None, child.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)


def rank_processes(parent: int) -> list[int]:
    text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(word) for word in text.split()]


def test_a_signal_to_one_rank_stops_all_with_a_checkpoint(
    tmp_path: Path, tiny_dataset: Path
) -> None:
    words = [str(config_file(tmp_path, tiny_dataset)), *ENDLESS]
    child = forked.start(tmp_path / "told", forked.command, "pretrain", *words, ranks=2)
    steps_logged(tmp_path / "run", 3)
    worker = child.processes[1].pid
    os.kill(worker, signal.SIGUSR1)
    os.kill(worker, signal.SIGTERM)  # while it stops
    done = child.wait(60)
    assert done.statuses == [75, 75]
    assert "stopped; run again to go on" in done.stdout
    now = state(tmp_path / "run")
    assert now["status"] == "requeue"
    assert "SIGUSR1" in str(now["reason"])
    assert now["step"] == len(losses(tmp_path / "run"))
    latest = (tmp_path / "run" / "latest").read_text().strip()
    assert latest == f"step-{now['step']:08d}"


@pytest.mark.slow
def test_the_error_of_one_rank_is_one_line(tmp_path: Path, tiny_dataset: Path) -> None:
    child = start("refuse", 1, 3, config_file(tmp_path, tiny_dataset), *ENDLESS)
    _, error = child.communicate(timeout=100)
    assert child.returncode == 1
    assert own_lines(error) == ["fm pretrain: the sample has horns; shear it"]
    before_summary = error.partition("E1")[0]
    assert "Traceback" not in before_summary
    assert state(tmp_path / "run")["status"] == "failed"
    assert state(tmp_path / "run")["reason"] == "the sample has horns; shear it"


@pytest.mark.slow
def test_an_error_that_all_ranks_have_is_one_line(tmp_path: Path, tiny_dataset: Path) -> None:
    child = start("nan", 1, 2, config_file(tmp_path, tiny_dataset), *ENDLESS)
    _, error = child.communicate(timeout=200)
    assert child.returncode == 1
    (line,) = own_lines(error)
    assert line.startswith("fm pretrain: step 2: loss is nan")


@pytest.mark.slow
def test_a_bug_on_one_rank_is_one_traceback(tmp_path: Path, tiny_dataset: Path) -> None:
    child = start("crash", 1, 3, config_file(tmp_path, tiny_dataset), *ENDLESS)
    _, error = child.communicate(timeout=100)
    assert child.returncode == 1
    assert len(re.findall(r"^ZeroDivisionError: a bug of ours$", error, re.MULTILINE)) == 1
    assert "gloo" not in error
    assert state(tmp_path / "run")["reason"] == "ZeroDivisionError: a bug of ours"


def test_a_killed_rank_ends_the_other_soon_and_is_named(tmp_path: Path, tiny_dataset: Path) -> None:
    words = [str(config_file(tmp_path, tiny_dataset)), *ENDLESS]
    child = forked.start(tmp_path / "told", forked.command, "pretrain", *words, ranks=2)
    steps_logged(tmp_path / "run", 3)
    worker = child.processes[1].pid
    os.kill(worker, signal.SIGKILL)
    killed = time.monotonic()
    done = child.wait(60)
    assert time.monotonic() - killed < 20
    assert done.statuses == [1, -signal.SIGKILL]
    assert own_lines(done.stderr) == [
        f"fm pretrain: rank 1 (process {worker}) died: killed, or out of memory"
    ]
    assert state(tmp_path / "run")["status"] == "failed"


@pytest.mark.slow
def test_a_killed_rank_ends_all_under_a_launcher(tmp_path: Path, tiny_dataset: Path) -> None:
    child = start("nan", 9, 1, config_file(tmp_path, tiny_dataset), *ENDLESS)
    wait_for_steps(tmp_path / "run", 3, child)
    worker = rank_processes(child.pid)[1]
    os.kill(worker, signal.SIGKILL)
    killed = time.monotonic()
    _, error = child.communicate(timeout=60)
    assert time.monotonic() - killed < 20
    assert own_lines(error) == [
        f"fm pretrain: rank 1 (process {worker}) died: killed, or out of memory"
    ]
    assert state(tmp_path / "run")["status"] == "failed"


@pytest.mark.slow
def test_ranks_do_not_outlive_their_launcher(tmp_path: Path, tiny_dataset: Path) -> None:
    child = start("nan", 9, 1, config_file(tmp_path, tiny_dataset), *ENDLESS)
    wait_for_steps(tmp_path / "run", 3, child)
    ranks = rank_processes(child.pid)
    assert len(ranks) == 2
    child.kill()
    child.wait()
    end = time.monotonic() + 40
    while any(Path(f"/proc/{pid}/stat").exists() for pid in ranks) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}/stat").exists() for pid in ranks)
    assert state(tmp_path / "run")["status"] == "requeue"  # the kernel's SIGTERM


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_rank_that_stands_still_is_told_with_its_stacks(
    ranks: int, tmp_path: Path, tiny_dataset: Path
) -> None:
    words = (*ENDLESS, "watchdog.step=2")
    given = ("stuck", ranks - 1, 4, [str(config_file(tmp_path, tiny_dataset)), *words])
    done = forked.launch(tmp_path / "told", faulty.run, *given, ranks=ranks)
    assert set(done.statuses) == {1}
    (line,) = own_lines(done.stderr)
    who = "rank 0" if ranks == 1 else "2 ranks"
    assert line.startswith(f"fm pretrain: {who} made no progress in step for ")
    assert state(tmp_path / "run")["status"] == "stalled"
    stacks = (tmp_path / "run" / f"stalled-{ranks - 1}.txt").read_text()
    assert "in _stuck" in stacks
    assert len(read_lines(tmp_path / "run" / "metrics.jsonl")) == 3


class Signals(Watcher):
    """Sends this process a signal after its second step."""

    def after_step(self, moment: Moment) -> None:
        if moment.step == 2:
            os.kill(os.getpid(), signal.SIGUSR1)


def test_a_run_that_is_stopped_before_a_line_was_logged(tmp_path: Path, tiny_dataset: Path) -> None:
    path = config_file(tmp_path, tiny_dataset)
    result = run(str(path), ["monitor.every=20"], watchers=[Signals()])
    assert result.steps == 3
    assert result.export is None
    assert result.loss_start is None
    now = state(tmp_path / "run")
    assert (now["status"], now["reason"], now["step"]) == ("requeue", "SIGUSR1", 3)
    assert run(str(path), ["schedule.steps=4"], force=True).steps == 4
