"""Cubes in NetCDF and Zarr: what they state is taken, and what contradicts it stops the build."""

import pickle
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest

from fm.errors import FMError, UsageError
from fm.geo import lonlat_of
from shards.sources import cube
from shards.sources.base import Content

xarray = pytest.importorskip("xarray", reason="the extra cube is not installed")
BANDS = ("B02", "B03", "B04", "B08")
WEST, NORTH = 500000.0, 4600000.0


def numbers(bands: int = 4, times: int = 3, side: int = 12) -> np.ndarray:
    """[T, C, H, W]; each number tells band, time and pixel."""
    t, c, y, x = np.ogrid[:times, :bands, :side, :side]
    return (c * 10000 + t * 1000 + y * 12 + x + 1).astype(np.uint16)


def axes(side: int, step: float = 10.0, times: int = 3) -> dict[str, object]:
    return {
        "time": np.array(["2021-01-05", "2021-06-01T10:20:30", "2022-01-01"], "datetime64[ns]")[
            :times
        ],
        "y": NORTH - step / 2 - step * np.arange(side),
        "x": WEST + step / 2 + step * np.arange(side),
    }


def dataset(
    side: int = 12, step: float = 10.0, epsg: int | None = 32618, **attributes: object
) -> object:
    """Bands as variables b2, b3, b4, b8."""
    import pyproj

    pixels = numbers(side=side)
    about = {"_FillValue": np.uint16(0), **attributes}
    if epsg:
        about["grid_mapping"] = "spatial_ref"
    found = xarray.Dataset(
        {
            name: (("time", "y", "x"), pixels[:, i], dict(about))
            for i, name in enumerate(("b2", "b3", "b4", "b8"))
        },
        coords=axes(side, step),
    )
    if epsg:
        crs = {"crs_wkt": pyproj.CRS.from_epsg(epsg).to_wkt()}
        found["spatial_ref"] = ((), np.int32(0), crs)
    return found


def save(found: object, path: Path) -> Path:
    if path.suffix == ".zarr":
        found.to_zarr(path, zarr_format=2, consolidated=True)
    else:
        found.to_netcdf(path, engine="h5netcdf")
    return path


def read(path: Path, *words: str, sensor: str = "sentinel2-l2a") -> Content:
    cube.cube_cf._opened.cache_clear()
    parser = ArgumentParser()
    cube.configure(parser)
    standard = {
        "--modality": f"s2={path}",
        "--variables": "b2,b3,b4,b8",
        "--sensor": sensor,
        "--bands": ",".join(BANDS),
        "--patch": "6",
    }
    for option, value in standard.items():
        if option not in words:
            words = (*words, option, value)
    return cube.read(parser.parse_args(list(words)))


@pytest.mark.parametrize("ending", ["nc", "zarr"])
def test_a_cube_is_cut_in_space_and_time(tmp_path: Path, ending: str) -> None:
    path = save(dataset(), tmp_path / f"scene.{ending}")
    content = read(path)
    make = pickle.loads(pickle.dumps(content.make))  # as a worker process gets it
    samples = [make(task) for task in pickle.loads(pickle.dumps(content.tasks))]
    assert len(samples) == 4 * 3
    declared = content.modalities["s2"]
    assert (declared.bands, declared.scale, declared.nodata) == (BANDS, 1e-4, (0, 0, 0, 0))
    for sample in samples:
        row, column, height, width = sample.window
        step = ["2021-01-05T00:00:00Z", "2021-06-01T10:20:30Z", "2022-01-01T00:00:00Z"].index(
            sample.time
        )
        expected = numbers()[step, :, row : row + height, column : column + width]
        assert np.array_equal(sample.arrays["s2"], expected)
        assert sample.arrays["s2"].dtype == np.uint16
        assert sample.transform == (10, 0, WEST + 10 * column, 0, -10, NORTH - 10 * row)
        middle = lonlat_of(WEST + 10 * column + 30, NORTH - 10 * row - 30, 32618)
        assert sample.lonlat == pytest.approx(tuple(middle), abs=1e-12)
        assert (sample.crs, sample.times) == ("EPSG:32618", None)
    assert samples[1].key == "scene_00000_00000_20210601T102030"
    assert samples[0].key == "scene_00000_00000_20210105"


