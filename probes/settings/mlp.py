"""A perceptron with one hidden layer on frozen features."""

from typing import Literal

from pydantic import Field

from probes.settings.early import Early
from probes.settings.features import OnFeatures
from probes.settings.few import FewLabels


class Mlp(Early, OnFeatures, FewLabels):
    """One hidden layer of `hidden` units (ReLU) on features standardised with the training set."""

    family: Literal["mlp"]
    hidden: int = Field(ge=1)
