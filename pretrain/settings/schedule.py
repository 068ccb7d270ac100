"""`schedule`: how long a run is, and its learning rate."""

from pydantic import Field, model_validator

from fm.config import Config
from pretrain.settings.kinds import Positive


class ScheduleConfig(Config):
    """Linear warm-up, then half a cosine to `min_lr` at the last step.

    Attributes:
        steps: optimiser steps of the whole run.
        warmup: steps of linear warm-up.
        min_lr: learning rate at the end.
    """

    steps: Positive = 100
    warmup: int = Field(10, ge=0)
    min_lr: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _warmup_ends(self) -> "ScheduleConfig":
        if self.warmup >= self.steps:
            raise ValueError(f"warmup={self.warmup} does not end before steps={self.steps}")
        return self
