"""`monitor`."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from fm.config import Config
from pretrain.settings.kinds import Positive


class MonitorConfig(Config):
    """What a run shows; nothing here changes what is learned.

    Attributes:
        every: steps between lines in `metrics.jsonl` and TensorBoard.
        pictures: number of reconstruction panels made at the end.
        tensorboard: write event files.
        wandb: also log to Weights & Biases, `online`, or `offline` into the run folder.
        window: last steps that rates, the wait for data and the median step are taken over.
        peak_tflops: what a device can do, 1e12 operations a second, for the utilisation (MFU);
            `measure` times a large matrix product at the start; null takes the vendor's dense
            bfloat16 figure where the device is one that is known, and else tells no MFU.
        detail_every: steps between losses by modality and band (`bands.jsonl`); 0 for none.
        features_every: steps between looks at the features' rank and spread; 0 for none.
        profile: first and last step of a trace for a timeline viewer; null for none.
    """

    every: Positive = 1
    pictures: int = Field(4, ge=0, le=16)
    tensorboard: bool = True
    wandb: Literal["offline", "online"] | None = None
    window: int = Field(50, ge=2)
    peak_tflops: float | Literal["measure"] | None = None
    detail_every: int = Field(100, ge=0)
    features_every: int = Field(100, ge=0)
    profile: tuple[Positive, Positive] | None = None

    @field_validator("peak_tflops", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if isinstance(value, str) and value != "measure":
            try:
                value = float(value)
            except ValueError:
                raise ValueError(
                    "give a number (1e12 operations a second), measure or null"
                ) from None
        if isinstance(value, int | float) and not 0 < value < float("inf"):
            raise ValueError("it must be a number above 0")
        return value

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.profile is not None and self.profile[0] > self.profile[1]:
            raise ValueError(f"profile={list(self.profile)}: give [FIRST, LAST] steps, rising")
        return self
