"""Axes: round ticks that hold the values."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """An axis by its ascending ticks; the first and the last are its ends."""

    ticks: tuple[float, ...]

    def at(self, value: float) -> str:
        """Place a value, as a percentage of the width."""
        low, high = self.ticks[0], self.ticks[-1]
        return f"{100 * (value - low) / (high - low):.2f}%"

    @property
    def digits(self) -> int:
        """Decimals that tell the ticks apart."""
        step = self.ticks[1] - self.ticks[0]
        return next((d for d in range(6) if abs(round(step, d) - step) < step / 1000), 6)


def nice_step(span: float) -> float:
    """Return 1, 2, 2.5 or 5 times a power of ten that cuts `span` into at most five parts."""
    power = 10.0 ** math.floor(math.log10(span / 4))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if span / (m * power) <= 5)


def scale(values: Iterable[float | None], *, include: Sequence[float] = ()) -> Scale:
    """Choose an axis that holds all values.

    Args:
        values: scores and the ends of their intervals; None is left out.
        include: values that the axis must reach, such as 0.
    """
    held = [v for v in values if v is not None] + list(include)
    low, high = min(held, default=0.0), max(held, default=1.0)
    if high - low < 1e-12:
        low, high = low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1)
    step = nice_step(high - low)
    start, stop = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Scale(tuple(round(at * step, 12) for at in range(start, stop + 1)))
