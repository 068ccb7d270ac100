"""Logistic regression on frozen features."""

from typing import Literal

from probes.settings.features import OnFeatures
from probes.settings.grid import Grid


class Linear(OnFeatures):
    """Logistic regression on features standardised on the samples fitted on, or as they are.

    C is chosen on val by the benchmark's primary metric, the smallest C of equal ones. `refit` says
    what the scored model is fitted on with that C: train, or train and val. `compute` is the type
    in which the grid is searched, to `search_tol`; the scored model is solved in float64 to `tol`.
    """

    family: Literal["linear"]
    c: Grid
    scale: Literal["standard", "none"] = "standard"
    refit: Literal["train", "train+val"] = "train"
    compute: Literal["float32", "float64"] = "float32"
    search_tol: float = 1e-4
    tol: float = 1e-7
