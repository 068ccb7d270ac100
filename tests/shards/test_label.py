"""Labels of land cover: from a season file, rasters and masks, into a dataset that reads back."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shards
from fm.cli import main
from fm.errors import FMError, UsageError
from fm.files import sha256_file
from shards.labelling.add import add_label
from shards.labelling.label import label
from shards.labelling.legends import LEGENDS
from shards.labelling.maps import Footprint, Maps
from shards.labelling.shares import Rule

DECLARED = {"l7gls_28": shards.Declared("landsat7-etm-gls", ("B1", "B2"), nodata=0)}
MASK = shards.LabelInfo("cover", "mask", ("none", "wet", "dry"), ignore=0, member="cover_px")
UTM = "EPSG:32633"


def write(
    out: Path, keys: Sequence[str], *, images: int | None = None, **changes: Any
) -> shards.Dataset:
    """Write patches of 8 x 8 pixels of 30 m, side by side from (500000, 5000000) eastwards."""
    rng = np.random.default_rng(0)

    def samples():
        for i, key in enumerate(keys):
            shape = (2, 8, 8) if images is None else (images, 2, 8, 8)
            mask = np.zeros((8, 8), np.uint8)
            mask[:, :4], mask[:2, 4:] = 1, 2  # half wet, an eighth dry, the rest unknown
            yield shards.Sample(
                key=key,
                arrays={"l7gls_28": rng.integers(1, 255, shape).astype(np.uint8), "cover_px": mask},
                lonlat=(15.0, 45.0),
                time=f"2020-{3 * (i % 4) + 1:02d}-15",
                times=None
                if images is None
                else [f"2020-{3 * n + 1:02d}-15" for n in range(images)],
                labels={"scene_a": " ".join(f"S{i}{n}" for n in range(images or 1))},
                crs=UTM,
                transform=(30.0, 0.0, 500_000.0 + 240 * i, 0.0, -30.0, 5_000_000.0),
            )

    labels = {"cover": MASK, "scene_a": shards.LabelInfo("scene_a", "text")}
    settings = {"name": "patches", "modalities": DECLARED, "labels": labels, **changes}
    about = {"provenance": {"source": "a test"}, "licence": "CC0-1.0"}
    shards.write_dataset(out, samples(), **about, **settings)
    return shards.open(out)


def raster(path: Path, numbers: np.ndarray, transform: Any, crs: str, nodata: int = 255) -> Path:
    import rasterio

    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "crs": crs, "nodata": nodata}
    height, width = numbers.shape
    with rasterio.open(
        path, "w", height=height, width=width, transform=transform, **profile
    ) as out:
        out.write(numbers.astype(np.uint8), 1)
    return path


def affine(*values: float) -> Any:
    from rasterio import Affine

    return Affine(*values)


def column(out: Path, name: str = "landcover") -> list[Any]:
    return list(shards.open(out).index.column(name).to_pylist())


def first(out: Path, count: int, name: str = "landcover") -> np.ndarray:
    ds = shards.open(out)
    return next(ds.loader(count, shuffle=False, labels=[name])).labels[name].numpy()


# season files


def season_file(path: Path, content: Any) -> str:
    path.write_text(json.dumps(content))
    return str(path)


def test_seasons_of_single_images_by_scene_or_number(tmp_path: Path) -> None:
    ds = write(tmp_path / "a", ["0000001_0", "0000001_1", "0000002_0", "0000003_0"])
    content = {
        "0000001": {"S00": ["8", "1"], "1": ["0"]},
        "0000002": {"S20": []},  # an empty list is no label
    }
    done = label(ds, [season_file(tmp_path / "ml.json", content)], tmp_path / "b")
    assert column(tmp_path / "b") == [[1, 8], [0], None, None]
    assert (done.known, done.images) == (2, 4)
    assert {word: n for word, n in done.counts.items() if n} == {
        "water": 1,
        "trees": 1,
        "snow and ice": 1,
    }
    found = first(tmp_path / "b", 4)
    assert found[0].nonzero()[0].tolist() == [1, 8]
    assert np.isnan(found[2:]).all()


def test_seasons_of_series_label_each_image(tmp_path: Path) -> None:
    ds = write(tmp_path / "a", ["p", "q", "r"], images=4)
    content = {"p": {"S03": ["2"], "0": ["4", "5"], "2": []}, "r": {"S20": [7]}}
    label(ds, [season_file(tmp_path / "ml.json", content)], tmp_path / "b")
    assert column(tmp_path / "b") == [[[4, 5], None, None, [2]], None, [[7], None, None, None]]
    found = first(tmp_path / "b", 3)
    assert found.shape == (3, 4, 9)
    known = ~np.isnan(found).any(axis=2)
    assert known.tolist() == [[True, False, False, True], [False] * 4, [True, False, False, False]]
    assert found[0, 0].nonzero()[0].tolist() == [4, 5]
    assert found[0, 3].nonzero()[0].tolist() == [2]
    info = shards.open(tmp_path / "b").info
    assert (info.labels["landcover"].images, info.format_version) == (4, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"x": {"S00": ["1"]}}, "none of its seasons is in"),
        ({"0000001": {"S00": ["9"]}}, "class 9, there are 9"),
        ({"0000001": {"S00": "1"}}, "no list of classes"),
        ({"0000001": {"S00": ["one"]}}, "no list of class numbers"),
        ({"0000001": {"S00": [1.5]}}, "no list of class numbers"),
        ({"0000001": {"S00": [True]}}, "no list of class numbers"),
        ({"0000001": ["1"]}, "holds no seasons"),
        ([], "no locations"),
    ],
)
def test_a_season_file_that_does_not_fit_is_one_line(
    tmp_path: Path, content: Any, reason: str
) -> None:
    ds = write(tmp_path / "a", ["0000001_0"])
    with pytest.raises(FMError, match=reason) as error:
        label(ds, [season_file(tmp_path / "ml.json", content)], tmp_path / "b")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "b").exists()


def test_a_file_that_is_missing_is_told_as_that(tmp_path: Path) -> None:
    """Defect: "not JSON that can be read ([Errno 2] ...)"."""
    ds = write(tmp_path / "a", ["0000001_0"])
    with pytest.raises(FMError, match=r"nope\.json: no such file; --from takes") as error:
        label(ds, [str(tmp_path / "nope.json")], tmp_path / "b")
    assert "\n" not in str(error.value)


# rasters


def patch(east: float = 500_000.0, north: float = 5_000_000.0, turn: float = 0.0) -> Footprint:
    cos, sin = 30 * np.cos(turn), 30 * np.sin(turn)
    return Footprint(UTM, (cos, sin, east, sin, -cos, north), 8, 8)


def test_shares_are_of_the_area_and_not_of_pixels_touched(tmp_path: Path) -> None:
    # pixels of 70 m, which do not divide the patch of 240 m
    numbers = np.tile(np.arange(6, dtype=np.uint8), (6, 1))
    path = raster(tmp_path / "m.tif", numbers, affine(70, 0, 499_950, 0, -70, 5_000_050), UTM)
    found, whole = Maps([str(path)], LEGENDS["dynamic-world"]).areas(patch())
    # columns begin 50 m west of the patch: 20, 70, 70, 70 and 10 m of them lie in it
    wanted = np.array([20, 70, 70, 70, 10, 0, 0, 0, 0]) / 240
    assert found / whole == pytest.approx(wanted, abs=1e-9)


def test_a_footprint_is_brought_into_the_raster_s_projection(tmp_path: Path) -> None:
    from pyproj import Transformer

    rng = np.random.default_rng(3)
    numbers = rng.integers(0, 9, (60, 60)).astype(np.uint8)
    lon, lat = Transformer.from_crs(UTM, 4326, always_xy=True).transform(500_120, 4_999_880)
    step = 1e-4
    corner = affine(step, 0, lon - 30 * step, 0, -step, lat + 30 * step)
    maps = Maps(
        [str(raster(tmp_path / "d.tif", numbers, corner, "EPSG:4326"))], LEGENDS["dynamic-world"]
    )
    for turn in (0.0, 0.4):
        place = patch(turn=turn)
        found, whole = maps.areas(place)
        # points on a fine lattice of the patch, each looked up where it lies in degrees
        fine = (np.arange(800) + 0.5) / 100
        c, r = np.meshgrid(fine, fine)
        a, b, x, d, e, y = place.transform
        east, north = a * c + b * r + x, d * c + e * r + y
        there = np.stack(Transformer.from_crs(UTM, 4326, always_xy=True).transform(east, north))
        columns, rows = (np.floor(v).astype(int) for v in ~corner @ tuple(there))
        inside = (columns >= 0) & (columns < 60) & (rows >= 0) & (rows < 60)
        counted = np.bincount(numbers[rows[inside], columns[inside]], minlength=9) / inside.size
        assert found / whole == pytest.approx(counted, abs=2e-3)
        assert counted.max() - counted.min() > 0.02


def test_degrees_count_by_their_ground(tmp_path: Path) -> None:
    numbers = np.repeat(np.array([[0], [1]], np.uint8), 4, axis=1)
    corner = affine(10, 0, 0, 0, -10, 80)  # rows from 80 to 70 and from 70 to 60 north
    path = raster(tmp_path / "d.tif", numbers, corner, "EPSG:4326")
    place = Footprint("EPSG:4326", (10.0, 0.0, 0.0, 0.0, -10.0, 80.0), 2, 4)
    found, whole = Maps([str(path)], LEGENDS["dynamic-world"]).areas(place)
    shares = np.cos(np.radians([75, 65]))
    assert found[:2] / whole == pytest.approx(shares / shares.sum(), rel=1e-9)


@pytest.mark.parametrize("west", [-180.0, 0.0])
def test_both_sides_of_the_date_line_count(tmp_path: Path, west: float) -> None:
    """Longitudes of the raster begin at -180 or at 0; trees are west of the line, grass east."""
    from pyproj import Transformer

    numbers = np.zeros((4, 360), np.uint8)
    numbers[:, int(179 - west)], numbers[:, int(180 - west) % 360] = 1, 2
    path = raster(tmp_path / "d.tif", numbers, affine(1, 0, west, 0, -1, 47), "EPSG:4326")
    maps = Maps([str(path)], LEGENDS["dynamic-world"])
    x, y = Transformer.from_crs(4326, 32601, always_xy=True).transform(180.0, 45.0)
    for place, share in ((x - 60, 0.75), (x - 120, 0.5), (x, 1.0)):  # of 240 m, lies east
        ground = Footprint("EPSG:32601", (30.0, 0.0, place, 0.0, -30.0, y + 120), 8, 8)
        found, whole = maps.areas(ground)
        # the meridian leans by some degrees there
        assert found[:3] / whole == pytest.approx([0, 1 - share, share], abs=0.02)
    western = Footprint("EPSG:4326", (0.1, 0.0, -179.9, 0.0, -0.1, 46.0), 8, 8)
    assert maps.areas(western)[0][2] / maps.areas(western)[1] == pytest.approx(1)


def test_a_column_that_is_there_again_a_turn_on_counts_once(tmp_path: Path) -> None:
    """Defect: a grid of pixel centres around the globe was refused as overlapping itself."""
    numbers = np.ones((2, 1441), np.uint8)
    numbers[:, [0, 1440]] = 2  # the same ground
    grid = affine(0.25, 0, -180.125, 0, -0.25, 45.25)
    path = raster(tmp_path / "g.tif", numbers, grid, "EPSG:4326")
    maps = Maps([str(path)], LEGENDS["dynamic-world"])
    for west, share in ((179.9, 1.0), (-180.1, 1.0), (179.775, 0.5), (-179.975, 0.5), (7.0, 0.0)):
        ground = Footprint("EPSG:4326", (0.025, 0.0, west, 0.0, -0.025, 45.1), 8, 8)
        found, whole = maps.areas(ground)
        assert found[1:3] / whole == pytest.approx([1 - share, share], abs=1e-6)


def test_a_patch_around_a_pole_has_no_label_from_degrees(tmp_path: Path) -> None:
    numbers = np.full((180, 360), 8, np.uint8)
    path = raster(tmp_path / "d.tif", numbers, affine(1, 0, -180, 0, -1, 90), "EPSG:4326")
    maps = Maps([str(path)], LEGENDS["dynamic-world"])
    around = Footprint("EPSG:3031", (1000.0, 0.0, -4000.0, 0.0, -1000.0, 4000.0), 8, 8)
    assert Rule(min_valid=0.0).label(*maps.areas(around)) is None
    beside = Footprint("EPSG:3031", (1000.0, 0.0, 100_000.0, 0.0, -1000.0, 4000.0), 8, 8)
    assert Rule().label(*maps.areas(beside)) == [8]


def test_what_is_not_known_counts_against_the_valid_share(tmp_path: Path) -> None:
    numbers = np.full((8, 8), 255, np.uint8)
    numbers[:, :5] = 4  # five eighths known
    path = raster(tmp_path / "m.tif", numbers, affine(30, 0, 500_000, 0, -30, 5_000_000), UTM)
    areas = Maps([str(path)], LEGENDS["dynamic-world"]).areas(patch())
    assert Rule(min_valid=0.62).label(*areas) == [4]
    assert Rule(min_valid=0.63).label(*areas) is None
    assert Rule("fractions", min_valid=0.5).label(*areas) == pytest.approx([0] * 4 + [1] + [0] * 4)
    beyond = Maps([str(path)], LEGENDS["dynamic-world"]).areas(patch(east=500_120.0))
    assert beyond[0].sum() / beyond[1] == pytest.approx(1 / 8)
    far = Maps([str(path)], LEGENDS["dynamic-world"]).areas(patch(east=600_000.0))
    assert Rule(min_valid=0.0).label(*far) is None


def test_a_class_is_there_from_the_least_share_on() -> None:
    areas = np.array([0.5, 0.3, 0.02, 1e-9])
    assert Rule().label(areas, 1.0) == [0, 1, 2]  # a sliver is rounding
    assert Rule(min_fraction=0.03).label(areas, 1.0) == [0, 1]
    assert Rule(min_fraction=0.024).label(areas, 1.0) == [0, 1, 2]  # of the known .82
    with pytest.raises(UsageError, match="--min-fraction 2"):
        Rule(min_fraction=2)


def test_rasters_of_times_label_each_image(tmp_path: Path) -> None:
    grid = affine(30, 0, 500_000, 0, -30, 5_000_000)
    maps = [
        f"{when}={raster(tmp_path / f'{k}.tif', np.full((8, 8), k), grid, UTM)}"
        for k, when in ((1, "2020-01..2020-03"), (8, "2020-04"))
    ]
    series = write(tmp_path / "s", ["p"], images=4)
    label(series, maps, tmp_path / "t", legend="dynamic-world")
    assert column(tmp_path / "t") == [[[1], [8], None, None]]
    singles = write(tmp_path / "a", ["p", "q"])
    label(singles, maps[1:] + maps[:1], tmp_path / "b", legend="dynamic-world")
    assert column(tmp_path / "b") == [[1], None]  # the second patch lies beside the maps


def test_tiles_of_one_map_add_up_and_may_not_overlap(tmp_path: Path) -> None:
    left = raster(tmp_path / "l.tif", np.full((8, 4), 1), affine(30, 0, 5e5, 0, -30, 5e6), UTM)
    right = raster(tmp_path / "r.tif", np.full((8, 4), 2), affine(30, 0, 500_120, 0, -30, 5e6), UTM)
    legend = LEGENDS["dynamic-world"]
    both, whole = Maps([str(left), str(right)], legend).areas(patch())
    assert both[1:3] / whole == pytest.approx([0.5, 0.5])
    full = raster(tmp_path / "f.tif", np.full((8, 8), 2), affine(30, 0, 5e5, 0, -30, 5e6), UTM)
    with pytest.raises(FMError, match="overlap"):
        Maps([str(left), str(full)], legend).areas(patch())
    with pytest.raises(UsageError, match="give every raster its time"):
        Maps([f"2020={left}", str(right)], legend)


def test_whole_numbers_may_be_stored_as_floats(tmp_path: Path) -> None:
    import rasterio

    path = tmp_path / "f.tif"
    numbers = np.full((8, 8), 4, np.float32)
    numbers[:, :2] = np.nan
    profile = {"driver": "GTiff", "count": 1, "dtype": "float32", "crs": UTM}
    grid = affine(30, 0, 5e5, 0, -30, 5e6)
    with rasterio.open(path, "w", height=8, width=8, transform=grid, **profile) as out:
        out.write(numbers, 1)
    found, whole = Maps([str(path)], LEGENDS["dynamic-world"]).areas(patch())
    assert found[4] / whole == pytest.approx(0.75)
    with rasterio.open(path, "r+") as out:
        out.write(numbers + 0.5, 1)
    with pytest.raises(FMError, match="not whole"):
        Maps([str(path)], LEGENDS["dynamic-world"]).areas(patch())


def test_a_raster_whose_no_data_is_a_class_is_refused(tmp_path: Path) -> None:
    path = raster(
        tmp_path / "m.tif", np.ones((8, 8)), affine(30, 0, 5e5, 0, -30, 5e6), UTM, nodata=0
    )
    with pytest.raises(FMError, match="no-data number 0 is water in the legend dynamic-world"):
        Maps([str(path)], LEGENDS["dynamic-world"])


# masks, and what is written


def test_masks_become_fractions_of_what_is_known(tmp_path: Path) -> None:
    ds = write(tmp_path / "a", ["p", "q"])
    rule = Rule("fractions", min_valid=0.6)
    done = label(ds, ["mask:cover"], tmp_path / "b", name="shares", rule=rule)
    assert done.label.classes == ("wet", "dry")
    assert column(tmp_path / "b", "shares") == [pytest.approx([0.8, 0.2])] * 2
    assert first(tmp_path / "b", 2, "shares") == pytest.approx(np.array([[0.8, 0.2]] * 2))
    with pytest.raises(FMError, match="no sample of"):
        label(ds, ["mask:cover"], tmp_path / "c", rule=Rule("fractions", min_valid=0.7))
    assert not (tmp_path / "c").exists()


def test_the_old_dataset_stays_and_the_new_one_is_another(tmp_path: Path) -> None:
    ds = write(tmp_path / "a", ["p", "q"])
    before = {path.name: sha256_file(path) for path in (tmp_path / "a").iterdir()}
    done = label(ds, ["mask:cover"], tmp_path / "b")
    assert {path.name: sha256_file(path) for path in (tmp_path / "a").iterdir()} == before
    assert done.info.manifest_hash != ds.info.manifest_hash
    new = shards.open(tmp_path / "b")
    assert done.info.provenance["labels_added"][0]["to"] == ds.info.manifest_hash
    assert shards.verify(tmp_path / "b").ok
    assert (new[1].arrays["l7gls_28"] == ds[1].arrays["l7gls_28"]).all()
    tars = [tmp_path / place / ds.info.shards[0].name for place in "ab"]
    assert tars[0].stat().st_ino == tars[1].stat().st_ino
    again = label(new, ["mask:cover"], tmp_path / "c", name="shares", rule=Rule("fractions"))
    assert [item["label"] for item in again.info.provenance["labels_added"]] == [
        "landcover",
        "shares",
    ]
    with pytest.raises(FMError, match="has a label landcover already"):
        label(new, ["mask:cover"], tmp_path / "d")


def test_where_tars_cannot_be_linked_the_description_says_where_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = write(tmp_path / "a", ["p"])

    def refused(*_: object) -> None:
        raise OSError(18, "cross-device link")

    monkeypatch.setattr("os.link", refused)
    done = label(ds, ["mask:cover"], tmp_path / "b")
    assert done.info.root == str((tmp_path / "a").resolve())
    assert (shards.open(tmp_path / "b")[0].arrays["l7gls_28"] == ds[0].arrays["l7gls_28"]).all()


def test_values_that_are_not_of_the_label_s_kind_are_refused(tmp_path: Path) -> None:
    ds = write(tmp_path / "a", ["p"])
    shares = shards.LabelInfo("shares", "fractions", ("wet", "dry"))
    each = shards.LabelInfo("each", "class", ("wet", "dry"), images=2)
    for info, value in (
        (shares, [0.5]),
        (shares, [0.9, 0.3]),
        (shares, [-0.1, 0.3]),
        (each, [1]),
        (each, [0, 2]),
    ):
        with pytest.raises(FMError, match="sample p"):
            add_label(ds, info, [value], tmp_path / "b", {})
    add_label(ds, each, [[None, 1]], tmp_path / "b", {})
    assert first(tmp_path / "b", 1, "each").tolist() == [[-1, 1]]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a", ["p", "q"])
    words = ["shards", "label", str(tmp_path / "a"), "--from", "mask:cover"]
    assert main([*words, "--out", str(tmp_path / "b")]) == 0
    told = capsys.readouterr().out
    assert "landcover of 2 of 2 samples" in told
    assert "wet: 2" in told
    assert main([*words, "--out", str(tmp_path / "c"), "--kind", "fractions", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"wet": 0.8, "dry": 0.2}
    assert main([*words, "--out", str(tmp_path / "b")]) == 1
    assert main([*words[:-1], "m.tif", "--out", str(tmp_path / "d")]) == 2
    assert main([*words[:-1], "mask:x", "--out", str(tmp_path / "d")]) == 2
    assert main(["shards", "info", str(tmp_path / "c")]) == 0
