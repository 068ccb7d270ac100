"""Change between two dates that the same backbone encodes apart, see `probes.dense`."""

from probes.dense.learner import answer
from probes.families.job import Job, Outcome

TASKS = ("change",)


def run(job: Job) -> Outcome:
    """Train on train, choose rate and epoch on val, score test."""
    return answer(job, (False, True))
