"""Signals that ask a run to keep a checkpoint and end, and the launcher's death as one of them."""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGUSR1)
"""What job managers send before they end a job (Slurm: `--signal=USR1@600`)."""

_PR_SET_PDEATHSIG = 1
"""From `linux/prctl.h`."""


@contextlib.contextmanager
def stop_signals() -> Iterator[list[str]]:
    """Collect the names of stopping signals while the block runs (main thread only).

    Nothing else is done on them, so that a second one while the run stops changes nothing.

    Yields:
        the names, in the order in which they came.
    """
    came: list[str] = []

    def collect(number: int, frame: FrameType | None) -> None:
        del frame
        came.append(signal.Signals(number).name)

    before = {}
    try:
        for number in STOPPING:
            before[number] = signal.signal(number, collect)
    except ValueError:  # not the main thread: the caller owns the signals
        yield came
        return
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_launcher() -> None:
    """Have the kernel send SIGTERM to this rank when its launcher dies (Linux).

    So an orphan keeps a checkpoint and ends instead of holding its device. Without a launcher
    nothing is done: a run may outlive the shell that started it.
    """
    if "RANK" not in os.environ or sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died in between: no signal will come
        os.kill(os.getpid(), signal.SIGTERM)
