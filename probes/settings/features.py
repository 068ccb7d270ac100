"""Settings that all protocols on one vector a sample share."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from fm.config import Config
from probes import readout

Parts = Annotated[tuple[str, ...], AfterValidator(readout.check)]
"""Parts of a feature vector, see `probes.readout`."""


class OnFeatures(Config):
    """Which vector stands for a sample, and how many labelled ones there are.

    `input` says which features: the model's (those that `readout` names), or a floor's.
    `per_class` bounds the training samples of each class, drawn by the seed, the same for every
    model; val and test are whole.
    """

    input: Literal["model", "raw-pixel", "image-statistics"] = "model"
    readout: Parts = ("pooled",)
    per_class: int | None = Field(None, ge=1)
    precision: Literal["float32", "bfloat16"] = "float32"
