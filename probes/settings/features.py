"""Settings that all protocols on one vector a sample share."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from fm.config import Config
from probes.features import readout

Parts = Annotated[tuple[str, ...], AfterValidator(readout.check)]
"""Parts of a feature vector, see `probes.features.readout`."""
Normaliser = Literal["model", "divide", "zscore", "minmax", "seco", "identity"]


class Axes(Config):
    """How pixels come to the model. What is not a default is flagged in the result and in its id.

    The seed paper's two tables (Corley et al., arXiv 2305.13456) are `resize` times `normaliser`.

    Attributes:
        resize: pixels along the shorter side of the finest grid; None takes images as they are.
        interpolation: how pixels between pixels are made, for `resize` and to put several grids
            on one.
        antialias: low-pass before making images smaller.
        order: which of normalising and resizing comes first; the seed paper normalises first.
        normaliser: `model` is the model's own; `divide` by full scale (reflectance 1, which is
            10 000 stored; 255 or 10 000 of uncalibrated numbers); `zscore` and `minmax` by the
            training split; `seco` divides by 2750 of 10 000 and clips to [0, 1]; `identity` leaves
            physical values.
        missing: what a band of a foreign backbone gets that the data lacks: `refuse`, `zero` after
            normalising, the `mean` of the bands that are there, or the band `nearest` in
            wavelength.
        tolerance_nm: how far the centres of two bands may lie apart to be taken for each other.
    """

    resize: int | None = Field(None, ge=1, le=4096)
    interpolation: Literal["bilinear", "nearest"] = "bilinear"
    antialias: bool = False
    order: Literal["normalise-first", "resize-first"] = "normalise-first"
    normaliser: Normaliser = "model"
    missing: Literal["refuse", "zero", "mean", "nearest"] = "refuse"
    tolerance_nm: float = Field(40.0, ge=0, le=1000)


Input = Literal[
    "model",
    "raw-pixel",
    "image-statistics",
    "image-statistics-corley",
    "random-conv",
    "random-conv-zca",
]
"""What makes the features: the model, or a floor (`probes.features.floors`)."""


class OnFeatures(Config):
    """Which vector stands for a sample, and how many labelled ones there are.

    `input` says which features: the model's (those that `readout` names), or a floor's.
    `per_class` bounds the training samples of each class, drawn by the seed, the same for every
    model; val and test are whole. `axes` says how pixels come to the model.
    """

    input: Input = "model"
    readout: Parts = ("pooled",)
    per_class: int | None = Field(None, ge=1)
    precision: Literal["float32", "bfloat16"] = "float32"
    axes: Axes = Axes()
