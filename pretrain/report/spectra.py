"""Curves over wavelength: what hidden pixels were, and what was predicted of them."""

import numpy as np

DENSE = 50
"""From so many bands on, a spectrum is a line with gaps; below, points that a line joins."""


def broken(x: np.ndarray, *curves: np.ndarray) -> list[np.ndarray]:
    """Sort curves by their places, and break them where bands are missing between two neighbours.

    Only spectra of at least `DENSE` bands have gaps; those of water vapour, mostly.

    Returns:
        the places, then the curves, with NaN in the gaps.
    """
    order = np.argsort(x, kind="stable")
    held = [np.asarray(values, np.float64)[order] for values in (x, *curves)]
    if len(x) < DENSE:
        return held
    widths = np.diff(held[0])
    gaps = np.flatnonzero(widths > 4 * np.median(widths)) + 1
    # the place itself stays, so that an axis needs no care; the curves are cut
    middles = (held[0][gaps - 1] + held[0][gaps]) / 2
    return [
        np.insert(held[0], gaps, middles),
        *(np.insert(values, gaps, np.nan) for values in held[1:]),
    ]
