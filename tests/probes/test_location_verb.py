"""`fm probe location:ENCODER`: what it writes and what it refuses."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

import fm
import probes
from fm.cli import main
from fm.errors import FMError, UsageError
from probes.location import points, verb
from probes.location.encoders import Encoder
from probes.location.pictures import draw
from probes.location.published import open_published
from probes.location.tasks import TASKS
from probes.result import Result
from tests.probes.test_location import few_continents, judged, tiny

__all__ = ["few_continents"]  # a fixture


@pytest.fixture
def small_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """The three sets with made-up numbers, in the place of the packages'."""

    def made(cache: Path) -> dict[str, points.Places]:
        sets = {}
        for name in ("land", "globe", "cities"):
            base = tiny(300, len(name))
            values, classes = {}, {}
            for task in TASKS:
                if task.places == name:
                    numbers = task.kind == "regression"
                    values[task.name] = base.values["field" if numbers else "halves"]
                    if not numbers:
                        classes[task.name] = ("west", "east")
            sets[name] = dataclasses.replace(base, name=name, values=values, classes=classes)
        return sets

    monkeypatch.setattr(points, "open_places", made)


def fm_probe(*words: object) -> int:
    return main(["probe", *map(str, words)])


@pytest.mark.usefixtures("small_places")
def test_results_of_one_benchmark(tmp_path: Path) -> None:
    out, maps = tmp_path / "results", tmp_path / "maps"
    code = fm_probe(
        *("location:sh10", "--benchmark", "location-elevation-blocks", "--protocol", "ridge,knn"),
        *("--packages", tmp_path, "--out", out, "--maps", maps),
    )
    assert code == 0
    found = {one.id: one for one in map(Result.load, out.glob("*.json"))}
    assert len(found) == 2 * 7  # the seven floors, sh10 one of them, by two protocols
    one = found["location-elevation-blocks@1--ridge@1--sh10--s0"]
    assert one.model["kind"] == "floor"
    assert one.metrics["r2"]["value"] > 0.99
    assert one.diagnostics is not None
    assert "geo_bias_moran" in one.diagnostics
    assert one.selection is not None
    assert one.selection["split"] == "val"
    drawn = [f"elevation--blocks--{protocol}--sh10--s0.png" for protocol in ("knn", "ridge")]
    assert sorted(path.name for path in maps.iterdir()) == drawn
    site = main(["leaderboard", "build", str(out), "--out", str(tmp_path / "site")])
    assert site == 0
    assert "location-elevation-blocks" in (tmp_path / "site" / "index.html").read_text()


@pytest.mark.usefixtures("small_places")
def test_the_suite_has_every_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "place"
    seen = {"name": "chips", "manifest_hash": "f" * 64, "cells": [], "cell_km": 10.0}
    encoder = fm.location.create("sh", L=4, width=8, dim=8, depth=1)
    fm.location.save(folder, encoder, {"name": "by-name", "data": seen})
    words = ("--suite", "location", "--protocol", "ridge", "--seeds", "0,1", "--json")
    assert fm_probe(f"location:{folder}", *words, "--packages", tmp_path) == 0
    found = [Result.from_dict(one) for one in json.loads(capsys.readouterr().out)]
    assert len(found) == 10 * 3 * 2 * 8
    own = [one for one in found if one.model["name"] == "by-name"]
    assert {len(one.versus) for one in own} == {7}
    assert own[0].model["kind"] == "pretrained"
    assert own[0].model["weights_sha256"]
    assert own[0].overlap["statement"].startswith("pretrained on another dataset (chips)")
    first = own[0].versus[0]
    floor = next(
        one
        for one in found
        if (one.benchmark["name"], one.model["name"], one.seed)
        == (own[0].benchmark["name"], first["name"], own[0].seed)
    )
    assert own[0].value is not None
    assert floor.value is not None
    assert first["difference"] == pytest.approx(own[0].value - floor.value)


