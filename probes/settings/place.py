"""Places that are answered without a head: none at all, or that of the nearest training image."""

from typing import Literal

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
