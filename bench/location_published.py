"""SatCLIP's positional encoding in its published analytic form, written from the formula.

Every harmonic is an expression of its own: a constant, `(1 - cos(t)^2)^(m/2)`, a polynomial in
powers of `cos(t)` with coefficients of 15 digits, and `cos(m p)` or `sin(m p)`, all evaluated anew
for each of the L^2 features (Klemmer et al. 2023, appendix; the polynomial is the m-th derivative
of Legendre's). The columns m = 0 carry the factor pi of the released weights.
"""

from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import cache
from math import comb, factorial, pi, sqrt

import torch
from torch import Tensor, cos, sin

Expression = Callable[[Tensor, Tensor], Tensor]


def polynomial(degree: int, order: int) -> list[tuple[int, int]]:
    """Return (power, 2^degree times coefficient) of the order-th derivative of P_degree, exactly.

    P_l(x) = 2^-l sum_k (-1)^k C(l, k) C(2l - 2k, l) x^(l - 2k).
    """
    terms = []
    for k in range((degree - order) // 2 + 1):
        power = degree - 2 * k
        whole = (-1) ** k * comb(degree, k) * comb(2 * degree - 2 * k, degree)
        terms.append((power - order, whole * factorial(power) // factorial(power - order)))
    return terms


def _rounded(value: Decimal) -> float:
    return float(f"{value:.15g}")


@cache
def expressions(degrees: int) -> list[Expression]:
    """Return one function of (theta, phi) for each feature, l^2 + l + m for m from -l to l."""
    return [_expression(d, m) for d in range(degrees) for m in range(-d, d + 1)]


def _expression(degree: int, order: int) -> Expression:
    m = abs(order)
    with localcontext() as context:
        context.prec = 60
        norm = (Decimal(2 * degree + 1) * factorial(degree - m) / factorial(degree + m)).sqrt()
        front = norm * Decimal(sqrt(1 / (4 * pi))) * (Decimal(2).sqrt() if m else Decimal(pi))
        # at m = 0 the constant is multiplied into the polynomial
        inner = Decimal(1) if m else front
        terms = [(p, _rounded(inner * c / 2**degree)) for p, c in polynomial(degree, m)]
        outer = _rounded(front)
    if m and len(terms) == 1:  # a constant goes into the constant before it
        power, coefficient = terms[0]
        outer, terms = _rounded(Decimal(outer) * Decimal(coefficient)), [(power, 1.0)] * power

    def evaluate(theta: Tensor, phi: Tensor) -> Tensor:
        found: Tensor | float | None = None
        for power, coefficient in terms:
            if power == 0:
                term: Tensor | float = coefficient
            elif power == 1:
                term = cos(theta) if coefficient == 1 else coefficient * cos(theta)
            else:
                term = coefficient * cos(theta) ** power
            found = term if found is None else found + term
        if m == 0:
            return found if isinstance(found, Tensor) else found * torch.ones_like(theta)
        square = 1.0 - cos(theta) ** 2
        value = outer * (square if m == 2 else square ** (m / 2))
        if found is not None:
            value = value * found
        turned = phi if m == 1 else m * phi
        return value * (cos(turned) if order > 0 else sin(turned))

    return evaluate


def encode(lonlat: Tensor, degrees: int) -> Tensor:
    """Return `[N, L * L]` of places in degrees, in their own precision."""
    phi, theta = torch.deg2rad(lonlat[:, 0] + 180), torch.deg2rad(lonlat[:, 1] + 90)
    return torch.stack([one(theta, phi) for one in expressions(degrees)], dim=-1)
