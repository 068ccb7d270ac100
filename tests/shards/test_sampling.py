"""Places evenly over the globe, dates by local seasons, and nothing left unsaid."""

import csv
import datetime
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from fm.errors import FMError, UsageError
from fm.geo import block_bounds, block_id
from shards.sampling import PlanRow, draw_candidates, draw_cells, plan, write_plan
from shards.sampling.phenology import SEASONS, NoSeasons, Seasons, seasons_of_curve
from shards.sampling.phenology_file import read_phenology

DAILY = np.arange(1.0, 366.0)


def seasons(peak: float) -> Seasons:
    found = seasons_of_curve(DAILY, 0.4 + 0.3 * np.cos(2 * np.pi * (DAILY - peak) / 365))
    assert isinstance(found, Seasons)
    return found


def authalic(lat: np.ndarray) -> np.ndarray:
    """Share of the globe's area south of a latitude, on WGS84 (Snyder 1987, eq. 3-12)."""
    f = 1 / 298.257223563
    e2 = f * (2 - f)
    e = np.sqrt(e2)

    def q(s: np.ndarray) -> np.ndarray:
        inverse = np.log((1 - e * s) / (1 + e * s)) / (2 * e)
        return (1 - e2) * (s / (1 - e2 * s * s) - inverse)

    return (q(np.sin(np.radians(lat))) / q(np.float64(1.0)) + 1) / 2


def kolmogorov(shares: np.ndarray) -> float:
    """Largest distance from the even distribution, times the root of the count."""
    x = np.sort(shares)
    n = len(x)
    above = (np.arange(1, n + 1) / n - x).max()
    below = (x - np.arange(n) / n).max()
    return float(np.sqrt(n) * max(above, below))


def test_every_square_kilometre_is_as_likely() -> None:
    cells, lonlat = draw_cells(4000, cell_km=100, seed=3)
    assert len(set(cells.tolist())) == 4000
    assert np.array_equal(block_id(lonlat, 100), cells)
    # 1.63 is passed by chance in 1 % of draws; drawing without replacement only narrows it
    assert kolmogorov(authalic(lonlat[:, 1])) < 1.63
    assert kolmogorov((lonlat[:, 0] + 180) / 360) < 1.63
    # the plain mistake, even in latitude, is far off
    assert kolmogorov((lonlat[:, 1] + 90) / 180) > 5


def test_points_lie_evenly_inside_their_cells() -> None:
    cells, lonlat = draw_cells(1000, cell_km=500, seed=1)
    bounds = np.array([block_bounds(int(cell), 500) for cell in cells])
    west, south, east, north = bounds.T
    low, high = authalic(south), authalic(north)
    assert kolmogorov((lonlat[:, 0] - west) / (east - west)) < 1.63
    assert kolmogorov((authalic(lonlat[:, 1]) - low) / (high - low)) < 1.63


def test_a_draw_is_fixed_and_a_larger_one_holds_it() -> None:
    cells, lonlat = draw_cells(50, cell_km=200, seed=7)
    again, same = draw_cells(200, cell_km=200, seed=7)
    assert np.array_equal(again[:50], cells)
    assert np.array_equal(same[:50], lonlat)
    other, _ = draw_cells(50, cell_km=200, seed=8)
    assert len(set(other.tolist()) & set(cells.tolist())) < 10
    assert cells[:3].tolist() == FIRST


FIRST = [1658, 3093, 8849]
"""The same on every machine and in every version: plans are published by seed."""


def test_weights_steer_and_zero_leaves_out() -> None:
    def north_thrice(lonlat: np.ndarray) -> np.ndarray:
        weight = np.where(lonlat[:, 1] > 0, 3.0, 1.0)
        return np.where(np.abs(lonlat[:, 1]) > 60, 0.0, weight)

    _, lonlat = draw_cells(2000, cell_km=50, seed=2, weights=north_thrice)
    assert np.abs(lonlat[:, 1]).max() < 60.5
    share = float((lonlat[:, 1] > 0).mean())
    # 1 % of the cells are drawn, so shares follow weights: 0.75 within 4 standard errors
    assert share == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / 2000))
    with pytest.raises(FMError, match="finite numbers from 0 on"):
        draw_cells(5, cell_km=500, weights=lambda lonlat: lonlat[:, 0])
    with pytest.raises(UsageError, match=r"only \d+ cells of 500 km"):
        draw_cells(10**6, cell_km=500)


