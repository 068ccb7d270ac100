"""Series: whose images they are, whole series with filled places, and single images."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from fm.errors import FMError
from probes.benchmarks.base import Inputs
from probes.benchmarks.dates import DAY, Dates
from tests.probes import vectors


def when(*days: str) -> np.ndarray:
    return np.array([datetime.fromisoformat(d).replace(tzinfo=UTC).timestamp() for d in days])


def dates(lengths=(3, 1, 2), **more) -> Dates:
    """Image n is full of n + 1; its upper left pixel is invalid and zero."""
    owner = np.repeat(np.arange(len(lengths)), lengths)

    def read(index):
        pixels = np.ones((len(index), 2, 2, 2), np.uint16) * (index + 1)[:, None, None, None]
        valid = np.ones((len(index), 2, 2), bool)
        valid[:, 0, 0] = False
        return Inputs({"m": np.where(valid[:, None], pixels, 0)}, {"m": valid})

    times = np.concatenate([DAY * (10.0 * i + np.arange(n)) for i, n in enumerate(lengths)])
    return Dates(len(lengths), owner, times, read, **more)


def test_days_are_those_of_the_year_in_utc():
    days = ("2018-01-01", "2018-12-31T23:59:59", "2020-02-29", "2020-12-31", "1969-12-31T01:00")
    found = Dates(5, np.arange(5), when(*days), lambda index: None)
    assert found.days.tolist() == [1, 365, 60, 366, 365]


def test_a_series_is_its_images_and_filled_places_say_so():
    found = dates().series(np.array([2, 0]))
    assert found.pixels["m"].shape == (2, 3, 2, 2, 2)
    assert found.pixels["m"][:, :, 0, 1, 1].tolist() == [[5, 6, 0], [1, 2, 3]]
    assert found.valid["m"][0].any((1, 2)).tolist() == [True, True, False]
    assert not found.valid["m"][:, :, 0, 0].any()
    np.testing.assert_array_equal(found.times / DAY, [[20, 21, np.nan], [0, 1, 2]])


def test_single_images_are_in_the_splits_of_their_series():
    made = replace(
        vectors.data(np.arange(3), ["train", "val", "test"]),
        dates=dates(),
        lonlat=lambda index: index[:, None] * [1.0, 2.0],
    )
    single = made.single()
    assert single.split.tolist() == ["train"] * 3 + ["val"] + ["test"] * 2
    assert single.unit.tolist() == [0, 0, 0, 1, 2, 2]
    assert len(single.targets) == 6
    assert single.lonlat(np.array([4]))[0].tolist() == [2, 4]
    inputs = single.read(np.array([4, 0]))
    assert inputs.pixels["m"][:, 0, 1, 1].tolist() == [5, 1]
    assert inputs.times.tolist() == [20 * DAY, 0]
    assert single.single() is single


def test_a_year_that_is_not_known_is_not_told():
    found = dates(years=False)
    assert np.isnan(found.images(np.arange(2)).times).all()
    assert np.isnan(found.series(np.arange(2)).times).all()
    assert found.days[0] == 1


def test_thinned_keeps_the_ends():
    found = dates((7, 2)).thinned(3)
    assert (found.times / DAY).tolist() == [0, 3, 6, 10, 11]
    assert found.owner.tolist() == [0, 0, 0, 1, 1]
    assert found.images(np.array([1, 3])).pixels["m"][:, 0, 1, 1].tolist() == [4, 8]
    assert found.span == "series of 2 to 3 dates"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"count": 4}, "1 series have no image"),
        ({"owner": np.array([0, 0, 0, 2, 2, 2])}, "1 series have no image"),
        ({"owner": np.array([0, 0, 1, 0, 2, 2])}, "sample after sample"),
        ({"times": np.arange(6.0)[::-1]}, "in the order of time"),
        ({"times": np.array([0, 1, np.nan, 3, 4, 5])}, "known time"),
    ],
)
def test_what_is_no_series_is_refused(change, words):
    with pytest.raises(FMError, match=words):
        replace(dates(), **change)
