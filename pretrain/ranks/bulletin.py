"""What ranks tell each other outside of collectives: signs of life, and the first failure."""

import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from pretrain.ranks import collective

PATIENCE_TOLD = 5.0
"""Seconds that others give the rank that says what went wrong."""


@dataclass(frozen=True)
class Failure:
    """Why the ranks end.

    Attributes:
        rank: that failed.
        status: of the run, `failed` or `stalled`.
        text: one line.
        teller: the rank that tells the user.
    """

    rank: int
    status: str
    text: str
    teller: int


@dataclass(frozen=True)
class Sign:
    """A rank's sign of life.

    Attributes:
        tick: counts signs, so that a new one differs.
        count: phases begun.
        phase: where it is.
        seconds: for how long.
        left: it has ended well.
    """

    tick: int
    count: int
    phase: str
    seconds: float
    left: bool = False


class Bulletin:
    """A connection of its own to the job's key-value store; one process talks to itself.

    Args:
        timeout: seconds that an answer may take.

    Attributes:
        rank: of this process.
        world: number of ranks.
        who: machine, namespace and process number of each rank.
    """

    def __init__(self, timeout: float) -> None:
        self.rank, self.world = collective.rank(), collective.world_size()
        store: Any = None
        if self.world > 1 and {"MASTER_ADDR", "MASTER_PORT"} <= set(os.environ):
            store = dist.TCPStore(  # type: ignore[attr-defined]
                os.environ["MASTER_ADDR"],
                int(os.environ["MASTER_PORT"]),
                is_master=False,
                timeout=timedelta(seconds=timeout),
                wait_for_workers=False,
            )
        else:  # a group that somebody else made: this rank looks after itself
            self.rank, self.world = 0, 1
            store = dist.HashStore()  # type: ignore[attr-defined]
        restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        prefix = f"eofm/{restart}"
        self._store: Any = dist.PrefixStore(prefix, store)  # type: ignore[attr-defined]
        self._store.set(f"who/{self.rank}", json.dumps([*_place(), os.getpid()]))
        self.sign(Sign(0, 0, "start", 0.0))
        collective.barrier()
        found = self._store.multi_get([f"who/{rank}" for rank in range(self.world)])
        self.who = [json.loads(text) for text in found]

    def sign(self, value: Sign) -> None:
        """Give a sign of life."""
        self._store.set(f"sign/{self.rank}", json.dumps(asdict(value)))

    def signs(self, ranks: list[int]) -> dict[int, Sign]:
        """Return the last signs of some ranks."""
        found = self._store.multi_get([f"sign/{rank}" for rank in ranks])
        return {rank: Sign(**json.loads(text)) for rank, text in zip(ranks, found, strict=True)}

    def gone(self) -> list[int]:
        """Return the ranks of this machine whose process has gone."""
        here = self.who[self.rank][:2]
        others = [rank for rank in range(self.world) if rank != self.rank]
        return [r for r in others if self.who[r][:2] == here and not _lives(self.who[r][2])]

    def fail(self, failure: Failure) -> Failure:
        """Put a failure up unless there is one; return the first."""
        text = json.dumps(asdict(failure))
        return Failure(**json.loads(self._store.compare_set("failed", "", text)))

    def failure(self) -> Failure | None:
        """Return the first failure."""
        if not self._store.check(["failed"]):
            return None
        return Failure(**json.loads(self._store.get("failed")))

    def told(self) -> None:
        """Say that the user has been told; the store may go with this process, so wait a little."""
        self._store.set("told", "1")

    def wait_told(self) -> None:
        """Wait until the user has been told."""
        end = time.monotonic() + PATIENCE_TOLD
        while not self._store.check(["told"]) and time.monotonic() < end:
            time.sleep(0.05)


def _place() -> tuple[str, str]:
    """Return the machine's name and the namespace of its process numbers (of a container)."""
    try:
        return socket.gethostname(), os.readlink("/proc/self/ns/pid")
    except OSError:
        return socket.gethostname(), ""


def _lives(pid: int) -> bool:
    """Say whether a process of this machine runs; one that waits to be reaped does not."""
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return not os.path.isdir("/proc/self")  # a system without /proc cannot tell
    except (OSError, IndexError):
        return True