def test_bounds_may_cross_the_date_line() -> None:
    _, lonlat = draw_cells(20, cell_km=100, bounds=(170, -30, -170, 10))
    assert (np.abs(lonlat[:, 0]) > 169).all()
    assert (lonlat[:, 1] > -31).all()
    assert (lonlat[:, 1] < 11).all()
    assert len(np.unique(np.sign(lonlat[:, 0]))) == 2


def test_candidates_are_drawn_by_cell_not_by_number() -> None:
    generator = np.random.default_rng(0)
    crowd = np.stack([10 + generator.uniform(0, 0.5, 900), 50 + generator.uniform(0, 0.3, 900)], -1)
    few = np.stack([np.linspace(-100, 100, 40), np.linspace(-40, 40, 40)], -1)
    lonlat = np.concatenate([crowd, few])
    keys = [f"p{i}" for i in range(len(lonlat))]
    chosen = draw_candidates(keys, lonlat, 40, cell_km=100)
    assert (chosen < 900).sum() <= 4  # the crowd lies in a handful of cells
    assert len(set(block_id(lonlat[chosen], 100).tolist())) == 40
    turned = draw_candidates(keys[::-1], lonlat[::-1], 40, cell_km=100)
    assert [keys[::-1][i] for i in turned] == [keys[i] for i in chosen]
    more = draw_candidates(keys, lonlat, 60, cell_km=100, per_cell=30)
    assert len(set(more.tolist())) == 60
    counts = np.unique(block_id(lonlat[more], 100), return_counts=True)[1]
    assert counts.max() > 1
    with pytest.raises(UsageError, match="with 1 of a cell"):
        draw_candidates(keys, lonlat, 60, cell_km=100)
    weights = np.ones(len(keys))
    weights[900:] = 0
    assert (draw_candidates(keys, lonlat, 3, cell_km=23, weights=weights) < 900).all()
    with pytest.raises(FMError, match="comes twice"):
        draw_candidates(["a", "a"], lonlat[:2], 1)


PLACES = ["north", "south", "desert"]
LONLAT = np.array([[10.0, 50.0], [20.0, -34.0], [21.0, -33.0]])
PHENOLOGY = {
    "north": seasons(196.0),
    "south": seasons(14.0),
    "desert": NoSeasons("an amplitude of 0.010"),
}


def rows_of(rows: list[PlanRow], key: str) -> dict[str, PlanRow]:
    return {row.season: row for row in rows if row.key == key}


def test_dates_follow_the_local_seasons() -> None:
    rows = plan(PLACES, LONLAT, PHENOLOGY, years=[2021])
    north, south = rows_of(rows, "north"), rows_of(rows, "south")
    assert north["maturity"].date == "2021-07-15"
    assert north["dormancy"].date == "2022-01-13"
    # in the south summer is in January, after the spring of the year that was drawn
    assert south["greenup"].date.startswith("2021-1")
    assert south["maturity"].date == "2022-01-14"
    assert south["dormancy"].date.startswith("2022-07")
    assert [row.season for row in rows[:4]] == list(SEASONS)
    assert {row.rule for row in north.values()} == {"curve"}
    for row in rows:
        start, date, end = map(datetime.date.fromisoformat, (row.start, row.date, row.end))
        assert start <= date <= end
        assert (end - start).days <= 60
    dates = [row.date for row in rows if row.key == "south"]
    assert dates == sorted(dates)


