"""Four seasons of vegetation from one year's curve of EVI or NDVI, or from a table of dates.

The rule is that of MODIS MCD12Q2 (v6.1; layer definitions of the product): in the rise to the peak,
*greenup* is where the index first crosses 15 % of the segment's amplitude and *maturity* where it
first crosses 90 %; in the fall, *senescence* is where it last crosses 90 % and *dormancy* where it
last crosses 15 %. The four seasons are the intervals from each of these to the next, and their
dates the middles of the intervals, as in SSL4Eco (Plekhanova et al., arXiv 2504.18256).

Unlike MCD12Q2, which fits a spline to several years, a curve here is the user's own: one smoothed
or median year, taken as periodic and linear between its samples. Everything is circular, so that a
growing season over New Year, as in the south, is as good as any other. With several cycles a year
the one with the highest peak is taken; between its dormancy and its greenup another may lie.

Days count from 1 (1 January) in a year of 365.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fm.errors import FMError, UsageError

SEASONS = ("greenup", "maturity", "senescence", "dormancy")
YEAR = 365.0
LOW, HIGH = 0.15, 0.9
"""Shares of the amplitude at greenup and dormancy, and at maturity and senescence."""
LEAST_AMPLITUDE = 0.1
"""Of the index; below it a curve is flat (evergreen, desert, water, ice). Our choice."""
LONGEST_GAP = 64
"""Days between neighbouring samples above which a curve tells too little. Our choice."""
NORTH = (60.0, 152.0, 244.0, 335.0)
"""First days of March, June, September and December."""


@dataclass(frozen=True)
class Seasons:
    """The seasons of a place.

    Attributes:
        starts: first day of each of `SEASONS`, 1 up to 366.
        end: last day of dormancy; the start of greenup unless another cycle lies between.
        cycles: growth cycles a year (times the curve rises above half of its amplitude).
        rule: `curve`, `table` or `calendar`.
    """

    starts: tuple[float, float, float, float]
    end: float
    cycles: int
    rule: str

    def interval(self, season: str) -> tuple[float, float]:
        """First day of a season and its length in days."""
        place = SEASONS.index(season)
        last = self.end if place == 3 else self.starts[place + 1]
        return self.starts[place], (last - self.starts[place]) % YEAR

    def middle(self, season: str) -> float:
        """Day in the middle of a season, 1 up to 366."""
        start, length = self.interval(season)
        return _day(start + length / 2)


@dataclass(frozen=True)
class NoSeasons:
    """Why a place has no seasons of its own."""

    reason: str


def seasons_of_curve(
    days: Sequence[float] | np.ndarray,
    values: Sequence[float] | np.ndarray,
    *,
    least_amplitude: float = LEAST_AMPLITUDE,
) -> Seasons | NoSeasons:
    """Find the seasons of one year's curve.

    Args:
        days: `[N]` days of the year, 1 up to 366, in any order, none twice.
        values: `[N]` index values; NaN where missing.
        least_amplitude: highest minus lowest value below which there are no seasons.

    Returns:
        the seasons, or why there are none: too few samples, or a flat curve.

    Raises:
        UsageError: days out of range or given twice (take the median over the years first).
    """
    day, value = np.asarray(days, np.float64), np.asarray(values, np.float64)
    if day.shape != value.shape or day.ndim != 1:
        raise UsageError(f"a curve is two rows of one length, not {day.shape} and {value.shape}")
    if ((day < 1) | (day >= 1 + 366) | ~np.isfinite(day)).any():
        raise UsageError("a day of a curve is not from 1 to 366")
    known = np.isfinite(value)
    day, value = day[known] % YEAR, value[known]
    order = np.argsort(day, kind="stable")
    day, value = day[order], value[order]
    if len(day) < 4:
        return NoSeasons(f"only {len(day)} samples")
    gaps = np.diff(np.append(day, day[0] + YEAR))
    if (gaps == 0).any():
        raise UsageError("a day comes twice in a curve; take the median over the years first")
    if gaps.max() > LONGEST_GAP:
        return NoSeasons(f"a gap of {gaps.max():.0f} days")
    amplitude = value.max() - value.min()
    if not amplitude >= least_amplitude:
        return NoSeasons(f"an amplitude of {amplitude:.3f}")
    return _of_periodic(day, value)


def _of_periodic(day: np.ndarray, value: np.ndarray) -> Seasons:
    # one turn that begins and ends at the peak
    top = int(np.argmax(value))
    t = np.append((np.roll(day, -top) - day[top]) % YEAR, YEAR)
    v = np.append(np.roll(value, -top), value[top])
    half = (value.max() + value.min()) / 2
    below = v < half
    cycles = int((below[:-1] & ~below[1:]).sum())
    # the lowest points after and before the peak's own cycle; of a flat bottom the last day
    low = np.flatnonzero(below)
    breaks = np.flatnonzero(np.diff(low) > 1)
    first = low[: breaks[0] + 1] if len(breaks) else low
    last = low[breaks[-1] + 1 :] if len(breaks) else low
    after, before = (int(part[len(part) - 1 - np.argmin(v[part][::-1])]) for part in (first, last))

    def level(trough: int, share: float) -> float:
        return float(v[trough] + share * (v[0] - v[trough]))

    senescence = _last(t[: after + 1], v[: after + 1], level(after, HIGH))
    dormancy = _last(t[: after + 1], v[: after + 1], level(after, LOW))
    end = _first(t[after:], v[after:], level(after, LOW))
    greenup = _first(t[before:], v[before:], level(before, LOW))
    maturity = _first(t[before:], v[before:], level(before, HIGH))
    starts = [_day(day[top] + x) for x in (greenup, maturity, senescence, dormancy)]
    return Seasons(
        (starts[0], starts[1], starts[2], starts[3]), _day(day[top] + end), cycles, "curve"
    )


def _first(t: np.ndarray, v: np.ndarray, level: float) -> float:
    """Time at which a line that starts below a level first reaches it."""
    place = int(np.argmax(v >= level))
    return _between(t, v, place - 1, level)


def _last(t: np.ndarray, v: np.ndarray, level: float) -> float:
    """Time at which a line that ends below a level last leaves it."""
    place = len(v) - 1 - int(np.argmax((v >= level)[::-1]))
    return _between(t, v, place, level)


def _between(t: np.ndarray, v: np.ndarray, place: int, level: float) -> float:
    a, b = v[place], v[place + 1]
    return float(t[place] + (t[place + 1] - t[place]) * (level - a) / (b - a))


def seasons_of_dates(
    greenup: float, maturity: float, senescence: float, dormancy: float
) -> Seasons | NoSeasons:
    """Seasons from a table's four days of the year, NaN where the table has none.

    Raises:
        FMError: days that do not follow each other once round the year.
    """
    days = (greenup, maturity, senescence, dormancy)
    if not all(map(np.isfinite, days)):
        return NoSeasons("no dates in the table")
    if not all(1 <= day < 367 for day in days):
        raise FMError(f"days {days} are not from 1 to 366; take the day of the year")
    starts = [_day(day) for day in days]
    lengths = [(b - a) % YEAR for a, b in zip(starts, starts[1:] + starts[:1], strict=True)]
    if min(lengths) == 0 or abs(sum(lengths) - YEAR) > 1e-6:
        raise FMError(f"days {days} do not follow each other once round the year")
    return Seasons((starts[0], starts[1], starts[2], starts[3]), starts[0], 1, "table")


def calendar_seasons(lat: float) -> Seasons:
    """Three months each, for a place without a cycle: greenup begins in March or September.

    Args:
        lat: degrees; south of the equator the year is turned by six months.
    """
    starts = NORTH if lat >= 0 else (NORTH[2], NORTH[3], NORTH[0], NORTH[1])
    return Seasons(starts, starts[0], 1, "calendar")


def median_day(days: Sequence[float] | np.ndarray) -> float:
    """Median of days of several years, taken round the year: of 364, 1 and 3 it is 1.

    Args:
        days: `[N]` days of the year; NaN is left out.

    Returns:
        the day, 1 up to 366; NaN when there is none.
    """
    known = np.asarray(days, np.float64)
    known = known[np.isfinite(known)]
    if not known.size:
        return float("nan")
    turn = known * (2 * np.pi / YEAR)
    centre = np.arctan2(np.sin(turn).sum(), np.cos(turn).sum()) * YEAR / (2 * np.pi)
    away = (known - centre + YEAR / 2) % YEAR - YEAR / 2
    return _day(centre + float(np.median(away)))


def _day(day: float) -> float:
    return float((day - 1) % YEAR + 1)
