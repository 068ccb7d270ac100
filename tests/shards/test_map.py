"""Maps: what is counted, where it is drawn, and that a page needs nothing else."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shards
from fm.cli import main
from fm.errors import FMError, UsageError
from fm.geo import block_id
from shards import splits
from shards.seeing import land
from shards.seeing import map as map_module
from shards.seeing import tally as tally_module
from shards.seeing.map_html import page
from shards.seeing.tally import SEASONS, tally

COUNT = 300


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> shards.Dataset:
    folder = tmp_path_factory.mktemp("map") / "world"
    generator = np.random.default_rng(0)

    def samples():
        for i in range(COUNT):
            place = (float(generator.uniform(-180, 180)), float(generator.uniform(-90, 90)))
            yield shards.Sample(
                key=f"k{i:03d}",
                arrays={"s1grd_10": np.full((2, 1, 1), i, np.float32)},
                lonlat=None if i % 50 == 0 else place,
                time=None if i % 30 == 0 else f"2021-{1 + i % 12:02d}-10",
                split=(None, "train", "te<st")[i % 3],
            )

    shards.write_dataset(
        folder,
        samples(),
        name="world",
        modalities={"s1grd_10": shards.Declared("sentinel1-grd", ("VV", "VH"))},
        provenance={},
        licence="CC0-1.0",
    )
    return shards.open(folder)


@pytest.fixture
def flat(monkeypatch: pytest.MonkeyPatch) -> None:
    """A coarse coast instead of the real one, which takes seconds to read."""
    monkeypatch.setattr(land, "_land", lambda: np.arange(8)[None] % 2 == np.arange(4)[:, None] % 2)


@given(lon=st.floats(-180, 180), lat=st.floats(-90, 90))
@settings(max_examples=60, deadline=None)
def test_the_projection_is_that_of_proj_and_goes_back(lon: float, lat: float) -> None:
    from pyproj import Proj

    ours = land.equal_earth(np.array([lon, lat]))
    assert ours == pytest.approx(Proj("+proj=eqearth +R=1")(lon, lat), abs=1e-9)
    back = land.inverse_equal_earth(ours * (1 - 1e-12))
    if abs(lat) < 89.99 and abs(lon) < 179.99:
        assert back == pytest.approx([lon, lat], abs=1e-6)


def test_outside_of_the_globe_there_is_nothing() -> None:
    assert np.isnan(land.inverse_equal_earth(np.array([[2.7, 1.2], [0.0, 1.4], [3.0, 0.0]]))).all()


@pytest.mark.parametrize("split", [False, True])
def test_samples_are_counted_where_and_when_they_are(world, monkeypatch, split: bool) -> None:
    monkeypatch.setattr(tally_module, "_AT_ONCE", 64)
    ds = world.where("lon is None or lat < 60")
    made = splits.random(world, {"a": 0.5, "b": 0.5}) if split else None
    found = tally({"world": ds}, 500, made)
    rows = ds.index.to_pylist()
    blocks = block_id(ds.lonlat, 500)
    assert found.blocks.tolist() == sorted(set(blocks[blocks >= 0].tolist()))
    assert found.unplaced == sum(row["lon"] is None for row in rows) == (blocks < 0).sum()
    assert found.samples == len(rows)
    part_of = {key: part for part in (made.lists if made else ()) for key in made.lists[part]}
    want = np.zeros_like(found.counts["split"])
    for row, block in zip(rows, blocks, strict=True):
        if block >= 0:
            part = part_of[row["key"]] if made else row["split"] or "none"
            want[np.searchsorted(found.blocks, block), found.names["split"].index(part)] += 1
    assert np.array_equal(found.counts["split"], want)
    months = [
        sum((row["time"].month if row["time"] else 13) == m for row in rows) for m in range(1, 14)
    ]
    for kind in tally_module.KINDS:
        assert found.months[kind].sum(axis=1).tolist() == months
        assert found.counts[kind].sum() == len(rows) - found.unplaced


def test_a_season_is_that_of_the_hemisphere() -> None:
    month = np.array([11, 0, 1, 2, 4, 5, 7, 8, 10, 12])
    north = tally_module._season(month, np.full(10, 50.0))
    assert [SEASONS[k] for k in north] == [
        *["winter"] * 3,
        *["spring"] * 2,
        *["summer"] * 2,
        *["autumn"] * 2,
        "unknown",
    ]
    south = tally_module._season(month, np.full(10, -50.0))
    opposite = {"winter": "summer", "summer": "winter", "spring": "autumn", "autumn": "spring"}
    assert [SEASONS[k] for k in south] == [opposite.get(SEASONS[k], "unknown") for k in north]
    nowhere = tally_module._season(month, np.full(10, np.nan))
    assert {SEASONS[k] for k in nowhere} == {"unknown"}


@pytest.mark.usefixtures("flat")
@pytest.mark.parametrize("by", ["density", "split"])
def test_a_picture_is_drawn(world, by: str, tmp_path: Path, capsys) -> None:
    line = ["shards", "map", str(world.path), "--out", str(tmp_path / "map.png"), "--by", by]
    assert main([*line, "--json", "--km", "500"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["samples"], about["unplaced"]) == (COUNT, 6)
    assert about["split"] == {"train": 100, "te<st": 100, "none": 100}
    assert sum(about["season"].values()) == COUNT
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("flat")
def test_a_page_is_whole_in_itself(world, tiny_dataset: Path, tmp_path: Path) -> None:
    found = map_module.draw([world.path, tiny_dataset], tmp_path / "map.html", by="dataset", km=400)
    text = (tmp_path / "map.html").read_text()
    assert not re.search(r"https?:|//[a-z]+\.|@[A-Z]+@|<link|import ", text)
    assert re.findall(r"<script[^>]*src|url\(", text) == []
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert data["names"]["dataset"] == ["world", "tiny"]
    assert "te<st" in data["names"]["split"]
    assert "te<st" not in text  # escaped, so that no name is taken for a tag
    assert data["sums"]["dataset"] == [COUNT - 6, 24]
    assert len(data["blocks"]) == len(data["counts"]["split"]) == len(found.blocks)
    assert data["image"].startswith("data:image/png;base64,")
    # every block lies on the canvas, upright, its centre where the projection puts it
    blocks = np.array(data["blocks"])
    assert (blocks[:, 0] >= blocks[:, 1]).all()
    assert (blocks[:, 2] <= blocks[:, 3]).all()
    assert blocks.min() >= -0.1
    assert blocks[:, 2:].max() <= data["width"] + 0.1
    assert blocks[:, :2].max() <= data["height"] + 0.1
    (vienna,) = np.flatnonzero(found.blocks == block_id(np.array([10.3, 50.2]), 400))
    right, top = land.equal_earth(np.array([[180.0, 0], [0, 90.0]])).max(axis=0)
    x, y = land.equal_earth(np.array([10.3, 50.2]))
    at = (x + right) / (2 * right) * data["width"], (top - y) / (2 * top) * data["height"]
    assert blocks[vienna, 4] < at[0] < blocks[vienna, 3]
    assert blocks[vienna, 1] < at[1] < blocks[vienna, 0]


@pytest.mark.slow  # a gigabyte is unpacked
def test_land_is_where_it_is() -> None:
    mask = land._land()
    if mask is None:
        pytest.skip("global-land-mask is not installed (extra geo)")
    assert mask.shape == (1800, 3600)
    weight = np.cos(np.radians(90 - (np.arange(1800) + 0.5) / 10))
    share = (mask * weight[:, None]).sum() / (weight.sum() * 3600)
    assert share == pytest.approx(0.29, abs=0.01)  # of the Earth is land
    for lon, lat, dry in ((10, 50, 1), (-30, 40, 0), (133, -25, 1), (-100, 40, 1), (-150, 0, 0)):
        assert mask[int((90 - lat) * 10), int((lon + 180) * 10)] == dry
    image, extent = land.picture(300)
    assert extent == pytest.approx((-2.70663, 2.70663, -1.31736, 1.31736), abs=1e-5)
    assert np.bincount(image.ravel())[2] / (image > 0).sum() == pytest.approx(0.29, abs=0.01)


def test_without_coasts_a_map_is_drawn_all_the_same(world, monkeypatch, tmp_path: Path) -> None:
    land._land.cache_clear()
    monkeypatch.setattr(land, "find_spec", lambda name: None)
    assert land.picture(100) is None
    map_module.draw([world.path], tmp_path / "map.png", km=500)
    assert "data:image/png" in page(tally({"world": world}, 500), "season")
    land._land.cache_clear()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--out", "map.pdf"], ".png or .html"),
        (["--out", "map.png", "--km", "5"], "25 to 1000"),
        (["--out", "map.png", "--by", "colour"], "--by"),
        (["--out", "map.png", "--split", "none.json"], "no such split"),
    ],
)
def test_wrong_requests_are_one_line(world, words, text, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["shards", "map", str(world.path), *words]) in (1, 2)
    error = capsys.readouterr().err.strip()
    assert text in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_split_is_that_of_the_one_dataset(world, tiny_dataset: Path, tmp_path: Path) -> None:
    splits.random(world).write(tmp_path / "a.json")
    with pytest.raises(FMError, match="divides another dataset"):
        map_module.draw([tiny_dataset], tmp_path / "m.png", split=tmp_path / "a.json")
    with pytest.raises(UsageError, match="give one dataset"):
        map_module.draw([tiny_dataset, world.path], tmp_path / "m.png", split=tmp_path / "a.json")
    with pytest.raises(UsageError, match="named twice"):
        map_module.draw([world.path] * 3, tmp_path / "m.png")