def test_places_without_seasons_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    by_calendar = rows_of(plan(PLACES, LONLAT, PHENOLOGY, years=[2021]), "desert")
    assert by_calendar["maturity"].date == "2022-01-15"  # southern summer
    assert by_calendar["maturity"].rule == "calendar: an amplitude of 0.010"
    assert "1 of 3 places have no seasons of their own" in capsys.readouterr().err
    near = rows_of(plan(PLACES, LONLAT, PHENOLOGY, years=[2021], flat="nearest"), "desert")
    assert near["maturity"].date == "2022-01-14"
    assert near["maturity"].rule == "nearest south, 145 km: an amplitude of 0.010"
    far = plan(PLACES, LONLAT, PHENOLOGY, years=[2021], flat="nearest", nearest_km=100)
    assert rows_of(far, "desert")["maturity"].rule.startswith("calendar")
    left = plan(PLACES, LONLAT, PHENOLOGY, years=[2021], flat="leave")
    assert {row.key for row in left} == {"north", "south"}
    with pytest.raises(UsageError, match="did you mean 'nearest'"):
        plan(PLACES, LONLAT, PHENOLOGY, years=[2021], flat="neares")
    with pytest.raises(FMError, match="1 places are not in the phenology, such as moon"):
        plan([*PLACES[:2], "moon"], LONLAT, PHENOLOGY, years=[2021])


def test_seasons_are_drawn_without_replacement() -> None:
    keys = [f"p{i}" for i in range(400)]
    lonlat = np.tile([[10.0, 50.0]], (400, 1))
    everywhere = dict.fromkeys(keys, PHENOLOGY["north"])
    rows = plan(keys, lonlat, everywhere, years=[2019, 2020, 2021], per_place=2, seed=4)
    assert len(rows) == 800
    pairs = {(row.key, row.season) for row in rows}
    assert len(pairs) == 800
    counts = [sum(row.season == season for row in rows) for season in SEASONS]
    assert max(abs(count - 200) for count in counts) < 4 * np.sqrt(400 * 0.25)
    springs = [row.date[:4] for row in rows if row.season == "greenup"]
    assert set(springs) == {"2019", "2020", "2021"}
    assert plan(
        keys[7:8], lonlat[:1], everywhere, years=[2019, 2020, 2021], per_place=2, seed=4
    ) == [row for row in rows if row.key == "p7"]


def test_plans_are_written_and_phenology_is_read(tmp_path: Path) -> None:
    rows = plan(PLACES, LONLAT, PHENOLOGY, years=[2021])
    write_plan(tmp_path / "plan.csv", rows)
    with (tmp_path / "plan.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert [line["date"] for line in lines] == [row.date for row in rows]
    write_plan(tmp_path / "plan.parquet", rows)
    table = parquet.read_table(tmp_path / "plan.parquet")
    assert table.to_pylist()[3] == vars(rows[3])
    with pytest.raises(UsageError, match=r"\.csv or \.parquet"):
        write_plan(tmp_path / "plan.txt", rows)
    with pytest.raises(FMError, match="no rows"):
        write_plan(tmp_path / "none.csv", [])
    curve = "".join(
        f"a,{int(day)},{0.5 + 0.3 * np.cos(2 * np.pi * (day - 196) / 365):.6f}\nb,{int(day)},0.1\n"
        for day in DAILY[::8]
    )
    (tmp_path / "curves.csv").write_text(f"key,day,value\n{curve}")
    found = read_phenology(tmp_path / "curves.csv")
    assert isinstance(found["a"], Seasons)
    assert abs(found["a"].middle("maturity") - 196) < 1.5
    assert found["b"] == NoSeasons("an amplitude of 0.000")
    (tmp_path / "dates.csv").write_text(
        "key,greenup,maturity,senescence,dormancy\n"
        "c,360,50,120,200\nc,4,60,124,210\nc,2,55,119,204\nd,,,,\n"
    )
    dates = read_phenology(tmp_path / "dates.csv")
    assert isinstance(dates["c"], Seasons)
    assert dates["c"].starts == pytest.approx((2, 55, 120, 204))
    assert dates["d"] == NoSeasons("no dates in the table")
    (tmp_path / "wrong.csv").write_text("key,day\na,1\n")
    with pytest.raises(FMError, match="give key, day, value or key, greenup"):
        read_phenology(tmp_path / "wrong.csv")
    (tmp_path / "dates.csv").write_text("key,greenup,maturity,senescence,dormancy\nc,9,5,1,3\n")
    with pytest.raises(FMError, match=r"dates.csv: c: days .* do not follow"):
        read_phenology(tmp_path / "dates.csv")
