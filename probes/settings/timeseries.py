"""Series of dated images: a frozen backbone for each date, and a head over the dates."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from probes.settings.early import Early
from probes.settings.features import OnFeatures
from probes.settings.few import FewLabels
from probes.settings.grid import Grid
from probes.settings.training import OnMaps


class OnVectors(OnFeatures):
    """Logistic regression for classes and labels (`c`), ridge regression for numbers (`alpha`).

    Both as the protocols `linear` and `ridge` solve and choose them: features standardised on the
    samples fitted on, or as they are.
    """

    family: Literal["timeseries"]
    c: Grid
    alpha: Grid
    scale: Literal["standard", "none"] = "standard"
    refit: Literal["train", "train+val"] = "train"


class SeriesMean(OnVectors):
    """The mean of the features of a sample's dates, then a linear head."""

    temporal: Literal["mean"]


class SeriesJoint(OnVectors):
    """A model that takes series encodes them whole, then a linear head.

    At most `dates` dates are given, spread evenly over those of the sample.
    """

    temporal: Literal["joint"]
    dates: int = Field(ge=2)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.input != "model" or any(word.startswith("centre") for word in self.readout):
            raise ValueError("temporal joint reads pooled or mean of a model")
        return self


class SeriesAttention(Early, OnFeatures, FewLabels):
    """Lightweight temporal attention (Garnot and Landrieu, arXiv 2007.00586, section 3).

    Features of a date go linearly to `channels` channels, which `heads` heads share out among
    them; keys are `keys` wide; `hidden` units come before the outputs. The wavelengths of the
    positions go from 2 pi to nearly 2 pi times `longest` days.
    """

    family: Literal["timeseries"]
    temporal: Literal["attention"]
    heads: int = Field(16, ge=1)
    channels: int = Field(128, ge=2)
    keys: int = Field(8, ge=1)
    hidden: int = Field(64, ge=1)
    longest: float = Field(1000.0, gt=1)

    @model_validator(mode="after")
    def _shared_out(self) -> Self:
        if self.channels % self.heads or self.channels // self.heads % 2:
            raise ValueError("channels: give an even number of them for each head")
        return self


class SeriesMaps(OnMaps):
    """The mean over dates of the token maps of a frozen backbone, then a head as in `Dense`."""

    family: Literal["timeseries"]
    temporal: Literal["maps"]

    @model_validator(mode="after")
    def _frozen(self) -> Self:
        if self.backbone != "frozen":
            raise ValueError("temporal maps encodes every date once: give backbone frozen")
        return self


Timeseries = Annotated[
    SeriesMean | SeriesJoint | SeriesAttention | SeriesMaps, Field(discriminator="temporal")
]
"""One of the temporal heads; all are of the family `timeseries`."""
