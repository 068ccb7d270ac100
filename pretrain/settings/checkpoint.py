"""`checkpoint`."""

from pydantic import Field

from fm.config import Config
from pretrain.settings.kinds import Positive


class CheckpointConfig(Config):
    """Checkpoints to resume from.

    Attributes:
        every: steps between checkpoints; the last step always writes one.
        every_minutes: also write one when the last is older, by the clock of rank 0.
        keep: how many of the newest stay.
        milestones: also write one at each multiple of this many steps; those stay for ever.
        asynchronous: go on training while a checkpoint is written; takes host memory for one copy
            of what a rank writes.
    """

    every: Positive = 50
    every_minutes: float | None = Field(None, gt=0)
    keep: Positive = 2
    milestones: Positive | None = None
    asynchronous: bool = True
