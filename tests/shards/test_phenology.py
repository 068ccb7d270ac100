"""Seasons of curves whose crossings are known in closed form."""

import numpy as np
import pytest

from fm.errors import FMError, UsageError
from shards.sampling.phenology import (
    SEASONS,
    YEAR,
    NoSeasons,
    Seasons,
    calendar_seasons,
    median_day,
    seasons_of_curve,
    seasons_of_dates,
)

DAILY = np.arange(1.0, 366.0)
# (1 + cos x) / 2 is 0.15 and 0.9 at these distances from the peak, in days
WIDE = np.arccos(2 * 0.15 - 1) * YEAR / (2 * np.pi)
NARROW = np.arccos(2 * 0.9 - 1) * YEAR / (2 * np.pi)


def cosine(days: np.ndarray, peak: float, low: float = 0.2, high: float = 0.8) -> np.ndarray:
    return low + (high - low) * (1 + np.cos(2 * np.pi * (days - peak) / YEAR)) / 2


def apart(a: float, b: float) -> float:
    return abs((a - b + YEAR / 2) % YEAR - YEAR / 2)


def of(days: np.ndarray, values: np.ndarray, **options: float) -> Seasons:
    found = seasons_of_curve(days, values, **options)
    assert isinstance(found, Seasons), found
    return found


@pytest.mark.parametrize("peak", [196.0, 13.5, 364.9, 1.0, 250.25])
def test_cosine_has_its_crossings_in_closed_form(peak: float) -> None:
    found = of(DAILY, cosine(DAILY, peak))
    expected = (peak - WIDE, peak - NARROW, peak + NARROW, peak + WIDE)
    # linear between daily samples: v'' h^2 / 8 over the slope, and the sampled peak
    assert max(map(apart, found.starts, expected)) < 0.02
    assert apart(found.end, found.starts[0]) < 1e-9
    assert found.cycles == 1
    assert apart(found.middle("maturity"), peak) < 0.02
    assert apart(found.middle("dormancy"), peak + YEAR / 2) < 0.02
    assert apart(found.middle("greenup"), peak - (WIDE + NARROW) / 2) < 0.02
    assert sum(found.interval(season)[1] for season in SEASONS) == pytest.approx(YEAR)


def test_eight_day_samples_are_good_to_a_day() -> None:
    days = np.arange(1.0, 366.0, 8)
    found = of(days, cosine(days, 200.3))
    expected = (200.3 - WIDE, 200.3 - NARROW, 200.3 + NARROW, 200.3 + WIDE)
    assert max(map(apart, found.starts, expected)) < 1.0


def test_south_is_north_turned_by_half_a_year() -> None:
    # a skewed curve, so that exchanging rise and fall would show
    def curve(days: np.ndarray, shift: float) -> np.ndarray:
        x = (days - shift) % YEAR / YEAR
        return np.where(x < 0.2, x / 0.2, (1 - x) / 0.8)

    north = of(DAILY, curve(DAILY, 100.0))
    south = of(DAILY, curve(DAILY, 100.0 + 182.0))
    for a, b in zip(north.starts, south.starts, strict=True):
        assert apart(b - a, 182.0) < 1e-6
    # the corners of the triangle: rise of 73 days from day 100, fall of 292
    expected = (100 + 0.15 * 73, 100 + 0.9 * 73, 173 + 0.1 * 292, 173 + 0.85 * 292)
    assert max(map(apart, north.starts, expected)) < 1e-6
    assert north.middle("greenup") == pytest.approx((expected[0] + expected[1]) / 2)
    assert apart(south.middle("greenup"), north.middle("greenup") + 182) < 1e-6


def test_scale_level_order_and_gaps_do_not_matter() -> None:
    reference = of(DAILY, cosine(DAILY, 196.0))
    turned = of(DAILY[::-1], cosine(DAILY, 196.0)[::-1] * 3 - 7)
    assert turned.starts == pytest.approx(reference.starts)
    holes = cosine(DAILY, 196.0)
    holes[(DAILY % 10 < 4)] = np.nan
    assert of(DAILY, holes).starts == pytest.approx(reference.starts, abs=0.6)


