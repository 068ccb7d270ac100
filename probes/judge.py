"""One protocol on one benchmark: the family does the work."""

from importlib import import_module

from fm.errors import UsageError
from probes.families.job import Job, Outcome
from probes.protocols import Protocol


def judge(protocol: Protocol, job: Job) -> Outcome:
    """Run one protocol.

    Raises:
        UsageError: a protocol that does not answer the benchmark's task.
    """
    family = import_module(f"probes.families.{protocol.settings.family.replace('-', '_')}")
    if job.benchmark.task not in family.TASKS:
        raise UsageError(
            f"{protocol.full_name} is for the tasks {', '.join(family.TASKS)}, and "
            f"{job.benchmark.full_name} is one of {job.benchmark.task}; see `fm probe --list`"
        )
    return family.run(job)
