"""A tiny release: two locations, two windows, listing order and names against the clock."""

import json
import pickle
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest
from pyproj import Transformer
from rasterio.transform import Affine

from fm import sensors
from fm.errors import FMError, UsageError
from shards.sources import ssl4eo_s12
from shards.sources.base import Content
from tests.shards.rasters import plane, write_raster

SIDES = {10.0: 264, 20.0: 132, 60.0: 44}
FIRST = {"s2c": "20201204T054639", "s2a": "20201209T054639", "s1": "20201220T010800"}
SECOND = {"s2c": "20210303T054639", "s2a": "20210313T054639", "s1": "20210225T131212"}
MILLI = {
    "20201204T054639": 1607061641044,  # 06:00:41, a quarter of an hour after the name
    "20201209T054639": 1607493641000,
    "20201220T010800": 1608426480000,
    "20210303T054639": 1614751242000,
    "20210313T054639": 1615615241000,
    "20210225T131212": 1614258732000,
}
CORNER = {10.0: (73.3, 30.4), 20.0: (73.29995, 30.40004), 60.0: (73.29975, 30.40022)}


def scene_name(product: str, stamp: str) -> str:
    # S1B sorts behind S1A although it is earlier
    platform = "S1A" if stamp.startswith("2021") else "S1B"
    return f"{platform}_IW_GRDH_1SDV_{stamp}_X" if product == "s1" else f"{stamp}_{stamp}_T43RCP"


def code(product: str, band: int, stamp: str) -> int:
    return {"s2c": 100, "s2a": 200, "s1": 300}[product] + band + (50 if stamp[:4] == "2021" else 0)


def write_scene(root: Path, product: str, location: str, stamp: str, **metadata: object) -> Path:
    folder = root / product / location / scene_name(product, stamp)
    sensor = sensors.sensor(ssl4eo_s12.PRODUCTS[product])
    for number, band in enumerate(sensor.bands):
        side, (west, north) = SIDES[band.gsd_m], CORNER[band.gsd_m]
        data = plane(code(product, number, stamp), side, side)
        step = band.gsd_m * 1e-5
        write_raster(
            folder / (band.name.replace("B0", "B") + ".tif"),
            -data.astype(np.float32) if product == "s1" else data,
            crs="EPSG:4326",
            transform=Affine(step, 0, west, 0, -step, north),
        )
    about: dict = {"system:time_start": MILLI[stamp], "system:id": "COPERNICUS/S2/x"}
    if product != "s1":
        about["PROCESSING_BASELINE"] = "02.09"
    (folder / "metadata.json").write_text(json.dumps(about | metadata))
    return folder


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ssl4eo")
    for product in ("s1", "s2a", "s2c"):
        for window in (FIRST, SECOND):
            write_scene(root, product, "0000200", window[product])
    write_scene(root, "s2c", "0000007", FIRST["s2c"])
    write_scene(root, "s2c", "0000007", SECOND["s2c"])
    return root


@pytest.fixture
def release(pristine: Path, tmp_path: Path) -> Path:
    """A copy whose files may be changed (links are replaced, never written through)."""
    import os
    import shutil

    root = tmp_path / "release"
    shutil.copytree(pristine, root, copy_function=os.link)
    return root


def read(root: Path, *words: str) -> Content:
    parser = ArgumentParser()
    ssl4eo_s12.configure(parser)
    return ssl4eo_s12.read(parser.parse_args(["--root", str(root), *words]))


def test_every_pixel_lands_in_its_band_and_season(pristine: Path) -> None:
    content = read(pristine, "--products", "s1,s2a,s2c", "--skip-incomplete")
    content = pickle.loads(pickle.dumps(content))  # as a worker gets it
    samples = list(content.samples())
    assert [s.key for s in samples] == ["0000200_0", "0000200_1"]
    assert content.provenance["left_out"] == 2  # the location that has s2c only
    for sample, window in zip(samples, (FIRST, SECOND), strict=True):
        for product, stamp in window.items():
            sensor = sensors.sensor(ssl4eo_s12.PRODUCTS[product])
            order = [band.name for band in sensor.bands]
            for modality, bands in sensor.modalities.items():
                side = SIDES[bands[0].gsd_m]
                want = [plane(code(product, order.index(b.name), stamp), side, side) for b in bands]
                sign = -1.0 if product == "s1" else 1
                assert np.array_equal(sample.arrays[modality], sign * np.stack(want)), modality
                assert content.modalities[modality].bands == tuple(b.name for b in bands)
            assert sample.labels[f"scene_{product}"] == scene_name(product, stamp)
    assert [s.time for s in samples] == ["2020-12-04T06:00:41.044000Z", "2021-03-03T06:00:42Z"]
    assert content.provenance["baseline"] == "before 04.00"
    assert content.modalities["s2l1c_10"].sensor == "sentinel2-l1c"


