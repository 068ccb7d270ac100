"""One life of the run that `bench kills` kills: it starts, goes on, writes down what it saw.

A life is forked from a process that has imported everything, so that it begins in a fraction of a
second; two ranks are forked by torchrun's own agent. Some lives start cold instead, in a new
interpreter: `python -m bench.kills_life CONFIG LOG LIFE [key=value ...]`, or the same under
torchrun. Either way the process that trains is the one that is killed.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from bench.forks import fork
from fm.console import note
from fm.errors import FMError
from pretrain.loop import Loop, Moment, Watcher
from pretrain.ranks import collective
from pretrain.ranks.processes import end_rank

STARTED = "started"
"""What a life notes when its first step is about to come."""


class Diary(Watcher):
    """Writes down every step: its loss, and the samples this rank saw.

    Each line is one write to a file that is only appended to, so a line is there as soon as the
    step was taken, whatever happens to the process; and before a checkpoint holds the step.

    Args:
        folder: of the diaries, `RANK.jsonl`.
        life: number of this life.
    """

    def __init__(self, folder: Path, life: int) -> None:
        self._folder, self._life = folder, life

    def begin(self, loop: Loop) -> None:
        """Note that the engine stands."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._file = os.open(self._folder / f"{collective.rank()}.jsonl", flags, 0o644)
        self._write({"life": self._life, STARTED: loop.step})

    def after_step(self, moment: Moment) -> None:
        """Note a step."""
        self._write(
            {
                "life": self._life,
                "step": moment.step,
                "loss": moment.result.loss,
                "positions": moment.batch.positions.tolist(),
                "keys": moment.batch.keys,
            }
        )

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _write(self, row: dict) -> None:
        os.write(self._file, (json.dumps(row) + "\n").encode())


def live(config: str, log: str, life: int, overrides: Sequence[str] = ()) -> int:
    """Start the run or go on with it; return the exit status of `fm pretrain`."""
    from pretrain.trainer import STOPPED_STATUS, run

    torch.set_num_threads(1)
    folder = Path(log)
    (folder / f"pid-{os.environ.get('RANK', '0')}").write_text(str(os.getpid()))
    try:
        result = run(config, overrides, watchers=[Diary(folder, life)])
    except FMError as error:
        note(str(error))
        return error.exit_status
    return 0 if result.export else STOPPED_STATUS


def _rank(config: str, log: str, life: int, overrides: Sequence[str]) -> None:
    """Be a rank that torchrun's agent forked; the agent waits for what it returns."""
    status = live(config, log, life, overrides)
    dist.destroy_process_group()
    if status:
        sys.exit(status)


def _agent(config: str, log: str, life: int, overrides: Sequence[str], ranks: int) -> int:
    """Be torchrun: the same agent, with workers that are forked instead of executed."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=f"life-{life}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.05,
        start_method="fork",
    )
    try:
        elastic_launch(settings, _rank)(config, log, life, overrides)
    except ChildFailedError:
        return 1
    return 0


@dataclass(frozen=True)
class Run:
    """What is run again and again.

    Attributes:
        config: file.
        folder: the run's.
        diaries: folder of what the lives write down.
        ranks: processes that train.
        overrides: `key=value` words.
    """

    config: Path
    folder: Path
    diaries: Path
    ranks: int = 1
    overrides: tuple[str, ...] = ()

    def arguments(self, life: int) -> list[str]:
        """Return the words of a cold life."""
        return [str(self.config), str(self.diaries), str(life), *self.overrides]


class Life:
    """A life that goes on: its first process, which under two ranks is the agent.

    Args:
        run: what to live.
        number: of the life.
        cold: in a new interpreter.
    """

    def __init__(self, run: Run, number: int, *, cold: bool = False) -> None:
        self.run, self.number, self._status = run, number, None
        for old in run.diaries.glob("pid-*"):
            old.unlink()
        self.log = run.diaries / f"life-{number:03d}.log"
        words = (str(run.config), str(run.diaries), number, run.overrides)
        if cold:
            launcher = ["-m", "torch.distributed.run", "--standalone"]
            launcher += [f"--nproc-per-node={run.ranks}"]
            command = [sys.executable, *(launcher if run.ranks > 1 else [])]
            command += ["-m", "bench.kills_life", *run.arguments(number)]
            with open(self.log, "wb") as sink:
                self._child = subprocess.Popen(command, stdout=sink, stderr=sink)
            self.pid = self._child.pid
        elif run.ranks == 1:
            self.pid = fork(lambda: live(*words), self.log)
        else:
            self.pid = fork(lambda: _agent(*words, run.ranks), self.log)

    def alive(self) -> bool:
        """Say whether the first process lives; collects its status when it does not."""
        if self._status is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = self.pid, 0
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status is None

    @property
    def status(self) -> int | None:
        """Exit status of the first process, minus the signal if one ended it; None while alive."""
        self.alive()
        return self._status

    def pids(self) -> dict[str, int]:
        """Return the processes by name: the ranks that have begun, and the agent of several."""
        found = {}
        for path in self.run.diaries.glob("pid-*"):
            text = path.read_text()
            if text:
                found[f"rank {path.name.removeprefix('pid-')}"] = int(text)
        if self.run.ranks > 1:
            found["agent"] = self.pid
        return found or {"rank 0": self.pid}

    def send(self, number: int, names: Sequence[str]) -> None:
        """Send a signal to some of the processes."""
        for name, pid in self.pids().items():
            if name in names:
                _kill(pid, number)

    def gone(self) -> bool:
        """Say whether every process has ended."""
        return not self.alive() and not any(_lives(pid) for pid in self.pids().values())

    def end(self) -> None:
        """Kill whatever is left."""
        for pid in {*self.pids().values(), self.pid}:
            _kill(pid, signal.SIGKILL)


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _lives(pid: int) -> bool:
    """Say whether a process runs; one that has ended and waits to be collected does not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


if __name__ == "__main__":
    sys.exit(end_rank(live(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])))
