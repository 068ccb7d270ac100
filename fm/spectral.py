"""How one sensor's bands see what another sensor's bands have seen.

A band is taken as a Gaussian response around its centre with its full width at half maximum,
sigma = FWHM / 2.355. Nothing here knows of pixels' units: rows are weights that sum to 1, so they
act on physical values (reflectance, radiance). `response` makes wide bands of many narrow ones,
`observation` has an answer for every band, `overlap` says how much any two bands see of each other.
"""

from collections.abc import Sequence

import numpy as np

from fm.console import note
from fm.errors import UsageError
from fm.sensors import Band, wavelengths

SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
"""FWHM over the standard deviation of a Gaussian, 2.3548."""
SMALLEST = 1e-3
"""Weights below this share of the response's peak are zero."""
ENOUGH = 3
"""Fewer source bands than this under a response do not sample it; `response` says so."""
TOLERANCE_NM = 40.0
"""Bands of one name whose centres are further apart (and further than half the wider band) are not
the same: B4 is red on Sentinel-2 and near infrared on Landsat 7."""
SHORTEST_NM = 100.0
"""No optical band lies below: a smaller number is one of micrometres."""


def same_band(a: Band, b: Band) -> bool:
    """Say whether two bands have one name and, where both are known, one wavelength."""
    if a.name != b.name:
        return False
    if a.wavelength_nm is None or b.wavelength_nm is None:
        return True
    wider = max(a.fwhm_nm or 0.0, b.fwhm_nm or 0.0)
    return abs(a.wavelength_nm - b.wavelength_nm) <= max(TOLERANCE_NM, wider / 2)


def centres(bands: Sequence[Band]) -> np.ndarray:
    """Return the centre wavelengths in nanometres, float64.

    Raises:
        UsageError: a band without one, or one that can only be in micrometres.
    """
    at = np.array(wavelengths(bands), dtype=np.float64)
    for band, nm in zip(bands, at, strict=True):
        if nm < SHORTEST_NM:
            raise UsageError(
                f"band {band.name!r} at {nm:g} nm: no optical band lies there; wavelengths are in "
                f"nanometres, {nm:g} micrometres are {nm * 1000:g}"
            )
    return at


def widths(bands: Sequence[Band]) -> np.ndarray:
    """Return the full widths at half maximum in nanometres.

    Raises:
        UsageError: a band without one; there is no default.
    """
    for band in bands:
        if band.fwhm_nm is None:
            raise UsageError(f"band {band.name!r} has no fwhm_nm; its response is not known")
    return np.array([float(band.fwhm_nm or 0.0) for band in bands])


def response(source: Sequence[Band], target: Sequence[Band], *, quiet: bool = False) -> np.ndarray:
    """Simulate bands as weighted means of narrower ones that sample the spectrum densely.

    Args:
        source: what was measured, with wavelengths.
        target: what to simulate, with wavelengths and widths.
        quiet: do not say which bands fewer than `ENOUGH` source bands support.

    Returns:
        `[target, source]` float64, rows that sum to 1: Gaussian weights at the source's centres,
        those below `SMALLEST` of the peak zero.

    Raises:
        UsageError: a target band that no source band supports, or a missing wavelength or width.
    """
    weights = _weights(source, target)
    total = weights.sum(axis=1, keepdims=True)
    if (lost := np.flatnonzero(total[:, 0] == 0)).size:
        band, centres = target[int(lost[0])], np.array(wavelengths(source))
        raise UsageError(
            f"band {band.name} at {band.wavelength_nm:g} nm has no support in the "
            f"{len(source)} measured bands ({centres.min():g} to {centres.max():g} nm); leave it "
            f"out"
        )
    few = [band.name for band, row in zip(target, weights, strict=True) if (row > 0).sum() < ENOUGH]
    if few and not quiet:
        shown = ", ".join(few[:4]) + (f" and {len(few) - 4} more" if len(few) > 4 else "")
        note(
            f"fewer than {ENOUGH} measured bands lie under {shown}; what is simulated there is "
            f"little more than the nearest band"
        )
    return np.asarray(weights / total)


