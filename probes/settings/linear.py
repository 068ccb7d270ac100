"""Logistic regression on frozen features."""

from typing import Literal

from probes.settings.features import OnFeatures
from probes.settings.grid import Grid


class Linear(OnFeatures):
    """Logistic regression on features standardised with the training mean and deviation.

    C is chosen on val by the benchmark's primary metric, the smallest C of equal ones; the model
    fitted on train alone (not on train and val) is scored on test once.
    """

    family: Literal["linear"]
    c: Grid
    search_tol: float = 1e-4
    tol: float = 1e-7
