"""What pixels must look like if they are the bands and the unit a declaration says.

GeoTIFFs and HDF5 files of most benchmarks carry no band names, and a wrong order is silent. Bands
give themselves away: B8A lies beside B08 in the near infrared, so their means are close over any
mixture of land and water; B10 sees almost no ground through the water vapour. Limits are wide: they
have to hold for every real sample of images, and tell a permutation, not a season.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError

Values = Mapping[str, NDArray[np.float64]]
RATIO = (0.8, 1.4)
"""mean(B8A) / mean(B08). EuroSAT: 1.13. B09 in its place gives 0.32, B12 0.49, B11 0.79."""
CIRRUS = 0.005
"""Largest mean reflectance of B10: 50 of 10,000. EuroSAT: 12."""
CURE = "the bands are in another order than the published files, or have another unit"


def b8a_beside_b08(values: Values, where: str) -> None:
    """Refuse bands of which B8A is not close to B08."""
    ratio = values["B8A"].mean() / max(values["B08"].mean(), 1e-12)
    if not RATIO[0] <= ratio <= RATIO[1]:
        raise FMError(
            f"{where}: mean(B8A) is {ratio:.2f} x mean(B08), expected {RATIO[0]} to {RATIO[1]}; "
            f"{CURE}"
        )


def b10_is_dark(values: Values, where: str) -> None:
    """Refuse bands of which B10 is not nearly black."""
    mean = values["B10"].mean()
    if not mean < CIRRUS:
        raise FMError(
            f"{where}: mean(B10) is a reflectance of {mean:.4f}, expected below {CIRRUS}; {CURE}"
        )


def water_vapour_is_darker(values: Values, where: str) -> None:
    """Refuse bands of which B09 is brighter than twice B8A (it is B8A behind water vapour)."""
    ratio = values["B09"].mean() / max(values["B8A"].mean(), 1e-12)
    if not 0.05 < ratio < 2:
        raise FMError(f"{where}: mean(B09) is {ratio:.2f} x mean(B8A); {CURE}")


def reflectance(values: Values, where: str) -> None:
    """Refuse optical values that are no reflectance: median above 1.5, or all below 0.001."""
    for name, one in values.items():
        if not name.startswith("B") or name == "B10":
            continue
        median, top = float(np.median(one)), float(one.max())
        if median > 1.5 or (top < 1e-3 and top > 0):
            raise FMError(
                f"{where}: {name} has a median of {median:.3g} and at most {top:.3g} in "
                f"reflectance; the stored numbers have another scale than declared"
            )


def decibels(values: Values, where: str) -> None:
    """Refuse backscatter that is not in decibels: without a negative value it is linear."""
    for name in ("VV", "VH"):
        if name in values and values[name].min() >= 0:
            raise FMError(
                f"{where}: {name} in dB has no negative value; it looks linear, as no published "
                f"file of this dataset is"
            )


def eight_bits(values: Values, where: str) -> None:
    """Refuse 8-bit pictures that were scaled to 0 and 1."""
    top = max(float(one.max()) for one in values.values())
    if top <= 1:
        raise FMError(
            f"{where}: no number is above 1; the pictures were scaled, take the originals"
        )


S2_L1C = (reflectance, b8a_beside_b08, b10_is_dark, water_vapour_is_darker)
S2_L2A = (reflectance, b8a_beside_b08, water_vapour_is_darker)
