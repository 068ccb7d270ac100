"""A value of an objective that changes over the run: a teacher's momentum, a temperature."""

from typing import Annotated, Literal

from pydantic import AfterValidator

from fm.config import Config
from pretrain.schedule import Clock, between
from pretrain.settings.kinds import Positive


class Ramp(Config):
    """From one value to another, there at the last step at the latest.

    Attributes:
        start: at the first step.
        end: at the end.
        kind: half a `cosine` or a `linear` line.
        samples: after how many samples the end is reached; null takes the whole run.
    """

    start: float
    end: float
    kind: Literal["cosine", "linear"] = "cosine"
    samples: Positive | None = None

    def at(self, clock: Clock) -> float:
        """Return the value of a step."""
        return between(self.start, self.end, clock.share(self.samples), self.kind)


def _stays(value: float | Ramp) -> float | Ramp:
    ends = (value.start, value.end) if isinstance(value, Ramp) else (value, value)
    if not all(0 <= end <= 1 for end in ends) or min(ends) == 1:
        raise ValueError("the share of a teacher that stays is 0 to 1, and not 1 all the time")
    return value


Momentum = Annotated[float | Ramp, AfterValidator(_stays)]
"""Share of a teacher that stays in each step."""
