"""Places that are answered without a head that is fitted here."""

from typing import Literal

from pydantic import Field

from fm.config import Config
from probes.settings.features import OnFeatures


class Prior(Config):
    """One place for all samples, whatever they show: what a model has to beat.

    `cell` is the middle of the cell with most training samples, `mean` the mean on the sphere of
    all their places.
    """

    family: Literal["prior"]
    input: Literal["nothing"] = "nothing"
    place: Literal["cell", "mean"]


class Gallery(OnFeatures):
    """The place of the training sample whose features have the largest cosine; nothing is chosen.

    `center` subtracts the training mean from both sides first.
    """

    family: Literal["gallery"]
    center: bool = True


class NearestPlace(Config):
    """The training place whose embedding has the largest cosine with the image's.

    Of models that learned images and places in one space (SatCLIP); nothing is chosen.
    """

    family: Literal["nearest-place"]
    batch_size: int = Field(256, ge=1)