def test_runs_of_steps_are_temporal_samples(tmp_path: Path) -> None:
    content = read(save(dataset(), tmp_path / "scene.nc"), "--steps", "2")
    samples = list(content.samples())
    assert len(samples) == 4  # the third time is left over
    assert samples[1].arrays["s2"].shape == (2, 4, 6, 6)
    assert np.array_equal(samples[1].arrays["s2"], numbers()[:2, :, :6, 6:])
    assert samples[1].times == ("2021-01-05T00:00:00Z", "2021-06-01T10:20:30Z")
    assert samples[1].time == samples[1].times[0]


def test_a_south_up_cube_is_turned(tmp_path: Path) -> None:
    up = dataset()
    down = up.isel(y=slice(None, None, -1))
    assert float(down.y[0]) < float(down.y[-1])
    a = list(read(save(up, tmp_path / "up.nc"), "--name", "n").samples())
    b = list(read(save(down, tmp_path / "down.nc"), "--name", "n").samples())
    for one, other in zip(a, b, strict=True):
        assert np.array_equal(one.arrays["s2"], other.arrays["s2"])
        assert (one.key, one.transform, one.lonlat) == (other.key, other.transform, other.lonlat)


def test_a_band_dimension_goes_by_its_labels(tmp_path: Path) -> None:
    pixels = numbers()[:, [3, 0, 2, 1]]
    found = xarray.Dataset(
        {"r": (("time", "band", "y", "x"), pixels, {"_FillValue": np.uint16(0)})},
        coords={**axes(12), "band": ["b08", "B02", "B04", "B03"]},
    )
    path = save(found, tmp_path / "scene.nc")
    words = ("--variables", "r", "--crs", "EPSG:32618")
    first = next(read(path, *words).samples())
    assert np.array_equal(first.arrays["s2"], numbers()[0, :, :6, :6])
    with pytest.raises(FMError, match="not B8A once"):
        read(path, *words, "--bands", "B02,B8A", "--gsd", "10")


def test_wavelengths_along_a_dimension_must_agree(tmp_path: Path) -> None:
    from fm.sensors.enmap import bands_202

    centres = np.array([band.wavelength_nm for band in bands_202()])
    pixels = np.zeros((202, 4, 4), np.int16) + np.arange(202)[:, None, None].astype(np.int16)
    names = ",".join(band.name for band in bands_202())
    for shift, good in ((0.3, True), (12.0, False)):
        found = xarray.Dataset(
            {"r": (("wavelength", "y", "x"), pixels, {"_FillValue": np.int16(-32768)})},
            coords={
                "y": NORTH - 15 - 30 * np.arange(4.0),
                "x": WEST + 15 + 30 * np.arange(4.0),
                "wavelength": ("wavelength", centres + shift, {"units": "nm"}),
            },
        )
        path = save(found, tmp_path / f"{good}.nc")
        words = ("--variables", "r", "--crs", "EPSG:32618", "--bands", names, "--patch", "4")
        if good:
            content = read(path, *words, sensor="enmap-l2a")
            (sample,) = content.samples()
            assert sample.time is None
            assert sample.key == "True_00000_00000"
            assert sample.arrays["s2"][:, 0, 0].tolist() == list(range(202))
            assert content.modalities["s2"].nodata == (-32768,) * 202
        else:
            with pytest.raises(FMError, match=r"430.24 nm along wavelength is not B001"):
                read(path, *words, sensor="enmap-l2a")