def overlap(source: Sequence[Band], target: Sequence[Band]) -> tuple[np.ndarray, np.ndarray]:
    """Say how much of what each target band sees each source band sees too.

    The integral of the product of two Gaussian responses of area 1 is itself a Gaussian, of the
    distance of the centres, whose variance is the sum of the two (Bromiley, "Products and
    Convolutions of Gaussian Probability Density Functions", Tina memo 2003-003, section 2):

        I = exp(-(a - b)^2 / 2 (s_a^2 + s_b^2)) / sqrt(2 pi (s_a^2 + s_b^2)).

    Bands that do not touch at half maximum, |a - b| >= (FWHM_a + FWHM_b) / 2, count as apart:
    tails tell nothing of a band where no better one is there. Narrow source bands under a wide one
    get the weights that `response` gives them.

    Args:
        source: with wavelengths and widths.
        target: likewise.

    Returns:
        the integrals I in 1/nm and the exponentials, 1 where the centres coincide, both `[target,
        source]` float64.

    Raises:
        UsageError: a missing wavelength or width.
    """
    apart = centres(source)[None] - centres(target)[:, None]
    a, b = widths(source)[None], widths(target)[:, None]
    variance = (a**2 + b**2) / SIGMA**2
    share = np.where(np.abs(apart) < (a + b) / 2, np.exp(-0.5 * apart**2 / variance), 0.0)
    return share / np.sqrt(2 * np.pi * variance), share


def supported(source: Sequence[Band], target: Sequence[Band]) -> list[int]:
    """Return the numbers of the target bands that `response` can make from the source."""
    return [int(i) for i in np.flatnonzero(_weights(source, target).sum(axis=1))]


def _weights(source: Sequence[Band], target: Sequence[Band]) -> np.ndarray:
    """Gaussian responses of the targets at the source's centres, `[target, source]`."""
    centres = np.array(wavelengths(source))
    wanted = np.array(wavelengths(target))
    sigma = widths(target) / SIGMA
    weights = np.exp(-0.5 * ((centres[None] - wanted[:, None]) / sigma[:, None]) ** 2)
    weights[weights < SMALLEST] = 0.0
    return np.asarray(weights)


def interpolation(at: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Linear interpolation as a matrix, constant outside.

    Args:
        at: `[n]` ascending places.
        wanted: `[m]` places.

    Returns:
        `[m, n]` rows that sum to 1.
    """
    result = np.zeros((len(wanted), len(at)))
    if len(at) == 1:
        return result + 1.0
    low = np.clip(np.searchsorted(at, wanted) - 1, 0, len(at) - 2)
    gap = np.maximum(at[low + 1] - at[low], 1e-9)  # two detectors may share a centre
    part = np.clip((wanted - at[low]) / gap, 0.0, 1.0)
    rows = np.arange(len(wanted))
    result[rows, low] = 1.0 - part
    result[rows, low + 1] += part
    return result


def observation(canonical: Sequence[Band], target: Sequence[Band]) -> np.ndarray:
    """Express bands as weighted means over a fixed list of other bands.

    Unlike `response` this has an answer for every band: the spectrum between the canonical bands
    is taken as linear, and constant outside. A target band wider than the canonical ones averages
    over a Gaussian of the width that is left, sqrt(target^2 - canonical^2).

    Args:
        canonical: with wavelengths and widths.
        target: likewise.

    Returns:
        `[target, canonical]` rows that sum to 1; the identity for the canonical list itself.
    """
    at = np.array(wavelengths(canonical))
    order = np.argsort(at, kind="stable")
    own = float(np.median(widths(canonical)))
    result = np.zeros((len(target), len(at)))
    for i, (centre, width) in enumerate(zip(wavelengths(target), widths(target), strict=True)):
        sigma = np.sqrt(max(width**2 - own**2, 0.0)) / SIGMA
        if sigma < 1.0:
            row = interpolation(at[order], np.array([centre]))[0]
        else:
            points = centre + sigma * np.linspace(-3.0, 3.0, 25)
            weights = np.exp(-0.5 * ((points - centre) / sigma) ** 2)
            row = (weights / weights.sum()) @ interpolation(at[order], points)
        result[i, order] = row
    return result
