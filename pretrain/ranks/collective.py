"""The few collectives a run needs; each is the identity on one process."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from fm.errors import FMError, UsageError

T = TypeVar("T")


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def first_process() -> bool:
    """Say whether this is rank 0, also after the process group has gone."""
    return int(os.environ.get("RANK", "0")) == 0 if not dist.is_initialized() else rank() == 0


def all_reduce_sum(x: Tensor) -> Tensor:
    """Sum a tensor over all processes, in place, and return it."""
    if world_size() > 1:
        dist.all_reduce(x)
    return x


def gather_rows(x: Tensor) -> Tensor:
    """Join the rows of all processes in the order of their ranks: that of the global batch.

    The gradient of a row is the sum over all processes, so losses that each process sums over its
    own rows have the gradient of their total. All must have as many rows.

    Args:
        x: `[B, ...]` of this process.

    Returns:
        `[B x processes, ...]`; of one process `x` itself.
    """
    if world_size() == 1:
        return x
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(x))


def sum_over_ranks(x: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes.

    The gradient is the sum over all processes too, as in `gather_rows`.
    """
    if world_size() == 1:
        return x
    from torch.distributed.nn.functional import all_reduce

    summed: Tensor = all_reduce(x)
    return summed


def largest_over_ranks(x: Tensor) -> Tensor:
    """Return the largest of each number over all processes, without gradient."""
    if world_size() == 1:
        return x
    found = x.detach().clone()
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return found


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        dist.barrier()


def gather(value: T) -> list[T]:
    """Give every process what each has, in the order of their ranks.

    Args:
        value: can be pickled (it travels between our own processes).
    """
    if world_size() == 1:
        return [value]
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, value)
    return found


def on_first(decide: Callable[[], T]) -> T:
    """Run a function on the first process and give its result to all.

    An `FMError` is raised on every process, so that none waits for another that has left.

    Args:
        decide: returns something that can be pickled (it travels between our own processes).
    """
    if world_size() == 1:
        return decide()
    outcome: list[object] = [None, None, None]
    if rank() == 0:
        try:
            outcome[0] = decide()
        except FMError as error:
            outcome[1:] = [str(error), isinstance(error, UsageError)]
        except Exception as error:  # the others must not wait for a process that has left
            dist.broadcast_object_list([None, f"{type(error).__name__}: {error}", False], src=0)
            raise
    dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise (UsageError if outcome[2] else FMError)(str(outcome[1]))
    return outcome[0]  # type: ignore[return-value]
