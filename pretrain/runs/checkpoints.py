"""When checkpoints are written, and that training does not wait for it."""

import errno
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch

from fm.errors import FMError
from pretrain.ranks import collective
from pretrain.runs import room
from pretrain.runs.flight import Flight, begin
from pretrain.runs.folder import TAG, Position, RunFolder
from pretrain.runs.retention import name_of
from pretrain.settings.checkpoint import CheckpointConfig

Record = Callable[[str, str, bool], Callable[[], None]]
"""Takes (folder, tag, whether training goes on before it is written) what a rank must write."""
PATIENCE = 60.0
"""Seconds that an error of the run waits for the checkpoint on its way."""


class Checkpoints:
    """The checkpoints of a running run; every method is called on every rank, in the same order.

    A checkpoint is taken (copied to host memory) at its step, and written by a thread. Whether all
    ranks could is agreed on at the steps after it, in one small reduction each, so that all ranks
    stop at the same step when one cannot.

    Args:
        folder: locked.
        config: when, how many.
        device: of this process.
        record: takes what a rank must write (`Engine.record`).
    """

    def __init__(
        self, folder: RunFolder, config: CheckpointConfig, device: torch.device, record: Record
    ) -> None:
        self._folder, self._config, self._device = folder, config, device
        self._record = record
        self._flight: Flight | None = None
        self._landed: Callable[[], None] = lambda: None
        self._last = time.monotonic()

    def due(self, step: int) -> bool:
        """Look after the checkpoint on its way; say whether one is to be taken after this step.

        Raises:
            FMError: a rank could not write.
        """
        config, flight = self._config, self._flight
        by_clock = False
        if flight is not None or config.every_minutes is not None:
            failed, over, late = self._told(
                flight is not None and flight.error is not None,
                flight is not None and flight.over,
                config.every_minutes is not None
                and collective.rank() == 0
                and time.monotonic() - self._last >= 60 * config.every_minutes,
            )
            if failed:
                self._fail()
            if flight is not None and over == collective.world_size():
                self._arrived()
            by_clock = late > 0
        marks = (config.every, *(() if config.milestones is None else (config.milestones,)))
        return by_clock or any(step % mark == 0 for mark in marks)

    def save(self, position: Position, landed: Callable[[], None] = lambda: None) -> None:
        """Take a checkpoint of the state as it is now.

        Args:
            position: where it stands.
            landed: called on rank 0 once `latest` points to it, at a later call of this object.

        Raises:
            FMError: a rank could not write it, or the one before.
        """
        self.wait()
        self._last = time.monotonic()
        aside = Path(collective.on_first(lambda: self._begin(position)))
        write = self._record(str(aside), TAG, self._config.asynchronous)
        self._landed = landed
        self._flight = Flight(
            self._folder,
            aside,
            position,
            write,
            rank=collective.rank(),
            keep=self._config.keep,
            milestones=self._config.milestones,
        )
        if not self._config.asynchronous:
            self.wait()

    def wait(self) -> None:
        """Wait for the checkpoint on its way.

        Raises:
            FMError: a rank could not write.
        """
        if self._flight is None:
            return
        self._flight.wait_written()
        if self._told(self._flight.error is not None)[0]:
            self._fail()
        self._flight.join()
        if self._told(self._flight.error is not None)[0]:
            self._fail()
        self._arrived()

    def close(self) -> None:
        """After an error, let the checkpoint on its way arrive if it can; calls no other rank."""
        if self._flight is not None:
            self._flight.join(PATIENCE)
            self._flight.cancel()
            self._flight = None

    def _begin(self, position: Position) -> str:
        try:
            aside = begin(self._folder, name_of(position.step))
            try:
                room.require(self._folder)
            except FMError:
                aside.rmdir()
                raise
            return str(aside)
        except OSError as error:
            raise FMError(self._text(position, error)) from None

    def _told(self, *news: bool) -> list[float]:
        """Return how many ranks say yes to each."""
        told = torch.tensor(news, dtype=torch.float32, device=self._device)
        return collective.all_reduce_sum(told).tolist()

    def _arrived(self) -> None:
        self._flight = None
        if collective.rank() == 0:
            self._landed()

    def _fail(self) -> None:
        """Raise on all ranks what went wrong on one."""
        flight, self._flight = self._flight, None
        assert flight is not None
        flight.cancel()
        flight.join()
        own = "" if flight.error is None else self._text(flight.position, flight.error)
        said = [
            f"rank {rank}: {text}" if collective.world_size() > 1 else text
            for rank, text in enumerate(collective.gather(own))
            if text
        ]
        if collective.rank() == 0:  # nothing of it can be used, and its room may be needed
            shutil.rmtree(flight.aside, ignore_errors=True)
        raise FMError(said[0])

    def _text(self, position: Position, error: Exception) -> str:
        words = getattr(error, "strerror", None) or str(error).splitlines()[0]
        full = getattr(error, "errno", None) in (*room.FULL, errno.EFBIG)
        if full or not isinstance(error, OSError):  # torch's writer only says that it failed
            try:
                free = shutil.disk_usage(self._folder.path).free
            except OSError:
                free = 0
            words += f"; {room.figures(self._folder, free)}"
        return (
            f"{self._folder.checkpoints}: the checkpoint of step {position.step} could not be "
            f"written ({words}); {room.standing(self._folder)}: make room, for example with a "
            f"lower checkpoint.keep, and start the run again"
        )
