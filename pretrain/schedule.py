"""What changes over a run, as functions of how far it has come."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["cosine", "linear", "constant", "wsd", "steps"]


@dataclass(frozen=True)
class Clock:
    """How far a run has come.

    Attributes:
        seen: samples seen before this step.
        last: samples seen before the last step of the run.
    """

    seen: int = 0
    last: int = 0

    def share(self, samples: int | None = None) -> float:
        """Return how much of a length has passed, from 0 at the first step to 1.

        Args:
            samples: the length; it is over with the last step at the latest. None is the run.
        """
        length = self.last if samples is None else min(samples, self.last)
        return min(self.seen / length, 1.0) if length else 1.0


def between(start: float, end: float, share: float, kind: Kind = "cosine") -> float:
    """Go from one value to another; exactly there at share 1."""
    if kind == "constant":
        return start
    left = 1 - share if kind == "linear" else 0.5 * (1 + math.cos(math.pi * share))
    return end + (start - end) * left


def learning_rate(
    step: int,
    *,
    peak: float,
    steps: int,
    warmup: int,
    minimum: float,
    kind: Kind = "cosine",
    decay: int = 0,
    milestones: Sequence[int] = (),
    factor: float = 1.0,
) -> float:
    """Linear warm-up, then down so that the last step has the least rate.

    Args:
        step: from 0 to `steps` - 1.
        peak: reached at step `warmup`; the rate of a run of one step.
        steps: of the whole run.
        warmup: the first step has 1 / `warmup` of the peak.
        minimum: reached at the last step, also right after a warm-up.
        kind: as in `ScheduleConfig`.
        decay: steps of the way down of kind `wsd`.
        milestones: steps from which on, one after the other, the rate of kind `steps` is lower.
        factor: how much lower.

    Returns:
        the learning rate of that step.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    if kind == "steps":
        return peak * factor ** sum(step >= milestone for milestone in milestones)
    first = steps - 1 - decay if kind == "wsd" else warmup
    if step == steps - 1 and steps > 1:
        share = 1.0
    else:
        share = min(max(step - first, 0) / max(steps - 1 - first, 1), 1.0)
    return between(peak, minimum, share, "linear" if kind == "wsd" else kind)
