"""Start and stop the processes of a run: alone, or under torchrun, deepspeed or Slurm."""

import atexit
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NoReturn

import torch
import torch.distributed as dist

from pretrain.ranks.allocator import keep_freed_memory
from pretrain.ranks.signals import end_with_launcher

COLLECTIVE = timedelta(hours=12)
"""How long a collective may take: as long as rank 0 alone writes or probes. What stands still is
found by `pretrain.ranks.watchdog`, much earlier."""
SHARED_MEMORY_OP = "deepspeed_shm_comm"


def prepare_environment() -> None:
    """Set what DeepSpeed reads when it is imported; call before the first import of it."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("DS_BUILD_OPS", "0")
    if "RANK" not in os.environ and "SLURM_PROCID" in os.environ and "MASTER_ADDR" in os.environ:
        for ours, theirs in (
            ("RANK", "SLURM_PROCID"),
            ("LOCAL_RANK", "SLURM_LOCALID"),
            ("WORLD_SIZE", "SLURM_NTASKS"),
        ):
            os.environ[ours] = os.environ[theirs]


def device() -> torch.device:
    """Return this process's device."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


@contextmanager
def processes() -> Iterator[torch.device]:
    """Join the process group; it is left when the process ends.

    Without a launcher this is a group of one that opens no socket.

    Yields:
        this process's device.
    """
    prepare_environment()
    end_with_launcher()
    place = device()
    if place.type == "cuda":
        torch.cuda.set_device(place)
    else:
        keep_freed_memory()
    joined = not dist.is_initialized()
    if joined:
        backend = "nccl" if place.type == "cuda" else "gloo"
        if "RANK" in os.environ:
            dist.init_process_group(backend, timeout=COLLECTIVE)
        else:
            store = dist.HashStore()  # type: ignore[attr-defined]
            dist.init_process_group(backend, store=store, rank=0, world_size=1)
            os.environ.setdefault("LOCAL_RANK", "0")
        # DeepSpeed keeps references to the group, so it lives as long as the process
        atexit.register(_leave)
    _disable_shared_memory_op()
    yield place


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def end_rank(status: int) -> int:
    """End a launched rank here and now; without a launcher, return the status.

    Threads of gloo outlive the group, which DeepSpeed keeps. When the process takes down its
    statics under them it now and then aborts ("terminate called without an active exception"),
    after all work was done.
    """
    if "RANK" not in os.environ or not dist.is_initialized():
        return status
    _leave()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def abandon_rank(status: int) -> NoReturn:
    """End this rank without taking leave of the others, who may be gone."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Silence standard error, also of child processes.

    DeepSpeed tries to link optional libraries and lets the linker print its failures.
    """
    saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)


def _disable_shared_memory_op() -> None:
    """Keep DeepSpeed from compiling its shared-memory collective.

    On CPU it would build it on first use in a cache shared by all environments: minutes of
    compiling, and a lock file that hangs later runs when a build is killed. Gloo does the work.
    """
    with quiet_stderr():
        import deepspeed.ops

    getattr(deepspeed.ops, "__compatible_ops__", {})[SHARED_MEMORY_OP] = False