def test_cubes_of_one_place_are_one_sample(tmp_path: Path) -> None:
    fine = save(dataset(), tmp_path / "fine.nc")
    coarse = save(dataset(6, 20.0), tmp_path / "coarse.nc")
    both = (
        *("--modality", f"a={fine}", "--modality", f"b={coarse}"),
        *("--variables", "a=b2,b3,b4,b8", "--variables", "b=b2,b3"),
        *("--sensor", "a=sentinel2-l2a", "--sensor", "b=sentinel2-l2a"),
        *("--bands", "a=B02,B03,B04,B08", "--bands", "b=B8A,B11"),
    )
    samples = list(read(fine, *both).samples())
    assert len(samples) == 12
    assert samples[3].arrays["b"].shape == (2, 3, 3)
    assert np.array_equal(samples[3].arrays["b"], numbers(side=6)[0, :2, :3, 3:])
    assert np.array_equal(samples[3].arrays["a"], numbers()[0, :, :6, 6:])
    with pytest.raises(FMError, match="--patch 3 is no multiple of its 2 px"):
        read(fine, *both, "--patch", "3")
    shifted = dataset(6, 20.0)
    shifted["x"] = shifted.x + 10
    save(shifted, tmp_path / "shifted.nc")
    moved = tuple(word.replace("coarse", "shifted") for word in both)
    with pytest.raises(FMError, match="corners 1 px apart"):
        read(fine, *moved)


def test_masks_and_missing_pixels(tmp_path: Path) -> None:
    found = dataset()
    values = found.b3.values.copy()
    values[0, :6, :3] = 0
    found["b3"] = (found.b3.dims, values, found.b3.attrs)
    scene = np.arange(144).reshape(1, 12, 12) % 3 + 0 * found.b2.values
    found["scl"] = (("time", "y", "x"), scene.astype(np.uint8))
    path = save(found, tmp_path / "scene.nc")
    words = ("--mask", "land=scl", "--classes", "land=a,b,c")
    content = read(path, *words)
    first = next(content.samples())
    assert (first.arrays["s2"] == 0).any(axis=0).mean() == 0.5
    assert np.array_equal(first.arrays["land_mask"], scene[0, :6, :6])
    assert content.labels["land"].classes == ("a", "b", "c")
    with pytest.raises(UsageError, match="needs --steps 1"):
        read(path, *words, "--steps", "3")


def test_floats_are_brought_to_physical_values(tmp_path: Path) -> None:
    found = dataset(epsg=32618)
    for name in ("b2", "b3", "b4", "b8"):
        values = found[name].values.astype(np.float32)
        values[0, 0, 0] = -9999
        about = {**found[name].attrs, "_FillValue": np.float32(-9999), "scale_factor": 1e-5}
        found[name] = (found[name].dims, values, about)
    path = save(found, tmp_path / "scene.nc")
    with pytest.raises(FMError, match=r"states scale 1e-05, the sensor says 0.0001"):
        read(path)
    content = read(path, "--scale", "1e-5")
    first = next(content.samples())
    assert np.isnan(first.arrays["s2"][:, 0, 0]).all()
    assert first.arrays["s2"][2, 1, 1] == pytest.approx(20014e-5, rel=1e-6)
    assert content.modalities["s2"].scale == 1.0


