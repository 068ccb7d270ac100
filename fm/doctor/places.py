"""Disks, shared memory, limits, caches and their locks."""

import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from fm.doctor.finding import Finding

GB = 1e9
STOP_DISK, LOW_DISK = 1 * GB, 10 * GB
LOW_SHARED = 1 * GB
STOP_FILES, LOW_FILES = 256, 4096
STALE_SECONDS = 600
"""No operator takes so long to compile on a machine that does little else."""


def disks() -> Iterator[Finding]:
    """Say how much room there is where runs, caches and temporary files go."""
    places = {"here": Path.cwd(), "TMPDIR": Path(tempfile.gettempdir())}
    cache = os.environ.get("EOFM_CACHE")
    if cache is None:
        yield Finding("EOFM_CACHE", "not set; URLs and packages with data need a folder (--cache)")
    else:
        places["EOFM_CACHE"] = Path(cache)
    for name, path in places.items():
        there = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
        free = shutil.disk_usage(there).free
        if not os.access(there, os.W_OK):
            yield Finding(name, f"{path} cannot be written", "stop", "name another folder")
        elif free < STOP_DISK:
            yield Finding(name, f"{free / GB:.2f} GB free at {path}", "stop", "make room")
        else:
            low = free < LOW_DISK
            yield Finding(
                f"disk {name}",
                f"{free / GB:.1f} GB free at {path}",
                "note" if low else "ok",
                "fm plan says what the checkpoints of a run take" if low else "",
            )


def shared_memory(path: Path = Path("/dev/shm")) -> Finding:
    """Say how large the memory is that ranks of a node share."""
    if not path.is_dir():
        return Finding("shared memory", f"no {path}", "note", "NCCL is slower without it")
    size = shutil.disk_usage(path).free
    if size < LOW_SHARED:
        return Finding(
            "shared memory",
            f"{size / GB:.2f} GB at {path}",
            "note",
            "NCCL between ranks of a node may fail; start the container with --ipc=host or a "
            "larger --shm-size",
        )
    return Finding("shared memory", f"{size / GB:.1f} GB at {path}")


def open_files() -> Finding:
    """Say how many files a process may hold open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    told = f"{soft} (at most {hard})"
    if soft < STOP_FILES:
        return Finding("open files", told, "stop", f"ulimit -n {min(max(hard, soft), 65536)}")
    if soft < LOW_FILES:
        return Finding(
            "open files", told, "note", "datasets of many tars need more: ulimit -n 65536"
        )
    return Finding("open files", told)


def compiled_cache(folder: Path | None = None, now: float | None = None) -> Iterator[Finding]:
    """Look for locks that a killed compiler left: whatever compiles the same waits for ever.

    Args:
        folder: of torch's extensions; its own when None.
        now: seconds since 1970.
    """
    if folder is None:
        told = os.environ.get("TORCH_EXTENSIONS_DIR")
        folder = Path(told) if told else Path.home() / ".cache" / "torch_extensions"
    moment = time.time() if now is None else now
    locks = sorted(folder.rglob("lock")) if folder.is_dir() else []
    for lock in locks:
        age = moment - lock.stat().st_mtime
        if age > STALE_SECONDS:
            yield Finding(
                "compile lock",
                f"{lock} is {age / 60:.0f} minutes old",
                "stop",
                f"if nothing compiles (ps aux | grep ninja), remove it: rm {lock}",
            )
        else:
            yield Finding("compile lock", f"{lock}: something compiles", "note", "wait for it")
    if not locks:
        yield Finding("compile cache", f"no locks in {folder}")