def test_first_and_last_crossings_are_taken() -> None:
    # a dip in the plateau and a bump after the fall: neither moves the seasons
    days = np.array([1, 60, 100, 150, 200, 220, 240, 300, 310, 320, 345.0])
    values = np.array([0.0, 0.0, 1.0, 0.95, 0.8, 1.0, 0.95, 0.0, 0.2, 0.0, 0.0])
    found = of(days, values)
    assert found.starts[0] == pytest.approx(60 + 0.15 * 40)
    assert found.starts[1] == pytest.approx(60 + 0.9 * 40)
    assert found.starts[2] == pytest.approx(240 + 60 * (0.95 - 0.9) / 0.95)
    assert found.starts[3] == pytest.approx(310 + 10 * (0.2 - 0.15) / 0.2)


def test_of_two_cycles_the_higher_is_taken() -> None:
    days = np.arange(1.0, 366.0)
    first = np.exp(-(((days - 100) / 25) ** 2))
    second = 0.8 * np.exp(-(((days - 260) / 25) ** 2))
    found = of(days, first + second)
    assert found.cycles == 2
    half = 25 * np.sqrt(-np.log(0.15))
    assert apart(found.starts[0], 100 - half) < 0.5
    assert apart(found.starts[3], 100 + half) < 0.5
    # dormancy ends where the other cycle begins: its middle is no growing season
    assert found.interval("dormancy")[1] < 260 - 25 - (100 + half)
    middle = found.middle("dormancy")
    assert (first + second)[int(middle) - 1] < 0.15


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.full(365, 0.85), "an amplitude of 0.000"),
        (0.05 + 0.04 * np.cos(DAILY / 58), "an amplitude of 0.080"),
        (np.where(DAILY < 120, cosine(DAILY, 60), np.nan), "a gap of 247 days"),
        (np.full(365, np.nan), "only 0 samples"),
    ],
)
def test_flat_and_empty_curves_say_so(values: np.ndarray, reason: str) -> None:
    assert seasons_of_curve(DAILY, values) == NoSeasons(reason)


def test_threshold_of_flatness_is_the_users() -> None:
    faint = cosine(DAILY, 196.0, 0.1, 0.16)
    assert isinstance(seasons_of_curve(DAILY, faint), NoSeasons)
    assert of(DAILY, faint, least_amplitude=0.05).rule == "curve"


def test_calendar_seasons_are_turned_in_the_south() -> None:
    north, south = calendar_seasons(48.0), calendar_seasons(-33.0)
    assert north.starts == (60.0, 152.0, 244.0, 335.0)
    assert apart(north.middle("maturity"), 198) < 1  # mid July
    assert apart(south.middle("maturity"), 15.0) < 1.5  # mid January
    assert (north.rule, south.rule) == ("calendar", "calendar")
    for found in (north, south):
        assert sum(found.interval(season)[1] for season in SEASONS) == pytest.approx(YEAR)


def test_tables_go_once_round_the_year() -> None:
    found = seasons_of_dates(280, 340, 60, 150)  # a southern summer over New Year
    assert isinstance(found, Seasons)
    assert found.middle("maturity") == pytest.approx(_middle(340, 60))
    assert found.middle("greenup") == 310
    with pytest.raises(FMError, match="do not follow each other"):
        seasons_of_dates(100, 250, 200, 300)
    with pytest.raises(FMError, match="not from 1 to 366"):
        seasons_of_dates(11138, 11200, 11250, 11300)
    assert seasons_of_dates(100, float("nan"), 200, 300) == NoSeasons("no dates in the table")


def _middle(a: float, b: float) -> float:
    return (a + ((b - a) % YEAR) / 2 - 1) % YEAR + 1


def test_median_day_goes_round_the_year() -> None:
    assert apart(median_day([364, 1, 3]), 1) < 1e-9
    assert median_day([100, 120, 200, float("nan")]) == pytest.approx(120)
    assert apart(median_day([360, 10]), 2.5) < 1e-9
    assert np.isnan(median_day([float("nan")]))


def test_days_that_cannot_be_meant() -> None:
    with pytest.raises(UsageError, match="comes twice"):
        seasons_of_curve([1, 50, 100, 50, 300], [0, 1, 2, 3, 0])
    with pytest.raises(UsageError, match="from 1 to 366"):
        seasons_of_curve([0, 50, 100, 150], [0, 1, 2, 3])
    with pytest.raises(UsageError, match="of one length"):
        seasons_of_curve([1, 50], [0, 1, 2])
