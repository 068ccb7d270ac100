"""Where the work of a build runs: here, in a pool of processes, or on a Dask cluster."""

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import util
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fm.errors import FMError, UsageError

LOCAL = "local"
"""`--dask local`: a cluster of worker processes on this machine."""
_CONNECT_SECONDS = 30


class Here(Executor):
    """Runs everything at once, in this thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a function and return its finished future."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def open_executor(workers: int, dask: str | None, scratch: Path) -> Iterator[tuple[Executor, int]]:
    """Open an executor; leaving the block by an error ends its workers at once.

    Args:
        workers: processes; 0 runs everything in this one. Of `--dask ADDRESS` the cluster decides.
        dask: `local`, the address of a Dask scheduler, or None.
        scratch: folder for what a local cluster writes.

    Yields:
        the executor, and how many tasks it runs beside this process.

    Raises:
        UsageError: Dask is not installed.
        FMError: the scheduler does not answer, or has no workers.
    """
    if dask is not None:
        with _dask(workers or cores(), dask, scratch) as opened:
            yield opened
    elif workers == 0:
        yield Here(), 0
    else:
        with _pool(workers) as opened:
            yield opened


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[tuple[Executor, int]]:
    # spawn: workers start clean, without this process's threads, open files or libraries
    context = multiprocessing.get_context("spawn")
    stop, alive = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, _start_worker, (stop,))
    try:
        yield pool, workers
        pool.shutdown()
    finally:
        alive.close()
        pool.shutdown(wait=True, cancel_futures=True)
        stop.close()


def _start_worker(stop: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    threading.Thread(target=_end_with_parent, args=(stop,), daemon=True).start()


def _end_with_parent(stop: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        stop.recv()  # nothing is ever sent; the pipe closes when the parent closes it or dies
    util._run_finalizers(0)  # type: ignore[attr-defined]  # gives libraries' semaphores back
    os._exit(1)


@contextlib.contextmanager
def _dask(workers: int, address: str, scratch: Path) -> Iterator[tuple[Executor, int]]:
    try:
        from distributed import CancelledError, Client, KilledWorker, LocalCluster
        from distributed.comm import CommClosedError
    except ImportError:
        raise UsageError("--dask needs the package distributed: pip install 'eofm[dask]'") from None
    where = f"--dask {address}"
    with contextlib.ExitStack() as stack:
        if address == LOCAL:
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address=None,
                local_directory=str(scratch),
                silence_logs=logging.ERROR,
            )
            address = stack.enter_context(cluster)
        try:
            client = stack.enter_context(Client(address, timeout=_CONNECT_SECONDS))
        except (OSError, ValueError) as error:
            raise FMError(f"--dask {address}: no Dask scheduler answers there ({error})") from None
        lanes = sum(client.nthreads().values())
        if not lanes:
            raise FMError(f"--dask {address}: the scheduler has no workers; start some first")
        executor = client.get_executor(pure=False)
        try:
            yield executor, lanes
        except (KilledWorker, CommClosedError, CancelledError, futures.CancelledError) as error:
            raise FMError(
                f"{where}: workers or the scheduler were lost ({type(error).__name__}; out "
                "of memory?); what is finished is kept, run the same command again"
            ) from None
        finally:
            executor.shutdown(wait=False)
