"""The partition of the Earth, the places that scores of its cells answer with, and their errors."""

import healpix
import numpy as np
import pytest

from fm.errors import FMError, UsageError
from fm.geo import great_circle_m
from probes.geolocation import choice
from probes.geolocation.ceiling import CELL, IMAGE, nearest_km, words
from probes.geolocation.cells import FINEST, NONE, Cells, mean_on_sphere, partition
from probes.location.points import on_sphere
from probes.statistics.bootstrap import intervals, paired
from probes.statistics.permutation import sign_flip
from probes.statistics.places import LADDER_KM, PlaceAnswers


def crowded(count: int = 4000, seed: int = 1) -> np.ndarray:
    """Places all over the globe, half of them around one town."""
    rng = np.random.default_rng(seed)
    town = rng.normal([100.5, 13.7], 0.5, (count // 2, 2))
    return np.concatenate([on_sphere(count // 2, seed), town])


def by_recursion(lonlat: np.ndarray, largest: int, smallest: int) -> dict[tuple[int, int], int]:
    """PlaNet's rule in its own words, one cell at a time."""
    found: dict[tuple[int, int], int] = {}

    def numbers(level: int, rows: np.ndarray) -> np.ndarray:
        return healpix.ang2pix(2**level, *lonlat[rows].T, nest=True, lonlat=True)

    def visit(level: int, index: int, rows: np.ndarray) -> None:
        if len(rows) > largest:
            children = numbers(level + 1, rows)
            for child in range(4 * index, 4 * index + 4):
                visit(level + 1, child, rows[children == child])
        elif len(rows) >= smallest:
            found[level, index] = len(rows)

    every = np.arange(len(lonlat))
    for root in range(12):
        visit(0, root, every[numbers(0, every) == root])
    return found


def test_cells_are_those_of_the_recursive_rule() -> None:
    lonlat = crowded()
    cells = partition(lonlat, largest=60, smallest=8)
    want = by_recursion(lonlat, 60, 8)
    found = zip(cells.level.tolist(), cells.index.tolist(), strict=True)
    assert dict(zip(found, cells.counts.tolist(), strict=True)) == want
    assert cells.counts.max() <= 60
    assert cells.counts.min() >= 8
    assert cells.left_out == len(lonlat) - cells.counts.sum() > 0
    assert cells.level.max() - cells.level.min() >= 4  # small where places are many
    assert cells.undivided == 0


def test_every_place_belongs_to_one_cell_or_to_none() -> None:
    cells = partition(crowded(), largest=60, smallest=8)
    asked = on_sphere(3000, 7)
    held = np.stack(
        [
            healpix.ang2pix(2**level, *asked.T, nest=True, lonlat=True) == index
            for level, index in zip(cells.level.tolist(), cells.index.tolist(), strict=True)
        ]
    )
    assert held.sum(0).max() == 1
    assert (cells.inside(asked) == np.where(held.any(0), held.argmax(0), NONE)).all()
    assert (cells.of(asked) == NONE).any()
    # with the nearest centre every place of the globe has a cell
    whole = partition(crowded(), largest=60, smallest=8, rest="nearest")
    number = whole.of(asked)
    assert number.min() >= 0
    astray = whole.inside(asked) == NONE
    assert astray.any()
    far = great_circle_m(asked[astray][:, None], whole.centres[None])
    assert (far.argmin(1) == number[astray]).all()
    # and none for a place that is not known
    assert whole.of(np.array([[np.nan, 3.0], [3.0, np.nan]])).tolist() == [NONE, NONE]


def test_training_places_lie_in_the_cells_they_made() -> None:
    lonlat = crowded()
    cells = partition(lonlat, largest=60, smallest=1)
    assert (np.bincount(cells.inside(lonlat), minlength=len(cells)) == cells.counts).all()


def test_order_and_turns_of_longitude_change_nothing() -> None:
    lonlat = crowded(600)
    first = partition(lonlat, largest=30, smallest=3)
    turned = lonlat[::-1] + np.array([360.0, 0.0])
    second = partition(turned, largest=30, smallest=3)
    assert first.names == second.names
    assert np.abs(first.centres - second.centres).max() < 1e-9


def test_poles_and_date_line_are_places_like_others() -> None:
    rng = np.random.default_rng(3)
    pole = np.stack([rng.uniform(-180, 180, 40), rng.uniform(89.9, 90, 40)], 1)
    line = np.stack([180 + rng.uniform(-0.2, 0.2, 40), rng.uniform(-0.2, 0.2, 40)], 1)
    line[:, 0] = (line[:, 0] + 180) % 360 - 180  # on both sides: -179.9 and 179.9
    cells = partition(np.concatenate([pole, line]), largest=200, smallest=1)
    # one root holds all of the date line's places, and its centre is among them, not at longitude 0
    number = cells.inside(line)
    assert len(set(number.tolist())) == 1
    assert great_circle_m(cells.centres[number[0]], np.array([180.0, 0.0])) < 10e3
    assert (
        cells.inside(np.array([[180.0, 0.0], [-180.0, 0.0], [540.0, 0.0]])).tolist()
        == [number[0]] * 3
    )
    # all longitudes of the pole are one place, whichever of the four polar roots it is numbered in
    assert len(set(cells.inside(np.array([[-180.0, -90.0], [180.0, -90.0]])).tolist())) == 1
    near = great_circle_m(cells.centres[cells.inside(pole)], pole)
    assert near.max() < 30e3


def test_centres_are_means_on_the_sphere_or_middles_of_cells() -> None:
    lonlat = np.array([[170.0, 10.0], [-170.0, 10.0], [20.0, 5.0]])
    # symmetric about the date line: the mean lies on it, a little north of both
    (mean,) = mean_on_sphere(lonlat[:2], np.zeros(2, int), np.zeros((1, 2)))
    assert abs(abs(mean[0]) - 180) < 1e-9
    assert mean[1] == pytest.approx(
        np.degrees(np.arctan(np.tan(np.radians(10)) / np.cos(np.radians(10))))
    )
    # opposite places have no mean
    opposite = np.array([[0.0, 0.0], [180.0, 0.0]])
    assert mean_on_sphere(opposite, np.zeros(2, int), np.array([[7.0, 8.0]])).tolist() == [
        [7.0, 8.0]
    ]
    cells = partition(lonlat[2:], largest=1, smallest=1, coarsest=2, centre="cell")
    assert cells.level.tolist() == [2]
    lon, lat = healpix.pix2ang(4, cells.index, nest=True, lonlat=True)
    assert np.allclose(cells.centres, np.stack([lon, lat], 1))
    assert np.allclose(partition(lonlat[2:], largest=1, smallest=1).centres, lonlat[2:])


def test_places_at_one_spot_cannot_be_parted() -> None:
    lonlat = np.concatenate([np.tile([[8.0, 47.0]], (50, 1)), [[9.0, 47.0]]])
    cells = partition(lonlat, largest=10, smallest=1)
    assert sorted(cells.counts.tolist()) == [1, 50]
    assert cells.level.max() == FINEST
    assert cells.undivided == 1
    assert partition(lonlat, largest=10, smallest=1, finest=5).level.max() == 5


@pytest.mark.parametrize(
    ("lonlat", "options", "error", "words"),
    [
        ([[0, 0]], {"largest": 1, "smallest": 2}, UsageError, "1 <= smallest <= largest"),
        ([[0, 0]], {"largest": 1, "smallest": 1, "finest": 25}, UsageError, "levels 0 to 25"),
        ([[0, 0]], {"largest": 9, "smallest": 5}, FMError, "no cell holds 5 of 1"),
        ([[47, 100]], {"largest": 1, "smallest": 1}, FMError, "beyond the poles"),
        ([[np.nan, 1]], {"largest": 1, "smallest": 1}, FMError, "unknown"),
        (np.zeros((0, 2)), {"largest": 1, "smallest": 1}, FMError, "there is none"),
    ],
)
def test_what_makes_no_cells_is_refused(lonlat, options, error, words) -> None:
    with pytest.raises(error, match=words):
        partition(np.array(lonlat, float), **options)


def hand_made() -> Cells:
    """Five cells: 0/0, three children of root 1 (one divided again), none elsewhere."""
    level, index = np.array([0, 1, 2, 2, 1]), np.array([0, 4, 20, 21, 6])
    centres = np.array([[0.0, 0.0], [90.0, 0.0], [100.0, 0.0], [101.0, 0.0], [110.0, 0.0]])
    return Cells(level, index, np.ones(5, int), centres, "none", 0, 0)


def test_three_ways_to_answer() -> None:
    cells = hand_made()
    chance = np.array([[0.4, 0.1, 0.2, 0.25, 0.05], [0.6, 0.1, 0.1, 0.1, 0.1]])
    # root 1 has 0.6 of the first sample, 1/5 (2/20 and 2/21) 0.45 of that, and 2/21 the larger half
    assert choice.descend(cells, chance).tolist() == [3, 0]
    made = choice.places(cells, chance, "probabilities")
    assert made[:, 0].tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert made[:, 2].tolist() == [[101.0, 0.0], [0.0, 0.0]]
    # on the equator the mean's longitude is that of the weighted sum of directions
    angle = np.radians(cells.centres[:, 0])
    want = np.degrees(np.arctan2((chance * np.sin(angle)).sum(1), (chance * np.cos(angle)).sum(1)))
    assert np.allclose(made[:, 1, 0], want)
    assert np.allclose(choice.places(cells, np.log(chance), "logits"), made)
    assert choice.places(cells, chance, None).shape == (2, 1, 2)
    assert np.isnan(choice.places(cells, np.full((1, 5), np.nan), None)).all()


def test_errors_are_great_circles_and_shares_are_counted() -> None:
    truth = np.array([[179.9, 60.0], [0.0, 90.0], [10.0, 0.0], [20.0, 0.0]])
    answer = np.array([[-179.9, 60.0], [123.0, 89.0], [10.0, 0.001], [np.nan, np.nan]])
    found = PlaceAnswers.of(truth, answer[:, None], np.arange(4))
    degree = np.pi * 6371.0088 / 180
    # 0.2 degrees of the parallel of 60 degrees are a tenth of a degree of a great circle, nearly
    assert found.km[:3, 0] == pytest.approx([0.1 * degree, degree, 0.001 * degree], rel=1e-5)
    assert np.isinf(found.km[3, 0])
    metrics = found.metrics(np.ones(4))
    shares = [float(metrics[f"acc@{reach}km"]) for reach in LADDER_KM]
    assert shares == [0.25, 0.5, 0.75, 0.75, 0.75]
    assert metrics["km_median"] == pytest.approx((0.1 + 1) / 2 * degree, rel=1e-5)
    with pytest.raises(ValueError, match="not known"):
        PlaceAnswers.of(answer, answer[:, None], np.arange(4))


def test_metrics_of_a_resample_are_those_of_the_repeated_samples() -> None:
    rng = np.random.default_rng(2)
    km, unit = rng.gamma(1, 800, (57, 3)), rng.integers(0, 9, 57)
    answers = PlaceAnswers(km, unit)
    counts = rng.multinomial(9, np.full(9, 1 / 9), size=40)
    found = answers.metrics(counts.reshape(8, 5, 9))
    for n, count in enumerate(counts):
        rows = np.repeat(np.arange(57), count[unit])
        for column, way in enumerate(("", "_mean", "_tree")):
            median = np.median(km[rows, column])
            assert found[f"km_median{way}"].ravel()[n] == pytest.approx(median)
        for reach in LADDER_KM:
            share = (km[rows, 0] <= reach).mean()
            assert found[f"acc@{reach}km"].ravel()[n] == pytest.approx(share)
    whole = intervals(answers, 0)["km_median"]
    assert whole["low"] < whole["value"] < whole["high"]


def test_two_models_are_compared_by_unit() -> None:
    rng = np.random.default_rng(4)
    unit = np.repeat(np.arange(12), 5)
    good = PlaceAnswers(rng.gamma(1, 100, (60, 3)), unit)
    bad = PlaceAnswers(rng.gamma(1, 3000, (60, 1)), unit)
    assert paired(good, bad, "km_median", 0)["high"] < 0
    assert sign_flip(good, bad, "acc@750km", 0)["p"] < 0.05


def test_ceilings_tell_what_a_split_allows() -> None:
    cells = partition(np.array([[0.0, 0.0], [90.0, 0.0]]), largest=1, smallest=1)
    train = np.array([[0.0, 0.0], [80.0, 0.0]])
    test = np.array([[0.0, 0.001], [100.0, 0.0]])
    km = nearest_km(cells, train, test)
    degree = np.pi * 6371.0088 / 180
    assert km[CELL] == pytest.approx([0.001 * degree, 10 * degree])
    assert km[IMAGE] == pytest.approx([0.001 * degree, 20 * degree])
    assert "best cell is within 1/25/200/750/2500 km of 50%/50%/50%/50%/100%" in words(
        CELL, km[CELL]
    )
