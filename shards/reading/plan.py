"""Which samples stand in which batch, on which rank: numbers only, no reading."""

import functools
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fm.errors import UsageError
from shards.ordering.order import Order


@dataclass(frozen=True)
class Work:
    """What one rank reads for one step.

    Attributes:
        rows: `[n]` sample of its dataset at each slot; -1 is padding.
        positions: `[n]` places in the stream.
        epochs: `[n]`.
        parts: `[n]` dataset of each slot, in a mixture; None when there is one.
    """

    rows: np.ndarray
    positions: np.ndarray
    epochs: np.ndarray
    parts: np.ndarray | None = None


Schedule = Callable[[int], Work | None]
"""The work of a step; None when the stream has ended."""


def whole(name: str, value: Any, least: int | None = None) -> int:
    """Return an argument that must be a whole number.

    Raises:
        UsageError: it is none, or smaller than `least`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise UsageError(f"{name}={value!r}: give a whole number") from None
    if least is not None and number < least:
        raise UsageError(f"{name}={number}: give {least} or more")
    return number


@dataclass(frozen=True)
class Share:
    """A rank's part of every global batch.

    Step k of the stream holds the positions `[position + k*B, position + (k+1)*B)` of the global
    batch; rank r of w takes `[r*B//w, (r+1)*B//w)` of them.

    Attributes:
        batch_size: global, over all ranks.
        rank: this process.
        world_size: number of processes.
        position: where the stream begins, in samples; may exceed the length of an epoch.
    """

    batch_size: int
    rank: int = 0
    world_size: int = 1
    position: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be streamed."""
        for name, value in vars(self).items():
            whole(name, value)
        if self.world_size < 1:
            raise UsageError(f"world_size={self.world_size}: give at least 1")
        if not 0 <= self.rank < self.world_size:
            raise UsageError(f"rank {self.rank} of {self.world_size}: ranks count from 0")
        if self.batch_size < self.world_size:
            raise UsageError(
                f"batch_size {self.batch_size} is the global batch and must be at least "
                f"world_size {self.world_size}"
            )
        if self.position < 0:
            raise UsageError(f"position {self.position}: a position is at least 0")

    def range(self, step: int) -> tuple[int, int]:
        """Return this rank's positions `[start, stop)` of a step."""
        start, batch, world = (
            self.position + step * self.batch_size,
            self.batch_size,
            self.world_size,
        )
        return start + self.rank * batch // world, start + (self.rank + 1) * batch // world


def stream(order: Order, share: Share) -> Schedule:
    """Go on without end, from epoch to epoch."""

    def work(step: int) -> Work:
        start, stop = share.range(step)
        positions = np.arange(start, stop, dtype=np.int64)
        return Work(order.indices(start, stop), positions, order.epochs(start, stop))

    return work


def one_pass(order: Order, share: Share) -> Schedule:
    """Stop after one epoch; the last batch is filled with padding."""
    count = order.count
    steps = max(0, math.ceil((count - share.position) / share.batch_size))

    def work(step: int) -> Work | None:
        if step >= steps:
            return None
        start, stop = share.range(step)
        known = min(stop, max(start, count))
        rows = np.full(stop - start, -1, np.int64)
        rows[: known - start] = order.indices(start, known)
        positions = np.arange(start, stop, dtype=np.int64)
        return Work(rows, positions, np.full(stop - start, order.epoch, np.int64))

    return work


def until(schedule: Schedule, steps: int | None) -> Schedule:
    """End a schedule after so many steps."""
    if steps is None:
        return schedule
    whole("steps", steps, 0)

    @functools.wraps(schedule)
    def work(step: int) -> Work | None:
        return schedule(step) if step < steps else None

    return work
