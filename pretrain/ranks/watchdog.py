"""Ends a rank that stands still, or whose fellow has died, instead of waiting for ever."""

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from fm.console import note
from fm.errors import FMError
from pretrain.ranks.bulletin import Bulletin, Failure, Sign
from pretrain.settings.watchdog import WatchdogConfig

INTERVAL = 0.5
"""Seconds between two looks."""
SILENCE = 5.0
"""Seconds without a sign after which a rank is taken for dead once a collective has broken."""
START, FINISH = "start", "finish"


class RankEnded(SystemExit):
    """This rank ends because the run does, and the user has been told why."""


class Watchdog:
    """Follows the phases of this rank and the life of the others, in a thread of its own.

    Args:
        config: the limits.
        folder: of the run, for stacks of ranks that stand still.
        asked: names of stopping signals that came to this process.
        ending: called on rank 0 with the run's status and the reason when the run fails.
    """

    def __init__(
        self,
        config: WatchdogConfig,
        folder: Path,
        asked: list[str],
        ending: Callable[[str, str], None],
    ) -> None:
        self._folder, self._asked, self._ending = folder, asked, ending
        limits = {"data": config.data, "step": config.step, "watchers": config.watchers}
        self._limits = {**limits, "checkpoint": config.checkpoint, FINISH: config.checkpoint}
        self._patience = config.peers
        self._board = Bulletin(config.peers)
        self._phase, self._since, self._count, self._tick = START, time.monotonic(), 0, 0
        self._armed = self._broken = False
        self._launcher = os.getppid() if "RANK" in os.environ else None
        self._orphaned: float | None = None
        self._seen: dict[int, tuple[Sign, float]] = {}
        self._unreachable: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def phase(self, name: str) -> None:
        """Begin a phase; every rank begins the same ones in the same order."""
        limited = self._armed or name == FINISH
        self._phase, self._since = name if limited else START, time.monotonic()
        self._count += 1

    def arm(self) -> None:
        """Have limits from now on; before, the first step may compile for long."""
        self._armed = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._end_thread()
            if self._board.world > 1:
                self._tick += 1
                with contextlib.suppress(RuntimeError):  # rank 0 has left, and its store with it
                    self._board.sign(Sign(self._tick, self._count, self._phase, 0.0, left=True))
            return
        if _of_a_collective(error) and self._board.world > 1:
            # another rank is the cause; the thread finds out which, and ends this process
            self._broken = True
            self._thread.join(self._patience + 2 * SILENCE)
        self._end_thread()
        text = str(error) if isinstance(error, FMError) else f"{type(error).__name__}: {error}"
        own = Failure(self._board.rank, "failed", " ".join(text.split()), self._board.rank)
        try:
            first = self._board.fail(own)
        except RuntimeError:  # the store has gone, so nobody else tells
            first = own
        if self._board.world == 1:
            with contextlib.suppress(OSError):  # the disk may be what was full
                self._ending(first.status, first.text)
            return
        if first == own:
            if isinstance(error, FMError):
                note(f"fm pretrain: {error}")
            else:
                traceback.print_exception(error)
            get_error_handler().record_exception(error)
        self._close(first)
        raise RankEnded(error.exit_status if isinstance(error, FMError) else 1) from None

    def _end_thread(self) -> None:
        self._stop.set()
        self._thread.join(2 * self._patience)

    def _close(self, failure: Failure) -> None:
        """Let the teller go first; on rank 0 write down how the run ended."""
        board = self._board
        try:
            if board.rank == 0:
                self._ending(failure.status, failure.text)
            if failure.teller == board.rank:
                board.told()
                time.sleep(2 * INTERVAL)  # the store may go with this process
            else:
                board.wait_told()
        except (RuntimeError, OSError, FMError):
            return  # there is nobody left to wait for, or no room to write on

    def _watch(self) -> None:
        while not self._stop.wait(INTERVAL):
            self._look_at_launcher()
            try:
                failure = self._look()
                self._unreachable = None
            except RuntimeError:  # the store has gone with the process that kept it
                failure = self._lost()
            if failure is not None and not self._stop.is_set():
                self._end(failure)

    def _look(self) -> Failure | None:
        """Give a sign of life and judge those of others."""
        board, now = self._board, time.monotonic()
        self._tick += 1
        board.sign(Sign(self._tick, self._count, self._phase, now - self._since))
        if (found := board.failure()) is not None:
            return found
        for rank in board.gone():
            if not board.signs([rank])[rank].left:
                pid = board.who[rank][2]
                text = f"rank {rank} (process {pid}) died: killed, or out of memory"
                return board.fail(Failure(rank, "failed", text, board.rank))
        ranks = list(range(board.world)) if board.rank == 0 or self._broken else [0]
        for rank, sign in board.signs(ranks).items():
            last = self._seen.get(rank)
            if last is None or last[0].tick != sign.tick:
                self._seen[rank] = sign, now
            elif not sign.left and now - last[1] > (SILENCE if self._broken else self._patience):
                text = f"rank {rank} on {board.who[rank][0]} gives no sign of life"
                return board.fail(Failure(rank, "failed", text, board.rank))
        return self._stall() if board.rank == 0 else None

    def _stall(self) -> Failure | None:
        """Judge those who are furthest behind."""
        signs = {rank: sign for rank, (sign, _) in self._seen.items() if not sign.left}
        behind = min((sign.count for sign in signs.values()), default=0)
        last = {rank: sign for rank, sign in signs.items() if sign.count == behind}
        for rank, sign in last.items():
            limit = self._limits.get(sign.phase)
            if limit is not None and sign.seconds > limit:
                who = f"rank {rank}" if len(last) == 1 else f"{len(last)} ranks"
                text = (
                    f"{who} made no progress in {sign.phase} for {sign.seconds:.0f} s "
                    f"(watchdog.{'checkpoint' if sign.phase == FINISH else sign.phase}); stacks in "
                    f"{self._folder / 'stalled-*.txt'}; start the same command again"
                )
                return self._board.fail(Failure(rank, "stalled", text, self._board.rank))
        return None

    def _look_at_launcher(self) -> None:
        """End an orphan that did not get to its end by itself."""
        if self._launcher is None or os.getppid() == self._launcher:
            return
        now = time.monotonic()
        if self._orphaned is None:
            self._orphaned = now
            if not self._asked:  # other systems send no signal
                os.kill(os.getpid(), signal.SIGTERM)
        limit = self._limits["checkpoint"]
        if limit is not None and now - self._orphaned > limit:
            os._exit(1)

    def _lost(self) -> Failure | None:
        now = time.monotonic()
        self._unreachable = self._unreachable or now
        patience = SILENCE if self._broken else self._patience
        if now - self._unreachable < patience or (self._asked and not self._broken):
            return None  # a run that was asked to stop keeps its checkpoint without the store
        text = "the launcher or rank 0 has died; start the same command again"
        return Failure(0, "failed", text, self._board.rank)

    def _end(self, failure: Failure) -> None:
        """End this process, which may be in a collective for ever."""
        try:
            if failure.teller == self._board.rank:
                note(f"fm pretrain: {failure.text}")
            if failure.status == "stalled":
                self._write_stacks()
            self._close(failure)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(1)

    def _write_stacks(self) -> None:
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with open(self._folder / f"stalled-{self._board.rank}.txt", "w") as stream:
                seconds = time.monotonic() - self._since
                stream.write(f"rank {self._board.rank}: {self._phase} for {seconds:.0f} s\n")
                stream.flush()
                faulthandler.dump_traceback(file=stream)


def _of_a_collective(error: BaseException) -> bool:
    """Say whether an error is that of talking to other ranks."""
    if isinstance(error, dist.DistError):
        return True
    words = ("gloo", "NCCL", "onnection closed", "onnection reset")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
