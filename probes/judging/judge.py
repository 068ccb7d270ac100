"""One protocol on one benchmark: the family does the work."""

from importlib import import_module
from typing import Any

from fm.errors import UsageError
from probes.benchmarks import Benchmark
from probes.families.job import Job, Outcome
from probes.protocols import Protocol, get_protocol, list_protocols


def answers_task(protocol: Protocol, benchmark: Benchmark) -> bool:
    """Whether a protocol answers the benchmark's task."""
    return benchmark.task in _tasks(protocol) and benchmark.series == _takes_series(protocol)


def floors_of(protocol: Protocol, benchmark: Benchmark) -> tuple[list[str], list[str]]:
    """Names of the pixel floors beside a protocol on a benchmark.

    Where a floor does not answer the task, `ridge-NAME` takes its place: numbers are no classes.
    The benchmark's own floors come last.

    Returns:
        the floors to run, and those that nothing stands in for.
    """
    known = {name.rpartition("@")[0] for name in list_protocols()}
    found, missing = [], []
    for name in dict.fromkeys((*protocol.floors, *benchmark.floors)):
        for one in (name, f"ridge-{name}"):
            if one in known and answers_task(get_protocol(one), benchmark):
                found.append(one)
                break
        else:
            missing.append(name)
    return found, missing


def check(protocol: Protocol, benchmark: Benchmark) -> None:
    """Refuse a protocol that does not answer a benchmark's task.

    Raises:
        UsageError: it is for other tasks, or for series and not for images.
    """
    if benchmark.series != _takes_series(protocol):
        what = ("series of dated images", "single images")
        takes, gives = what if _takes_series(protocol) else what[::-1]
        raise UsageError(
            f"{protocol.full_name} takes {takes}, and {benchmark.full_name} gives {gives}; "
            f"the timeseries protocols are the ones for series, see `fm probe --list`"
        )
    if benchmark.task not in _tasks(protocol):
        raise UsageError(
            f"{protocol.full_name} is for the tasks {', '.join(_tasks(protocol))}, and "
            f"{benchmark.full_name} is one of {benchmark.task}; see `fm probe --list`"
        )


def judge(protocol: Protocol, job: Job) -> Outcome:
    """Run one protocol; see `check` for what it refuses."""
    check(protocol, job.benchmark)
    outcome: Outcome = _family(protocol).run(job)
    return outcome


def _tasks(protocol: Protocol) -> tuple[str, ...]:
    """What a protocol answers; a family may say it of each of its settings."""
    family = _family(protocol)
    found: tuple[str, ...] = (
        family.tasks(protocol.settings) if hasattr(family, "tasks") else family.TASKS
    )
    return found


def _takes_series(protocol: Protocol) -> bool:
    return bool(getattr(_family(protocol), "SERIES", False))


def _family(protocol: Protocol) -> Any:
    return import_module(f"probes.families.{protocol.settings.family.replace('-', '_')}")
