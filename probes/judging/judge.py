"""One protocol on one benchmark: the family does the work."""

from importlib import import_module
from typing import Any

from fm.errors import UsageError
from probes.benchmarks import Benchmark
from probes.families.job import Job, Outcome
from probes.protocols import Protocol


def answers_task(protocol: Protocol, benchmark: Benchmark) -> bool:
    """Whether a protocol answers the benchmark's task."""
    return benchmark.task in _tasks(protocol) and benchmark.series == _takes_series(protocol)


def judge(protocol: Protocol, job: Job) -> Outcome:
    """Run one protocol.

    Raises:
        UsageError: a protocol that does not answer the benchmark's task.
    """
    family = _family(protocol)
    if job.benchmark.series != _takes_series(protocol):
        what = ("series of dated images", "single images")
        takes, gives = what if _takes_series(protocol) else what[::-1]
        raise UsageError(
            f"{protocol.full_name} takes {takes}, and {job.benchmark.full_name} gives {gives}; "
            f"the timeseries protocols are the ones for series, see `fm probe --list`"
        )
    if job.benchmark.task not in _tasks(protocol):
        raise UsageError(
            f"{protocol.full_name} is for the tasks {', '.join(_tasks(protocol))}, and "
            f"{job.benchmark.full_name} is one of {job.benchmark.task}; see `fm probe --list`"
        )
    return family.run(job)


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
