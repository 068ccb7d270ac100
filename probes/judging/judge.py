"""One protocol on one benchmark: the family does the work."""

from importlib import import_module
from typing import Any

from fm.errors import UsageError
from probes.benchmarks import Benchmark
from probes.families.job import Job, Outcome
from probes.protocols import Protocol


def answers_task(protocol: Protocol, benchmark: Benchmark) -> bool:
    """Whether a protocol answers the benchmark's task."""
    return benchmark.task in _family(protocol).TASKS


def judge(protocol: Protocol, job: Job) -> Outcome:
    """Run one protocol.

    Raises:
        UsageError: a protocol that does not answer the benchmark's task.
    """
    family = _family(protocol)
    if job.benchmark.task not in family.TASKS:
        raise UsageError(
            f"{protocol.full_name} is for the tasks {', '.join(family.TASKS)}, and "
            f"{job.benchmark.full_name} is one of {job.benchmark.task}; see `fm probe --list`"
        )
    return family.run(job)


def _family(protocol: Protocol) -> Any:
    return import_module(f"probes.families.{protocol.settings.family.replace('-', '_')}")
