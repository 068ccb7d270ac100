"""Whether the numbers of bands that stand for each other mean the same."""

import numpy as np

from fm.adapt.estimate import Estimate
from fm.errors import UsageError


def check_units(found: Estimate, *, given: bool, same: bool) -> None:
    """Refuse bands whose numbers do not mean the same.

    Args:
        found: which band stands for which.
        given: whether the new pixels have a normalisation of their own, which makes up for it.
        same: whether they come of the same product.

    Raises:
        UsageError: other units, or uncalibrated numbers of two products.
    """
    if given:
        return
    for k, g in zip(*np.nonzero(found.matrix), strict=True):
        known, band = found.known[k], found.given[g]
        uncalibrated = known.unit == "dn" and not same
        if known.unit != band.unit or uncalibrated:
            words = (
                f"both are uncalibrated numbers ({known.unit})"
                if uncalibrated and known.unit == band.unit
                else f"one is {band.unit}, the other {known.unit}"
            )
            raise UsageError(
                f"{band.name} cannot stand for the model's {known.name}: {words}; under a "
                f"policy give the normalisation of the new pixels"
            )
