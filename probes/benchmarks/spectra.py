"""What the bands of an imaging spectrometer must look like if their order is the declared one.

Hundreds of bands in files without names: a shifted, reversed or shuffled order is silent. A mean
spectrum gives it away. Neighbours in wavelength are nearly alike, so the mean step between bands is
a few per cent of the mean; vegetation and soil are brighter in the near infrared than in the red.
Numbers below are of the means that SpectralEarth publishes of its own files (`mu.npy`).
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError

Values = Mapping[str, NDArray[np.float64]]
CURE = "the bands are in another order than the published files"


def roughness(means: NDArray[np.float64]) -> float:
    """Mean step between neighbouring bands [C], as a share of the mean of all."""
    return float(np.abs(np.diff(means)).mean() / max(np.abs(means).mean(), 1e-12))


def smooth(limit: float) -> Callable[[Values, str], None]:
    """A check that refuses bands whose mean spectrum is rougher than `limit`.

    Published means: EnMAP 0.026, DESIS 0.013, Hyperion 0.115, Hyperview 0.010; in shuffled orders
    0.37, 0.58, 1.06 and 0.51 or more.
    """

    def check(values: Values, where: str) -> None:
        found = roughness(np.array([one.mean() for one in values.values()]))
        if not found <= limit:
            raise FMError(
                f"{where}: neighbouring bands differ by {found:.2f} of the mean, expected at most "
                f"{limit}; {CURE}"
            )

    return check


def rises(low: str, high: str, least: float) -> Callable[[Values, str], None]:
    """A check that refuses bands of which `high` is not `least` times as bright as `low`."""

    def check(values: Values, where: str) -> None:
        ratio = values[high].mean() / max(values[low].mean(), 1e-12)
        if not ratio >= least:
            raise FMError(
                f"{where}: mean({high}) is {ratio:.2f} x mean({low}), expected {least} or more; "
                f"{CURE}"
            )

    return check


def fraction(values: Values, where: str) -> None:
    """Refuse reflectance whose median over all bands lies outside 0.001 to 1.5."""
    middle = float(np.median([np.median(one) for one in values.values()]))
    if not 1e-3 <= middle <= 1.5:
        raise FMError(
            f"{where}: a median reflectance of {middle:.3g}; the stored numbers have another "
            f"scale than declared"
        )


ENMAP = (fraction, smooth(0.15), rises("B047", "B075", 1.1), rises("B168", "B160", 1.1))
"""Red and near infrared (660 and 863 nm, 1.75 times as bright), and the two sides of the second
gap: 1977 nm lies beside 1728 nm, which is 1.46 times as bright. Were the 22 bands without data
taken out at another place, these two would not be neighbours."""
DESIS = (smooth(0.2), rises("B104", "B183", 1.1))
"""665 and 866 nm, 3.2 times as bright."""
HYPERION = (smooth(0.4), rises("B031", "B050", 1.1))
"""661 and 854 nm: 1.95 times as bright."""
HYPERVIEW = (smooth(0.2), rises("B001", "B150", 1.1))
"""462 and 939 nm over bare soil, 5.3 times as bright."""
