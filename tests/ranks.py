"""Ranks as processes of their own, started cheaply: forks of a server that has imported once.

Each is what it is under a launcher, a process with RANK, WORLD_SIZE and a gloo group that may be
killed. Only the launcher is missing, which costs imports of torch in each rank and in itself; what
depends on it is tested under one (`tests/pretrain/test_ending.py`).
"""

import contextlib
import itertools
import multiprocessing
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

PRELOADED = "tests.preloaded"
_NUMBERS = itertools.count(7919 * os.getpid())
LIMIT = 280.0
"""Seconds that ranks may take."""


@dataclass(frozen=True)
class Done:
    """How ranks ended.

    Attributes:
        statuses: of each rank; -9 after SIGKILL.
        stdout: of all ranks.
        stderr: of all ranks.
    """

    statuses: list[int]
    stdout: str
    stderr: str

    @property
    def returncode(self) -> int:
        """The first rank's status that is not 0."""
        return next((status for status in self.statuses if status), 0)


@dataclass(frozen=True)
class Ranks:
    """Ranks that are running.

    Attributes:
        processes: one a rank.
        folder: of their output.
    """

    processes: Sequence[BaseProcess]
    folder: Path

    def wait(self, limit: float = LIMIT) -> Done:
        """Wait for all; those that are there after `limit` seconds are killed."""
        until = time.monotonic() + limit
        for process in self.processes:
            process.join(timeout=max(until - time.monotonic(), 0.1))
        for process in self.processes:
            process.kill()
            process.join()
        out, err = ((self.folder / name).read_text() for name in ("stdout", "stderr"))
        return Done([process.exitcode or 0 for process in self.processes], out, err)


def start(folder: Path, target: Callable[..., Any], *given: Any, ranks: int = 1) -> Ranks:
    """Call a function in processes of their own.

    Args:
        folder: of what they print; made when it is missing.
        target: of a module; what it returns, if it is a number, is the exit status.
        given: to the function; picklable.
        ranks: processes; one alone is not told of ranks, as without a launcher.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("stdout", "stderr"):
        (folder / name).write_text("")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    port = _free_port() if ranks > 1 else 0
    made = [
        context.Process(target=_rank, args=(folder, rank, ranks, port, target, given))
        for rank in range(ranks)
    ]
    for process in made:
        process.start()
    return Ranks(made, folder)


def launch(folder: Path, target: Callable[..., Any], *given: Any, ranks: int = 1) -> Done:
    """Call a function in processes of their own, and wait for them; see `start`."""
    return start(folder, target, *given, ranks=ranks).wait()


def command(*words: str) -> int:
    """Run the command `fm`, as a rank does."""
    from fm.cli import main

    return main(list(words))


def _rank(
    folder: Path,
    rank: int,
    ranks: int,
    port: int,
    target: Callable[..., Any],
    given: tuple[Any, ...],
) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_APPEND), number)
    if ranks > 1:
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(ranks),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
        )
    from pretrain.ranks.processes import end_rank

    try:
        status = target(*given)
    except Exception:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(end_rank(status if isinstance(status, int) else 0))


def _free_port() -> int:
    """Return a port below those that the kernel hands out: nobody gets it before the ranks do."""
    for number in _NUMBERS:
        port = 10_000 + number % 20_000
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("numbers do not end")
