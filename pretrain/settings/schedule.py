"""`schedule`: how long a run is, its learning rate and its weight decay."""

import math
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fm.config import Config
from pretrain.settings.kinds import Positive

Share = Annotated[float, Field(gt=0, lt=1)]


class ScheduleConfig(Config):
    """Linear warm-up, then down to `min_lr` at the last step.

    Lengths are in steps or in samples, whichever is given; samples make the steps that hold them.

    Attributes:
        kind: from the peak to `min_lr` by half a `cosine` or a `linear` line; `constant` stays at
            the peak; `wsd` (warm-up, stable, decay: Hu et al., arXiv 2404.06395) stays there and
            goes down in a line at the end; `steps` falls at each of the `milestones`.
        steps: optimiser steps of the whole run.
        samples: the same in samples.
        warmup: steps of linear warm-up.
        warmup_samples: the same in samples.
        decay: steps of the way down of kind `wsd`.
        decay_samples: the same in samples.
        milestones: shares of the run after which the rate of kind `steps` is multiplied by
            `factor` (120 and 160 of 200 epochs are 0.6 and 0.8).
        factor: of each fall.
        min_lr: learning rate at the end.
        weight_decay_end: weight decay at the last step, reached from the optimizer's by half a
            cosine over the whole run; null keeps the optimizer's.
    """

    kind: Literal["cosine", "linear", "constant", "wsd", "steps"] = "cosine"
    steps: Positive = 100
    samples: Positive | None = None
    warmup: int = Field(10, ge=0)
    warmup_samples: int | None = Field(None, ge=0)
    decay: int = Field(0, ge=0)
    decay_samples: int | None = Field(None, ge=0)
    milestones: tuple[Share, ...] = ()
    factor: Share = 0.1
    min_lr: float = Field(0.0, ge=0)
    weight_decay_end: float | None = Field(None, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, values: Any) -> Any:
        """Let `steps=null` take a recipe's length away, so that it can be given in samples."""
        if not isinstance(values, dict):
            return values
        lengths = ("steps", "warmup", "decay")
        return {k: v for k, v in values.items() if not (k in lengths and v is None)}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.samples, self.warmup_samples, self.decay_samples) == (None, None, None):
            self._ends()  # else once the batch is known
        return self

    def _ends(self) -> None:
        if self.warmup >= self.steps:
            raise ValueError(f"warmup={self.warmup} does not end before steps={self.steps}")
        if (self.decay > 0) != (self.kind == "wsd"):
            raise ValueError(
                "kind=wsd needs decay=STEPS or decay_samples=SAMPLES, the other kinds none"
            )
        if self.warmup + self.decay >= self.steps and self.kind == "wsd":
            raise ValueError(
                f"warmup={self.warmup} and decay={self.decay} do not fit into steps={self.steps}"
            )
        if self.kind in ("constant", "steps") and self.min_lr:
            raise ValueError(f"min_lr is not reached with kind={self.kind}; leave it out")
        if bool(self.milestones) != (self.kind == "steps"):
            raise ValueError(
                "kind=steps needs milestones=[SHARE OF THE RUN, ...], the other kinds none"
            )
        falls = (self.warmup, *self.falls, self.steps) if self.milestones else ()
        if any(later <= former for former, later in pairwise(falls)):
            raise ValueError(
                f"milestones={list(self.milestones)} are steps {list(self.falls)} of {self.steps}; "
                f"they must follow the warm-up and each other, and leave steps after them"
            )

    @property
    def falls(self) -> tuple[int, ...]:
        """The first steps with a lower rate, of kind `steps`."""
        # 0.55 x 100 is a little more than 55
        return tuple(math.ceil(round(share * self.steps, 6)) for share in self.milestones)

    def resolved(self, batch_size: int) -> Self:
        """Return the same with all lengths in steps, for a global batch.

        Raises:
            ValueError: a length in steps and in samples that disagree, or that do not fit.
        """
        made = {}
        for key in ("steps", "warmup", "decay"):
            own = "samples" if key == "steps" else f"{key}_samples"
            samples = getattr(self, own)
            if samples is None:
                continue
            made[key] = -(-samples // batch_size)
            if key in self.model_fields_set and getattr(self, key) != made[key]:
                raise ValueError(
                    f"schedule.{key}={getattr(self, key)} is not schedule.{own}={samples} in "
                    f"batches of {batch_size} ({made[key]}); set one of them to null"
                )
        if not made:
            return self
        found = self.model_copy(update=made)
        found._ends()
        return found

    def identity(self) -> dict[str, Any]:
        """Return what decides what is learned; lengths in steps."""
        told = {"samples", "warmup_samples", "decay_samples"}
        values = self.model_dump(mode="json", exclude=told)
        plain = {"kind": "cosine", "decay": 0, "milestones": [], "weight_decay_end": None}
        if not self.milestones:
            del values["factor"]
        for key, usual in plain.items():
            if values[key] == usual:  # as if absent: older runs go on
                del values[key]
        return values
