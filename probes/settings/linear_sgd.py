"""Linear heads trained by gradient descent."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from probes.settings.features import OnFeatures
from probes.settings.few import FewLabels


class LinearSgd(OnFeatures, FewLabels):
    """Many linear heads trained at once by SGD with momentum; the best is chosen on val.

    There is one head for each rate, each number of last `blocks` and each `average`. A head on n
    blocks sees the class token after each of the last n blocks (the mean of the block's tokens
    where a model has no class token); `average` appends the mean of the last block's tokens. With
    `blocks: [1]` and `average: [false]` the heads see the `readout` as every other protocol does.
    Rates are multiplied by batch / 256 when `per_256` is set. `milestones` are shares of the run
    after which the rate is divided by ten (schedule `steps`). Heads are scored on val
    `evaluations` times, evenly spaced, the last time at the end; each time is one more candidate.
    """

    family: Literal["linear-sgd"]
    rates: tuple[float, ...] = Field(min_length=1)
    per_256: bool
    blocks: tuple[int, ...] = Field((1,), min_length=1)
    average: tuple[bool, ...] = Field((False,), min_length=1)
    batch_size: int = Field(ge=1)
    epochs: int | None = Field(None, ge=1)
    steps: int | None = Field(None, ge=1)
    evaluations: int = Field(1, ge=1)
    schedule: Literal["cosine", "steps"] = "cosine"
    milestones: tuple[float, ...] = ()
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    initial: float = Field(0.01, ge=0)

    @field_validator("rates", "blocks", "milestones")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(v <= 0 for v in value) or list(value) != sorted(set(value)):
            raise ValueError("give ascending numbers above 0")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give epochs or steps, one of them")
        if bool(self.milestones) != (self.schedule == "steps") or any(
            m >= 1 for m in self.milestones
        ):
            raise ValueError("milestones (below 1) and schedule steps belong together")
        return self

    @property
    def plain(self) -> bool:
        """Whether the heads see the readout alone."""
        return self.blocks == (1,) and self.average == (False,)
