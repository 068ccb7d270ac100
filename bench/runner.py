"""Run a comparison fairly: warm up, then let the competitors take turns, round after round."""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fm.console import progress
from fm.errors import FMError

QUICK_SECONDS = 40.0
"""A quick run starts no new round after so many seconds, set-up included."""

FEWEST_FOR_QUARTILES = 8
"""With fewer rounds the spread is minimum and maximum, with as many the interquartile range."""

Step = Callable[[], float | None]
"""One repetition; returns None to be timed, or its own seconds if it measured elsewhere."""


@dataclass(frozen=True)
class Ready:
    """A competitor that is set up.

    Attributes:
        step: one repetition, ending when its work is done (a device is synchronised).
        settings: what it ran with, for the record; its own best settings.
        close: frees what it holds.
    """

    step: Step
    settings: Mapping[str, Any] = field(default_factory=dict)
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Target:
    """A promise on one number: a competitor's value, or its ratio to another's.

    Attributes:
        name: of the number.
        of: competitor.
        over: the competitor it is divided by, within each round; None for the value itself.
        at_most: upper bound, or None.
        at_least: lower bound, or None. A ratio without a bound is stated, and promises nothing.
    """

    name: str
    of: str
    over: str | None = None
    at_most: float | None = None
    at_least: float | None = None

    def __post_init__(self) -> None:
        bounds = (self.at_most is not None) + (self.at_least is not None)
        if bounds == 2 or not (bounds or self.over):
            raise ValueError(f"target {self.name!r} needs one of at_most and at_least")

    @property
    def words(self) -> str | None:
        """The bound as text."""
        if self.at_most is not None:
            return f"at most {self.at_most:g}"
        return None if self.at_least is None else f"at least {self.at_least:g}"

    def holds(self, value: float) -> bool | None:
        """Say whether a value keeps the promise; None where there is none."""
        if self.at_most is not None:
            return value <= self.at_most
        return None if self.at_least is None else value >= self.at_least


@dataclass(frozen=True)
class Fact:
    """A number that is no time of a competitor: a count, a size, bytes of memory.

    Attributes:
        name: what it is.
        value: the number; None when it could not be had here.
        unit: in words.
        at_most: a bound that was promised, or None.
        at_least: another, or None.
    """

    name: str
    value: float | None
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    def row(self) -> dict[str, Any]:
        """Return it as a value of the result."""
        bounds = []
        if self.at_most is not None:
            bounds.append((f"at most {self.at_most:g}", self.value, self.at_most))
        if self.at_least is not None:
            bounds.append((f"at least {self.at_least:g}", self.at_least, self.value))
        holds = None
        if bounds and self.value is not None:
            holds = all(low <= high for _, low, high in bounds)
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "spread": None,
            "target": " and ".join(text for text, _, _ in bounds) or None,
            "holds": holds,
        }


@dataclass(frozen=True)
class Bench:
    """One comparison.

    Attributes:
        name: also of its file and its result.
        question: what it answers, one sentence.
        competitors: name to a function that sets the competitor up, given whether this is a
            quick run; None from it says that the competitor is absent on this machine.
        targets: promises that the result is held against.
        unit: `ms` for milliseconds a repetition, or `WORK/s` for `amount` units of work in each.
        amount: work in one repetition, when the unit is `WORK/s`.
        rounds: of a full run.
        quick_rounds: of a quick run.
        warmup: repetitions of each competitor that are not counted.
        versions: packages whose versions are recorded.
        check: called after the last round; raises FMError when the competitors did not do the
            same work.
        facts: numbers beside the times, given whether this is a quick run; taken after the last
            round, while the competitors are still open.
    """

    name: str
    question: str
    competitors: Mapping[str, Callable[[bool], Ready | None]]
    targets: tuple[Target, ...] = ()
    unit: str = "ms"
    amount: float = 1.0
    rounds: int = 40
    quick_rounds: int = 5
    warmup: int = 3
    versions: tuple[str, ...] = ()
    check: Callable[[], None] = lambda: None
    facts: Callable[[bool], Sequence[Fact]] = lambda quick: ()

    def __post_init__(self) -> None:
        if self.unit != "ms" and not self.unit.endswith("/s"):
            raise ValueError(f"bench {self.name}: unit {self.unit!r} is neither ms nor WORK/s")
        for target in self.targets:
            for name in (target.of, target.over):
                if name is not None and name not in self.competitors:
                    raise ValueError(f"bench {self.name}: target names no competitor {name!r}")