@pytest.mark.parametrize(
    ("attributes", "words", "message"),
    [
        ({"scale_factor": 1e-3}, (), "states scale 0.001, the sensor says 0.0001"),
        (
            {"scale_factor": 1e-4},
            ("--sensor", "sentinel2-l2a-n0400"),
            "states no offset, which is 0 by CF (--offset says another), the sensor says -0.1",
        ),
        ({"scale_factor": 1e-4}, ("--scale", "1e-3"), "states scale 0.0001, --scale says 0.001"),
        ({"add_offset": -0.1}, (), "states offset -0.1, the sensor says 0"),
        ({}, ("--nodata", "65535"), "states no-data 0, --nodata says 65535"),
        ({"missing_value": np.uint16(7)}, (), "several numbers for no data: [0.0, 7.0]"),
        ({"units": "percent"}, (), "units 'percent', the sensor has 'reflectance'"),
        ({}, ("--crs", "EPSG:32633"), "--crs says 'WGS 84 / UTM zone 33N'"),
        ({}, ("--variables", "b2,b9"), "no variable 'b9'"),
        ({}, ("--variables", "b2,b3"), "2 variables, 4 bands are named"),
        ({}, ("--bands", "B05,B06,B07,B8A"), "pixels of 10 m, the bands have 20 m"),
        ({}, ("--sensor", "sentinel-2"), "there is no sensor"),
        ({}, ("--dim", "x=lon"), "no dimension 'lon'"),
        ({}, ("--patch", "13"), "no square of 13 px"),
        ({}, ("--steps", "4"), "run of 4 steps"),
    ],
)
def test_contradictions_stop(
    tmp_path: Path, attributes: dict[str, object], words: tuple[str, ...], message: str
) -> None:
    path = save(dataset(**attributes), tmp_path / "scene.nc")
    with pytest.raises(FMError) as caught:
        read(path, *words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_agreeing_statements_pass(tmp_path: Path) -> None:
    about = {"scale_factor": np.float32(1e-4), "add_offset": 0.0, "units": "1"}
    path = save(dataset(**about), tmp_path / "scene.nc")
    declared = read(path, "--nodata", "0", "--crs", "EPSG:32618").modalities["s2"]
    assert (declared.scale, declared.offset) == (1e-4, 0.0)
    path = save(dataset(scale_factor=1e-3), tmp_path / "other.nc")
    assert read(path, "--scale", "1e-3").modalities["s2"].scale == 1e-3
    path = save(dataset(units="percent"), tmp_path / "units.nc")
    assert read(path, "--ignore-units").modalities["s2"].bands == BANDS


def test_older_wkt_is_known_by_its_number(tmp_path: Path) -> None:
    import pyproj

    found = dataset(epsg=3035)
    found["x"], found["y"] = found.x + 3_700_000, found.y - 2_000_000
    # GDAL's spelling: axes without names, and a shift to WGS 84 that is none
    old = (
        pyproj.CRS.from_epsg(3035)
        .to_wkt("WKT1_GDAL")
        .replace('AXIS["Northing",NORTH],AXIS["Easting",EAST],', "")
    )
    old = old.replace(
        'AUTHORITY["EPSG","6258"]]', 'TOWGS84[0,0,0,0,0,0,0],AUTHORITY["EPSG","6258"]]'
    )
    assert "TOWGS84" in old
    found["spatial_ref"] = ((), np.int32(0), {"spatial_ref": old})
    path = save(found, tmp_path / "scene.nc")
    first = next(read(path).samples())
    assert first.crs == "EPSG:3035"
    assert next(read(path, "--crs", "EPSG:3035").samples()).crs == "EPSG:3035"
    wrong = {"spatial_ref": old.replace('AUTHORITY["EPSG","3035"]', 'AUTHORITY["EPSG","3034"]')}
    found["spatial_ref"] = ((), np.int32(0), wrong)
    other = save(found, tmp_path / "other.nc")
    crs = next(read(other).samples()).crs
    assert "Lambert Azimuthal Equal Area" in crs


def test_what_cannot_be_placed_stops(tmp_path: Path) -> None:
    with pytest.raises(FMError, match="states no coordinate system"):
        read(save(dataset(epsg=None), tmp_path / "a.nc"))
    ragged = dataset()
    ragged["x"] = ragged.x.where(ragged.x < WEST + 60, ragged.x + 3)
    with pytest.raises(FMError, match="x is not regular"):
        read(save(ragged, tmp_path / "b.nc"))
    with pytest.raises(FMError, match="does not rise"):
        read(save(dataset().isel(time=[1, 0, 2]), tmp_path / "c.nc"))
    degrees = dataset(epsg=None)
    degrees["x"] = ("x", np.arange(12) / 10000 + 5, {"units": "degrees_east"})
    degrees["y"] = ("y", 45 - np.arange(12) / 10000, {"units": "degrees_north"})
    path = save(degrees, tmp_path / "d.nc")
    with pytest.raises(FMError, match="say with --gsd how many metres"):
        read(path)
    first = next(read(path, "--gsd", "10").samples())
    assert first.lonlat == pytest.approx((5.00025, 44.99975), abs=1e-9)
    assert first.crs == "EPSG:4326"
    (tmp_path / "e.nc").write_bytes(b"no cube at all")
    with pytest.raises(FMError, match="neither NetCDF nor"):
        read(tmp_path / "e.nc")
    with pytest.raises(FMError, match="no such file or folder"):
        read(tmp_path / "absent.zarr")
