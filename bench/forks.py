"""Processes forked from one that has imported everything: they begin in a fraction of a second."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fm.errors import FMError
from pretrain.ranks.processes import prepare_environment, quiet_stderr

NEEDED = (
    "deepspeed.ops",
    "pretrain.trainer",
    "probes.judging.evaluation",
    "probes.judging.rehearsal",
    "shards.building.writer",
    "timm.models.vision_transformer",
    "torch.distributed.launcher.api",
)
"""What a run imports."""


ALLOCATOR = "jemalloc_bg_thd"
"""Thread of pyarrow's allocator, which sees to itself at a fork."""
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def preload() -> None:
    """Import all that a run needs, without starting a thread, which a fork would lose.

    Raises:
        FMError: something started one.
    """
    prepare_environment()
    with quiet_stderr():
        for name in NEEDED:
            import_module(name)
    tasks = Path("/proc/self/task").glob("*/comm")
    threads = [name for task in tasks if (name := task.read_text().strip()) != ALLOCATOR]
    if len(threads) > 1:
        raise FMError(f"bench: threads before a fork: {', '.join(threads)}; set OMP_NUM_THREADS=1")


def fork(work: Callable[[], int | None], log: Path) -> int:
    """Do something in a forked child whose output goes to a file; return the child's pid."""
    pid = os.fork()
    if pid:
        return pid
    status: Any = 1
    try:
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        sys.stdout, sys.stderr = (os.fdopen(fd, "w", 1, closefd=False) for fd in (1, 2))
        status = work()
    except SystemExit as stop:
        status = stop.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else int(status is not None))


def done(work: Callable[[], object], log: Path) -> None:
    """Do something in a forked child and wait for it.

    Raises:
        FMError: it failed.
    """

    def quietly() -> None:
        work()

    _, status = os.waitpid(fork(quietly, log), 0)
    if status:
        raise FMError(f"bench: a forked process failed; see {log}")


class Side:
    """A forked process that does a piece of work each time it is asked to.

    Args:
        work: called in the child with `ask`, which waits for the next request and takes the answer
            to the one before.
        log: file of its output.
    """

    def __init__(self, work: Callable[[Callable[[Any], Any]], object], log: Path) -> None:
        self._log = log
        self._pipe, theirs = multiprocessing.Pipe()

        def serve() -> None:
            self._pipe.close()
            work(lambda answer: _asked(theirs, answer))

        self._pid = fork(serve, log)
        theirs.close()
        self.settings = self._answer()

    def ask(self, request: Any = None) -> Any:
        """Ask for the next piece and return the answer.

        Raises:
            FMError: the process has ended.
        """
        self._pipe.send(request)
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)

    def _answer(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            raise FMError(f"bench: a forked process has ended; see {self._log}") from None


def _asked(pipe: Connection, answer: Any) -> Any:
    pipe.send(answer)
    return pipe.recv()
