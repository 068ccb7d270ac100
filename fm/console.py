"""What a person sees while a command runs: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_SECONDS = 5.0
"""Without a terminal, one line at most every so many seconds."""

_error = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
_quiet = False


class Bar(Protocol):
    """Progress of one task."""

    def advance(self, steps: int = 1, **figures: str) -> None:
        """Move on by `steps`; `figures` are shown beside the bar as `name value`."""


class _RichBar:
    def __init__(self, progress: Progress, task: int) -> None:
        self._progress, self._task = progress, task

    def advance(self, steps: int = 1, **figures: str) -> None:
        text = "  ".join(f"{name} {value}" for name, value in figures.items())
        self._progress.update(self._task, advance=steps, figures=text)  # type: ignore[arg-type]


class _PlainBar:
    def __init__(self, label: str, total: int, done: int) -> None:
        self._label, self._total, self._done = label, total, done
        self._last = time.monotonic()

    def advance(self, steps: int = 1, **figures: str) -> None:
        self._done += steps
        now = time.monotonic()
        if now - self._last < PLAIN_SECONDS:
            return
        self._last = now
        text = "  ".join(f"{name} {value}" for name, value in figures.items())
        print(f"{self._label} {self._done}/{self._total}  {text}".rstrip(), file=sys.stderr)


@contextmanager
def quiet() -> Iterator[None]:
    """Show no bars while the block runs: another one is on the terminal."""
    global _quiet
    before, _quiet = _quiet, True
    try:
        yield
    finally:
        _quiet = before


@contextmanager
def progress(label: str, total: int, *, done: int = 0, show: bool = True) -> Iterator[Bar]:
    """Show the progress of `total` steps on standard error.

    Args:
        label: what is being done, such as `"writing shards"`.
        total: number of steps.
        done: steps that were finished before (a resumed run).
        show: false on every process but the first.
    """
    show = show and not _quiet
    if not show or not _error.is_terminal:
        yield _PlainBar(label, total, done) if show else _Silent()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_error) as bars:
        yield _RichBar(bars, bars.add_task(label, total=total, completed=done, figures=""))


class _Silent:
    def advance(self, steps: int = 1, **figures: str) -> None:
        del steps, figures


def note(text: str) -> None:
    """Print one line for the person to standard error (standard output is for results)."""
    _error.print(text, markup=False)
