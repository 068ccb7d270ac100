"""Ridge regression on frozen features."""

from typing import Literal

from probes.settings.features import OnFeatures
from probes.settings.grid import Grid


class Ridge(OnFeatures):
    """Least squares with a penalty: numbers, or classes and labels as +1 and -1.

    Features are standardised with the mean and deviation of the samples fitted on (`scale:
    standard`), or taken as they are. Alpha is chosen on val by the benchmark's primary metric, the
    largest of equal ones. `refit` says what the scored model is fitted on: train, or train and val.
    """

    family: Literal["ridge"]
    alpha: Grid
    scale: Literal["standard", "none"] = "standard"
    refit: Literal["train", "train+val"] = "train"
