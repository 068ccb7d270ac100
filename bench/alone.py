"""Competitors in processes of their own, so that each has its own C library and its settings.

    python -m bench.alone MODULE FUNCTION full|quick

A competitor that frees gigabytes leaves its neighbours in the same process another allocator than
they would have alone, and torch reads the switch for large pages (`THP_MEM_ALLOC_ENABLE`) once.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable

from bench import peers
from bench.runner import Ready

LARGE_PAGES = "THP_MEM_ALLOC_ENABLE"


def alone(
    module: str, function: str, name: str, first: dict[str, float], *, large_pages: bool
) -> Callable[[bool], Ready]:
    """Return what prepares a competitor in a process of its own.

    Args:
        module: such as `bench.mae_spectral`.
        function: its function of that name prepares the competitor: quick or not, to `Ready`.
        name: of the competitor.
        first: gets the loss of its first step under its name.
        large_pages: take large arrays in pages of 2 MB, as the `fm` command lets torch do.
    """

    def prepare(quick: bool) -> Ready:
        words = [sys.executable, "-m", "bench.alone", module, function]
        words.append("quick" if quick else "full")
        made = peers.drive(words, {LARGE_PAGES: str(int(large_pages))})
        first[name] = made.settings["first loss"]
        return made

    return prepare


def main() -> None:
    """Take steps on demand."""
    module, function, how = sys.argv[1:]
    ready: Ready = getattr(importlib.import_module(module), function)(how == "quick")
    ready.step()  # what it says of itself may come out of the first step
    print(json.dumps(ready.settings), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        taken = ready.step()
        seconds = time.perf_counter() - start if taken is None else taken
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
