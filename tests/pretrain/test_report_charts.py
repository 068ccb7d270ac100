"""Numbers on their way to a chart: nothing hidden, nothing invented."""

import json
import re

import numpy as np
import pytest

from pretrain.report.charts import Chart, Line, draw
from pretrain.report.names import families, kind, short
from pretrain.report.read import Series
from pretrain.report.spectra import broken
from pretrain.report.thin import ends, thin


@pytest.mark.parametrize("count", [1, 299, 300, 301, 100_003])
def test_thinning_hides_no_leap_and_keeps_the_end(count):
    values = np.full(count, 2.0)
    values[count // 3] = 99.0
    values[count // 2] = -5.0
    made = thin(Series(np.arange(1, count + 1), values), points=300)
    assert len(made.steps) <= 300
    assert made.high.max() == values.max()
    assert made.low.min() == values.min()
    assert made.steps[-1] == count
    assert (np.diff(made.steps) > 0).all()
    whole = np.diff([0, *made.steps])
    assert float((made.mean * whole).sum()) == pytest.approx(values.sum())


def test_ends_are_those_of_the_result():
    values = np.arange(50.0)
    assert ends(Series(np.arange(50), values)) == (2.0, 47.0)
    assert ends(Series(np.arange(3), values[:3])) == (0.0, 2.0)


def _path(markup, class_="line"):
    return re.findall(rf'<path class="{class_}" d="([^"]*)"', markup)


def test_a_line_goes_through_its_points_and_stops_at_gaps():
    x, y = np.array([0.0, 1, 2, 3, 4]), np.array([0.0, 1, np.nan, 1, 0])
    made = draw(Chart("t", [Line("", x, y)], (0.0, 4.0), "x"))
    assert _path(made) == ["M0.0 1000.0L250.0 0.0M750.0 0.0L1000.0 1000.0"]
    data = json.loads(re.search(r'data-lines="([^"]*)"', made)[1].replace("&quot;", '"'))
    assert data == [{"name": "", "x": [0, 1, 3, 4], "y": [0.0, 1.0, 1.0, 0.0]}]


def test_wide_ranges_of_positive_values_are_logarithmic():
    x = np.array([0.0, 1, 2])
    made = draw(Chart("t", [Line("", x, np.array([0.01, 1.0, 100.0]))], (0.0, 2.0), "x"))
    assert "logarithmic" in made
    assert _path(made) == ["M0.0 1000.0L500.0 500.0L1000.0 0.0"]
    assert "logarithmic" not in draw(
        Chart("t", [Line("", x, np.array([0.0, 1.0, 100.0]))], (0.0, 2.0), "x")
    )


def test_spectra_break_where_bands_are_missing():
    nm = np.concatenate([np.arange(400, 1300, 10), np.arange(1500, 1800, 10)]).astype(float)
    shuffled = np.random.default_rng(0).permutation(len(nm))
    places, values = broken(nm[shuffled], nm[shuffled] * 2)
    assert np.isfinite(places).all()
    assert (np.diff(places) > 0).all()
    assert np.isnan(values).sum() == 1
    assert 1290 < places[np.isnan(values)][0] < 1500
    kept = np.isfinite(values)
    assert np.array_equal(values[kept], places[kept] * 2)
    # few bands are points that a line joins, however far they lie apart
    assert not np.isnan(broken(np.array([490.0, 2200.0, 560.0]), np.ones(3))[1]).any()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.62864, "0.6286"),
        (-2.5, "−2.5"),
        (4e-4, "4e−4"),
        (1.2345e-7, "1.23e−7"),
        (51200, "51.2k"),
        (3.2e9, "3.2G"),
        (1000, "1000"),
        (1e30, "1e30"),
    ],
)
def test_numbers_are_short(value, text):
    assert short(value) == text


def test_figures_have_units_and_families():
    assert (kind("mfu").unit, kind("mfu").factor) == ("%", 100)
    assert kind("cuda_peak_gib").unit == "GiB"
    assert kind("loss/s2l1c_10").section == "learning"
    assert kind("loss/s2l1c_10").title == "Loss: s2l1c_10"
    assert kind("never_heard_of").title == "Never heard of"
    assert kind("never_heard_of").section == "other"
    assert families(["lr", "loss/a", "loss/b", "x/y/z"]) == {
        "lr": ["lr"],
        "loss": ["loss/a", "loss/b"],
        "x/y": ["x/y/z"],
    }
