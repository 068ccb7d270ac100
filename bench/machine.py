"""The machine in words, the versions and the commit that a measurement belongs to."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.lower().startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def _memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return "unknown memory"
    return f"{size / 2**30:.0f} GiB memory"


def _accelerator() -> str:
    torch = sys.modules.get("torch")  # a bench without torch does not need to load it
    if torch is not None and torch.cuda.is_available():
        count = torch.cuda.device_count()
        return f"{count} x {torch.cuda.get_device_name(0)}"
    return "no accelerator"


def describe() -> str:
    """Describe this machine in one line."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return f"{count} cores of {_processor()}, {_memory()}, {_accelerator()}, {system}"


def load() -> float | None:
    """Return how many processes wanted a core over the last minute, other work included."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Return Python's version and those of packages; None for a package that is absent.

    A package that is not here may live in the environment of a peer (`bench.peers`).
    """
    found: dict[str, str | None] = {"python": platform.python_version()}
    homes = [str(path) for path in ROOT.glob("bench/.peers/*/lib/python*/site-packages")]
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            peers = distributions(name=name, path=homes)
            found[name] = next((peer.version for peer in peers), None)
    return found


def commit(root: Path = ROOT) -> str | None:
    """Return the commit of a checkout, with `+changes` if tracked files differ from it."""
    words = ["git", "-C", str(root)]
    try:
        head = subprocess.run([*words, "rev-parse", "HEAD"], capture_output=True, text=True)
        state = subprocess.run(
            [*words, "status", "--porcelain", "-uno"], capture_output=True, text=True
        )
    except OSError:
        return None
    if head.returncode:
        return None
    return head.stdout.strip() + ("+changes" if state.stdout.strip() else "")