@dataclass(frozen=True)
class Measured:
    """Seconds of every round.

    Attributes:
        seconds: competitor to one number a round, None for an absent one.
        settings: competitor to its settings, None for an absent one.
        rounds: counted rounds.
        warmup: repetitions of each competitor before them.
        facts: numbers beside the times.
    """

    seconds: dict[str, list[float] | None]
    settings: dict[str, dict[str, Any] | None]
    rounds: int
    warmup: int
    facts: tuple[Fact, ...] = ()


def _timed(step: Step) -> float:
    start = time.perf_counter()
    own = step()
    elapsed = time.perf_counter() - start
    return elapsed if own is None else float(own)


def measure(bench: Bench, *, quick: bool) -> Measured:
    """Set the competitors up, warm them up, and time them in turns.

    In every round each competitor takes one repetition, and the first of a round moves on by one,
    so that a drift of the machine or a habit of the order falls on all of them.

    Args:
        bench: the comparison.
        quick: few rounds and a limit on time.

    Raises:
        FMError: all competitors are absent, or they did not do the same work.
    """
    start = time.monotonic()
    ready: dict[str, Ready] = {}
    settings: dict[str, dict[str, Any] | None] = dict.fromkeys(bench.competitors)
    try:
        for name, prepare in bench.competitors.items():
            made = prepare(quick)
            if made is not None:
                ready[name], settings[name] = made, dict(made.settings)
        if not ready and bench.competitors:
            raise FMError(f"bench {bench.name}: every competitor is absent; see docs/bench.md")
        warmup = 1 if quick else bench.warmup
        for _ in range(warmup):
            for competitor in ready.values():
                competitor.step()
        names = list(ready)
        seconds: dict[str, list[float]] = {name: [] for name in names}
        rounds = (bench.quick_rounds if quick else bench.rounds) if ready else 0
        gc.collect()
        done = 0
        with progress(f"bench {bench.name}", rounds) as bar:
            while done < rounds:
                if quick and done and time.monotonic() - start > QUICK_SECONDS:
                    break
                for turn in range(len(names)):
                    name = names[(done + turn) % len(names)]
                    seconds[name].append(_timed(ready[name].step))
                done += 1
                bar.advance()
        bench.check()
        facts = tuple(bench.facts(quick))
    finally:
        for competitor in ready.values():
            competitor.close()
    taken = {name: seconds.get(name) for name in bench.competitors}
    return Measured(taken, settings, done, warmup, facts)


def spread_kind(rounds: int) -> str:
    """Say what the spread of a result is."""
    return "interquartile range" if rounds >= FEWEST_FOR_QUARTILES else "minimum and maximum"


def _summary(samples: np.ndarray) -> tuple[float, list[float]]:
    """Median and spread of one number a round."""
    ends = (25, 75) if len(samples) >= FEWEST_FOR_QUARTILES else (0, 100)
    low, high = np.percentile(samples, ends)
    return float(np.median(samples)), [float(low), float(high)]


def values(bench: Bench, measured: Measured) -> list[dict[str, Any]]:
    """Turn seconds into the list of numbers of the result.

    Ratios are taken within each round, whose members ran next to one another, and the median is
    of those ratios.

    Returns:
        dicts of name, value, unit, spread, target and holds; value, spread and holds are None
        where a competitor is absent, so an absent peer never makes a promise hold.
    """
    scale = 1e3 if bench.unit == "ms" else bench.amount
    numbers: dict[str, np.ndarray | None] = {}
    for name, taken in measured.seconds.items():
        if taken is None:
            numbers[name] = None
        else:
            seconds = np.asarray(taken, dtype=np.float64)
            numbers[name] = seconds * scale if bench.unit == "ms" else scale / seconds
    rows = [_row(name, samples, bench.unit, None) for name, samples in numbers.items()]
    for target in bench.targets:
        samples, unit = numbers[target.of], bench.unit
        if target.over is not None:
            other, unit = numbers[target.over], "ratio"
            samples = None if samples is None or other is None else samples / other
        rows.append(_row(target.name, samples, unit, target))
    return rows + [fact.row() for fact in measured.facts]


def _row(name: str, samples: np.ndarray | None, unit: str, target: Target | None) -> dict[str, Any]:
    value, spread = (None, None) if samples is None else _summary(samples)
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "spread": spread,
        "target": target.words if target else None,
        "holds": target.holds(value) if target and value is not None else None,
    }
