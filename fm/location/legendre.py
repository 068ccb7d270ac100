"""Associated Legendre functions and their Fourier coefficients. No torch here.

Orthonormal on the sphere together with e^(i m lon), without the Condon-Shortley phase:
`P(0, 0) = 1 / sqrt(4 pi)`, and the mean square of each harmonic over the sphere is `1 / (4 pi)`.
"""

from functools import lru_cache

import numpy as np


def legendre(degrees: int, colatitude: np.ndarray) -> np.ndarray:
    """Evaluate by the recurrence in the degree, which is stable for m <= l.

    The sectoral start is `P(m, m) = sqrt(1 + 1 / (2m)) sin P(m-1, m-1)`; then `P(m+1, m) =
    sqrt(2m + 3) cos P(m, m)` and `P(l, m) = a cos P(l-1, m) - b P(l-2, m)` with
    `a^2 = (4 l^2 - 1) / (l^2 - m^2)` and `b^2 = (2l + 1) ((l-1)^2 - m^2) / ((2l - 3) (l^2 - m^2))`
    (Holmes & Featherstone 2002, J. Geodesy 76, eq. 11 to 13).

    Args:
        degrees: L; degrees are 0 to L - 1.
        colatitude: `[n]` radians from the north pole, float64 or longdouble.

    Returns:
        `[L, L, n]` of the same type, by degree and order; 0 where the order exceeds the degree.
    """
    angle = np.asarray(colatitude)
    real = angle.dtype.type
    c, s = np.cos(angle), np.sin(angle)
    p = np.zeros((degrees, degrees, len(angle)), real)
    p[0, 0] = 1 / np.sqrt(4 * pi(real))
    for m in range(1, degrees):
        p[m, m] = np.sqrt(1 + 1 / real(2 * m)) * s * p[m - 1, m - 1]
    orders = np.arange(degrees)
    for m in range(degrees - 1):
        p[m + 1, m] = np.sqrt(real(2 * m + 3)) * c * p[m, m]
    for degree in range(2, degrees):
        below = orders[: degree - 1]
        rest = (degree**2 - below**2).astype(real)
        a = np.sqrt((4 * degree**2 - 1) / rest)
        b = np.sqrt((2 * degree + 1) * ((degree - 1) ** 2 - below**2) / ((2 * degree - 3) * rest))
        p[degree, below] = (
            a[:, None] * c * p[degree - 1, : degree - 1] - b[:, None] * p[degree - 2, : degree - 1]
        )
    return p


def pi(real: type[np.floating]) -> np.floating:
    """Return pi to the precision of a type, which `numpy.pi` is not for longdouble."""
    return 4 * np.arctan(real(1))


@lru_cache(maxsize=4)
def fourier(degrees: int) -> np.ndarray:
    """Write every function as a short trigonometric sum in the colatitude.

    `P(l, m)` is `sum_k g[l, m, k] cos(k t)` for even m and `sum_k g[l, m, k] sin(k t)` for odd m,
    over k <= l of the parity of l. No coefficient exceeds 0.49, so that the sum is as accurate in
    float32 as its cosines; sums of powers of cos t have coefficients of 1e14 at L = 40.

    Args:
        degrees: L.

    Returns:
        `[L, L, L]` float64 by l, m, k, from a discrete cosine (or sine) transform of the
        recurrence at 2L + 2 midpoints, which is exact for such sums; those of the south mirror
        those of the north. The recurrence loses three digits by L = 100 and is evaluated with more
        than those of float64 where the machine has them (x86: 80 bits; where longdouble is float64
        the sums are as good as the recurrence). Shared: not to be written to.
    """
    real = np.longdouble
    points = 2 * degrees + 2
    angle = (np.arange(degrees + 1) + real(0.5)) * pi(real) / points
    values = legendre(degrees, angle).astype(np.float64)
    turns = np.arange(degrees)[:, None] * angle
    cosines, sines = ((real(4) / points * f(turns)).astype(np.float64) for f in (np.cos, np.sin))
    cosines[0] /= 2
    table = np.empty((degrees, degrees, degrees))
    table[:, 0::2] = values[:, 0::2] @ cosines.T
    table[:, 1::2] = values[:, 1::2] @ sines.T
    degree, order, k = np.ogrid[:degrees, :degrees, :degrees]
    table[(order > degree) | (k > degree) | ((k - degree) % 2 != 0)] = 0  # zero but for rounding
    table.flags.writeable = False
    return table
