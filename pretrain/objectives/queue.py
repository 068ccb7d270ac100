"""Rows of earlier steps that an objective compares with: a queue over the global batch."""

from collections.abc import Callable

import torch
from torch import Tensor

from pretrain.after_step import AfterStep


class Queue(AfterStep):
    """The newest `size` rows, first in first out, in the order of the global batch.

    What is added during a step is taken in after it, from all ranks and micro-batches: all passes
    of a step see the same queue, whatever the split. A step that is not taken adds nothing. The
    queue is part of the module's state, in float32 (float64 after `.double()`).

    Args:
        size: rows held.
        width: of a row.
        start: `[size, width]` rows that it holds from the first step on, such as random
            directions (MoCo); None begins with an empty queue.
    """

    rows: Tensor
    filled: Tensor
    place: Tensor

    def __init__(self, size: int, width: int, start: Tensor | None = None) -> None:
        super().__init__()
        rows = torch.zeros(size, width) if start is None else start.clone()
        self.register_buffer("rows", rows)
        self.register_buffer("filled", torch.full((size,), start is not None))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))
        self._waiting: list[tuple[Tensor, Tensor]] = []

    def read(self) -> tuple[Tensor, Tensor]:
        """Return the rows `[size, width]`, and which of them hold something `[size]`.

        Both are copies: gradients of this step are of what it saw.
        """
        return self.rows.clone(), self.filled.clone()

    def add(self, rows: Tensor, keep: Tensor) -> None:
        """Note rows of this pass, to be taken in when the step is done.

        Args:
            rows: `[B, width]`, one a sample, in the batch's order.
            keep: `[B]` bool; rows of samples that could not be read are passed over.
        """
        self._waiting.append((rows.detach().to(self.rows.dtype), keep.bool()))

    def drop(self) -> None:
        """Forget what was added since the last step."""
        self._waiting = []

    @torch.no_grad()
    def take(self, gather: Callable[[Tensor], Tensor]) -> None:
        """Take in what was added; called by the engine on every rank, after the step.

        Args:
            gather: joins the rows of all ranks, in their order.
        """
        if not self._waiting:
            return
        rows, keep = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
        self.drop()
        rows, keep = gather(rows), gather(keep.to(torch.uint8)).bool()
        size = len(self.rows)
        newest = rows[keep][-size:]
        index = (self.place + torch.arange(len(newest), device=newest.device)) % size
        self.rows[index] = newest
        self.filled[index] = True
        self.place.copy_((self.place + len(newest)) % size)