def test_a_floors_name_is_free_where_no_floor_stands_beside() -> None:
    model = cast(Encoder, SimpleNamespace(name="satclip"))
    assert verb._called("sh40", model, floors=False) == "sh40"
    assert verb._called("mine sh40", model, floors=True) == "mine sh40"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("location:sh10", "--benchmark", "eurosat"), "eurosat gives images and location:sh10"),
        (
            ("location:sh10", "--benchmark", "location-koppen-blockz"),
            "there is no benchmark 'location-koppen-blockz'; did you mean 'location-koppen-blocks'",
        ),
        (("runs/x", "--benchmark", "location-koppen-random"), "gives places and runs/x takes"),
        (("--benchmark", "location-koppen-random"), "a floor on pixels takes images"),
        (("location:sh10",), "--benchmark is missing"),
        (("location:sh10", "--suite", "world"), "no suite 'world'"),
        (("location:sh10", "--suite", "satclip"), "--data FOLDER is for --suite satclip"),
        (("location:sh99", "--suite", "location"), "no location encoder 'sh99'"),
        (("location:sh10", "--suite", "location", "--seeds", "a"), "give whole numbers"),
        (("location:sh10", "--suite", "location", "--resize", "32"), "axes say how pixels"),
        (("location:sh10", "--suite", "location", "--adapt"), "--adapt is for models of images"),
        (
            ("location:sh10", "--benchmark", "location-koppen-random", "--protocol", "finetune"),
            "finetune@1 needs images",
        ),
        (
            ("location:sh10", "--benchmark", "location-elevation-random", "--protocol", "linear"),
            "linear@1 is for classes",
        ),
        (("runs/x", "--benchmark", "eurosat", "--data", ".", "--seeds", "1"), "--seeds is for loc"),
        (("location:", "--suite", "location"), "name a location encoder"),
        (("location:sh,L=[", "--suite", "location"), "'L=[': no value that can be read"),
        (("location:sh,L=5,L=6", "--suite", "location"), "L is given twice"),
        (("location:sh10", "--suite", "location", "--seeds", "0,1,0"), "one is there twice"),
        (("location:sh10", "--suite", "location", "--seeds", "²"), "give whole numbers"),
        (("location:sh10", "--suite", "location", "--seeds", "1", "--seed", "2"), "one of them"),
        (("location:sh10", "--suite", "location", "--protocol", ","), "names nothing"),
        (("location:sh10", "--suite", "location", "--name", "sh40"), "a floor of the table"),
        (("location:sh10", "--suite", "location", "--name", "sh40 "), "is called sh40; give"),
        (("location:sh40", "--suite", "location", "--name=-sh40"), "is called sh40; give"),
        (("location:sh10", "--suite", "location", "--name", "東"), "give a word"),
        (("location:sh10", "--benchmark", "location-koppen-random@9"), "koppen-random@1 is"),
    ],
)
@pytest.mark.usefixtures("small_places")
def test_one_line_says_what_does_not_go(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fm_probe(*words, "--packages", tmp_path) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert said in lines[-1]
    assert len(lines) == 1


@pytest.mark.usefixtures("small_places", "few_continents")
def test_seeds_that_ask_on_the_same_continent_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--benchmark", "location-elevation-continents", "--protocol", "ridge", "--no-floors")
    for seeds, told in (("0,6", True), ("0,1", False)):
        code = fm_probe("location:sh10", *words, "--seeds", seeds, "--packages", tmp_path)
        assert code == 0
        assert ("ask on the same" in capsys.readouterr().err) is told


@pytest.mark.usefixtures("small_places")
def test_a_result_of_other_weights_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate("ab"):
        encoder = fm.location.create("sh", L=4, width=8, dim=8, depth=1)
        fm.location.save(tmp_path / name, encoder, {"name": "one-name"})
        words = ("--benchmark", "location-elevation-random", "--protocol", "ridge", "--no-floors")
        where = ("--packages", tmp_path, "--out", tmp_path / "out")
        for _ in range(2):  # what is repeated is replaced
            assert fm_probe(f"location:{tmp_path / name}", *words, *where) == 2 * number
    assert "is of other weights" in capsys.readouterr().err
    (kept,) = (tmp_path / "out").glob("*.json")
    assert Result.load(kept).model["path"] == str(tmp_path / "a")


def test_evaluate_refuses_both_ways() -> None:
    with pytest.raises(UsageError, match="eurosat gives images"):
        probes.evaluate("location:sh10", "eurosat", "ridge", data=".")
    with pytest.raises(UsageError, match="location-koppen-random gives places"):
        probes.evaluate("runs/x", "location-koppen-random", "ridge", data=".")
    with pytest.raises(UsageError, match="are judged by `fm probe location:sh10`"):
        probes.evaluate("location:sh10", "location-koppen-random", "ridge", data=".")


def test_published_tables(tmp_path: Path) -> None:
    (tmp_path / "stationDataAll.csv").write_text(
        "Lon,Lat,nObs,SG_rmsep,meanT,meanP\n7.82,36.83,0.97,0.75,18.025,694\n3.25,36.72,0.9,1,,12\n"
    )
    (tmp_path / "lat_lon_country.csv").write_text("lat,lon,country\n10,20,0\n-33.5,-209,7\n5,6,3\n")
    tasks, places = open_published(tmp_path)
    assert [task.name for task in tasks] == [
        *("stations-temperature", "stations-precipitation", "satclip-country"),
    ]
    warm = places["stations-temperature"]
    np.testing.assert_allclose(warm.lonlat, [[7.82, 36.83]])  # the second has no temperature
    np.testing.assert_allclose(warm.values["stations-temperature"], [18.025])
    wet = places["stations-precipitation"].values["stations-precipitation"]
    np.testing.assert_allclose(wet, np.log1p([694, 12]))
    country = places["satclip-country"]
    # the ocean is left out; longitudes are from -180 to 180, as maps draw them
    np.testing.assert_allclose(country.lonlat, [[151, -33.5], [6, 5]])
    assert country.classes["satclip-country"] == ("3", "7")
    assert country.values["satclip-country"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lat,lon\n1,2\n", "^[^:]*csv: no column 'country'"),
        ("lat,lon,country\n1,2,x\n", "could not convert"),
        ("lat,lon,country\n120,2,4\n", "are not degrees"),
        ("lat,lon,country\n1,2,\xe9\n", "codec can't decode byte 0xe9"),
        ("Lat,Lon,meanT,meanP\n1,2,3,-9999\n", "meanP of -9999 cannot be"),
    ],
)
def test_other_tables_are_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(FMError, match="holds none of"):
        open_published(tmp_path)
    name = "stationDataAll.csv" if "meanP" in text else "lat_lon_country.csv"
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(FMError, match=said):
        open_published(tmp_path)


def test_maps_of_classes(tmp_path: Path) -> None:
    cell = judged(tiny(), "wrap", "continents")[1]
    path = draw(cell, tiny(), "wrap", tmp_path)
    assert path.name == "halves--continents--ridge--wrap--s0.png"
    assert path.read_bytes()[:4] == b"\x89PNG"