def test_a_temporal_sample_holds_its_seasons_in_order(pristine: Path) -> None:
    content = read(pristine, "--products", "s2c", "--temporal")
    first, second = content.samples()
    assert (first.key, second.key) == ("0000007", "0000200")
    assert first.arrays["s2l1c_60"].shape == (2, 3, 44, 44)
    assert first.times == ["2020-12-04T06:00:41.044000Z", "2021-03-03T06:00:42Z"]
    assert [int(t) for t in first.arrays["s2l1c_10"][:, 0, 0, 0]] == [10_100, 15_100]


def test_the_place_is_the_centre_of_the_finest_grid(pristine: Path) -> None:
    sample = next(iter(read(pristine, "--products", "s2c").samples()))
    assert sample.crs == "EPSG:4326"
    assert sample.transform == pytest.approx((1e-4, 0, 73.3, 0, -1e-4, 30.4))
    same = Transformer.from_crs("EPSG:4326", 4326, always_xy=True)
    want = same.transform(73.3 + 132e-4, 30.4 - 132e-4)
    assert sample.lonlat == pytest.approx(want, abs=1e-9)


def test_masked_pixels_are_no_data(release: Path) -> None:
    folder = release / "s1/0000200" / scene_name("s1", FIRST["s1"])
    data = np.full((264, 264), -12.5, np.float32)
    data[:66] = 0
    (folder / "VH.tif").unlink()
    write_raster(folder / "VH.tif", data, crs="EPSG:4326",
                 transform=Affine(1e-4, 0, 73.3, 0, -1e-4, 30.4))  # fmt: skip
    content = read(release, "--products", "s1,s2a,s2c", "--skip-incomplete")
    radar = next(iter(content.samples())).arrays["s1grd_10"]
    assert np.isnan(radar[1, :66]).all()
    assert (radar[1, 66:] == -12.5).all()
    assert np.isfinite(radar[0]).all()
    assert content.modalities["s2l1c_60"].nodata == (0, 0, None)  # B10: 0 is a measurement
    assert content.modalities["s2l2a_60"].nodata == (0, 0)
    assert content.modalities["s1grd_10"].nodata is None


def test_all_problems_are_in_one_line(release: Path) -> None:
    lost = release / "s2c/0000200" / scene_name("s2c", FIRST["s2c"])
    (lost / "B8A.tif").unlink()
    blank = release / "s2a/0000200" / scene_name("s2a", SECOND["s2a"]) / "metadata.json"
    blank.unlink()
    blank.write_text("{}")
    with pytest.raises(FMError, match=r"no B8A\.tif.*no system:time_start.*0000007") as error:
        read(release, "--products", "s1,s2a,s2c")
    assert "\n" not in str(error.value)
    assert len(read(release, "--products", "s2c", "--skip-incomplete").tasks) == 3


def test_the_baseline_decides_the_offset(release: Path) -> None:
    def metadata(window: dict, **changes: object) -> None:
        path = release / "s2c/0000200" / scene_name("s2c", window["s2c"]) / "metadata.json"
        about = json.loads(path.read_text())
        path.unlink()
        path.write_text(json.dumps(about | changes))

    metadata(SECOND, PROCESSING_BASELINE="04.00")
    with pytest.raises(FMError, match=r"3 Sentinel-2 scenes from before .* and 1 from it on"):
        read(release, "--products", "s2c")
    kept = read(release, "--products", "s2c", "--baseline", "from-0400", "--skip-incomplete")
    assert [task.location for task in kept.tasks] == ["0000200"]
    assert kept.modalities["s2l1c_20"].sensor == "sentinel2-l1c-n0400"
    metadata(SECOND, **{"system:id": "COPERNICUS/S2_HARMONIZED/x"})  # the offset is taken out
    assert read(release, "--products", "s2c").modalities["s2l1c_20"].sensor == "sentinel2-l1c"
    metadata(SECOND, **{"system:time_start": MILLI[FIRST["s2c"]]})
    with pytest.raises(FMError, match="the scene's name says otherwise"):
        read(release, "--products", "s2c")


@pytest.mark.parametrize("change", ["size", "type", "grid", "broken"])
def test_a_file_that_does_not_fit_is_named(release: Path, change: str) -> None:
    path = release / "s2c/0000007" / scene_name("s2c", FIRST["s2c"]) / "B11.tif"
    path.unlink()
    side = 131 if change == "size" else 132
    if change == "broken":
        path.write_bytes(b"II*\0")
    else:
        data = plane(1, side, side, "int32" if change == "type" else "uint16")
        write_raster(path, data, crs="EPSG:4326", transform=Affine(2e-4, 0, 73.4, 0, -2e-4, 30.4))
    with pytest.raises(FMError, match=r"B11\.tif: ") as error:
        next(iter(read(release, "--products", "s2c").samples()))
    assert "\n" not in str(error.value)


def test_wrong_requests(pristine: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no 's2b'"):
        read(pristine, "--products", "s2b")
    with pytest.raises(UsageError, match="empty"):
        read(pristine, "--products", "")
    with pytest.raises(FMError, match="no such folder"):
        read(tmp_path, "--products", "s1")
