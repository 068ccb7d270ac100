"""The same work in several processes: batch by batch, equal to one process doing it.

Processes are forked, so that models and open datasets need not be copied or pickled. A forked
process must not use the threads of its parent, so each works with one.
"""

import contextlib
import mmap
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
import torch

from fm.errors import FMError, UsageError


def rows(
    work: Callable[[np.ndarray], np.ndarray],
    batches: Sequence[np.ndarray],
    workers: int,
    advance: Callable[[int], None],
) -> np.ndarray:
    """Do the work of every batch and stack what it gives.

    Args:
        work: (numbers of samples) to `[n, D]` float32; the same D for all.
        batches: the numbers, which together count from 0 without gaps.
        workers: processes; below 2 everything happens in this one.
        advance: told the number of samples that are done.

    Raises:
        UsageError: several processes where the system cannot fork.
        FMError: what a process raised, or that it ended.
    """
    first = work(batches[0])
    advance(len(batches[0]))
    if workers < 2 or len(batches) < 2:
        parts = [first]
        for batch in batches[1:]:
            parts.append(work(batch))
            advance(len(batch))
        return np.concatenate(parts)
    total = sum(len(batch) for batch in batches)
    shared = mmap.mmap(-1, max(1, total * first.shape[1] * 4))
    out = np.frombuffer(shared, np.float32, total * first.shape[1]).reshape(total, -1)
    out[batches[0]] = first

    def fill(batch: np.ndarray) -> int:
        out[batch] = work(batch)
        return len(batch)

    each(fill, batches[1:], workers, advance)
    return out.copy()


def each(
    work: Callable[[Any], int],
    pieces: Sequence[Any],
    workers: int,
    advance: Callable[[int], None],
) -> None:
    """Do every piece of work, which leaves its result where the caller finds it.

    Args:
        work: a piece to the number of steps that it was.
        pieces: of work, in any order.
        workers: processes; below 2 everything happens in this one.
        advance: told the number of steps that are done.

    Raises:
        UsageError: several processes where the system cannot fork.
        FMError: what a process raised, or that it ended.
    """
    if workers < 2:
        for piece in pieces:
            advance(work(piece))
        return
    if sys.platform == "win32":
        raise UsageError("--workers: this system cannot fork processes; leave it out")
    context = multiprocessing.get_context("fork")
    pipes: dict[Connection, multiprocessing.process.BaseProcess] = {}
    try:
        for rank in range(workers):
            mine = pieces[rank::workers]
            if not mine:
                break
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_serve, args=(work, mine, theirs), daemon=True)
            process.start()
            theirs.close()
            pipes[ours] = process
        _collect(pipes, advance)
    finally:
        for started in pipes.values():
            started.terminate()
            started.join()


def _serve(work: Callable[[Any], int], pieces: Sequence[Any], pipe: Connection) -> None:
    torch.set_num_threads(1)
    try:
        for piece in pieces:
            pipe.send(work(piece))
        pipe.send(None)
    except FMError as error:
        pipe.send((type(error), str(error)))
    except KeyboardInterrupt:
        pass
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        pipe.send((FMError, f"{error.strerror or error}{where}; what is done is kept"))
    except Exception as error:
        pipe.send((RuntimeError, f"{type(error).__name__}: {error}"))
    finally:
        with contextlib.suppress(OSError):
            pipe.close()


def _collect(
    pipes: dict[Connection, multiprocessing.process.BaseProcess], advance: Callable[[int], None]
) -> None:
    running = set(pipes)
    while running:
        for pipe in wait(list(running)):
            assert isinstance(pipe, Connection)
            try:
                said = pipe.recv()
            except EOFError:
                pipes[pipe].join()
                code = pipes[pipe].exitcode
                raise FMError(
                    f"a worker process ended with status {code}; give fewer --workers (memory?)"
                ) from None
            if said is None:
                running.discard(pipe)
            elif isinstance(said, int):
                advance(said)
            else:
                kind, text = said
                raise kind(text)
