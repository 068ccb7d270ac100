"""Timing streams of batches at their steady rate."""

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from bench.runner import Ready

WARM = 8
"""Batches taken before the clock starts: what a loader has read ahead while others were timed."""
PAUSE = 0.3
"""Seconds in which the read-ahead of the competitor before comes to rest."""


def stepper(batches: Iterator[Any], counted: int) -> Callable[[], float]:
    """Return a step that times `counted` batches and says the seconds."""

    def step() -> float:
        time.sleep(PAUSE)
        for batch in islice(batches, WARM):
            del batch
        start = time.perf_counter()
        got = 0
        for batch in islice(batches, counted):
            got += 1
            del batch
        assert got == counted, "the stream ended"
        return time.perf_counter() - start

    return step


def best(
    candidates: dict[Any, Callable[[], tuple[Iterator[Any], Callable[[], None]]]],
    counted: int,
    what: str,
    rounds: int = 2,
) -> Ready:
    """Try settings and keep the fastest.

    Args:
        candidates: setting to a function that opens a stream and returns it with its close.
        counted: batches of a step.
        what: name of the setting, for the record.
        rounds: each setting is timed so often; the median (of 2: the mean) counts.
    """
    rates: dict[Any, float] = {}
    for setting, prepare in candidates.items():
        stream, close = prepare()
        step = stepper(stream, counted)
        step()
        rates[setting] = sum(step() for _ in range(rounds)) / rounds
        close()
    chosen = min(rates, key=lambda setting: rates[setting])
    stream, close = candidates[chosen]()
    tried = ", ".join(f"{setting}: {seconds:.3f} s" for setting, seconds in rates.items())
    return Ready(stepper(stream, counted), {what: chosen, "tried": tried}, close)
