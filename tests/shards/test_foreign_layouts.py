import datetime
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import shards
from fm.cli import main
from fm.errors import FMError, UsageError
from shards.foreign import metadata
from shards.foreign.declare import ArrayMember
from shards.foreign.index import index_tars
from shards.foreign.layouts import layout, with_offsets
from shards.foreign.zarr_zip import ZipStore
from tests.shards.foreign_tars import (
    NAMES,
    TIMES,
    pixels_of,
    place,
    sample_zip,
    write_ssl4eo,
    write_tar,
    write_terramesh,
    zarr_zip,
)


@pytest.fixture(scope="module")
def ssl4eo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ssl4eo")
    write_ssl4eo(root / "val")
    index_tars([str(root / "val")], root / "index", layout("ssl4eo-s12-v1.1"), split="val")
    return root


@pytest.fixture(scope="module")
def terramesh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("terramesh")
    write_terramesh(root / "val")
    said = with_offsets(layout("terramesh"), {"s2l1c": -0.1, "s2l2a": 0})
    index_tars([str(root / "val")], root / "index", said)
    return root


def test_four_dates_of_three_series_are_one_sample(ssl4eo: Path) -> None:
    ds = shards.open(ssl4eo / "index")
    assert ds.keys == [f"ssl4eos12_val_{number:07d}" for number in range(5)]
    for number in range(5):
        arrays = ds[number].arrays
        for series, name in (("S2L2A", "s2l2a"), ("S1GRD", "s1grd")):
            want = pixels_of(number, series, 4)
            assert arrays[name].dtype == want.dtype
            assert np.array_equal(arrays[name], want, equal_nan=True)
        assert np.array_equal(arrays["dem"], pixels_of(number, "DEM", 1)[0])
        assert np.array_equal(arrays["cloud"][:, 0], pixels_of(number, "S2L2A", 4)[:, 0] % 7)
    sample = ds[3]
    assert sample.lonlat == place(3)
    assert list(sample.times or ()) == [f"{time}Z" for time in TIMES]
    assert sample.crs == "EPSG:32632"
    assert sample.transform == (10.0, 0.0, 399_995.0, 0.0, -10.0, 5_200_005.0)
    assert sample.split == "val"
    assert ds.modalities["s2l2a"].scaling == (1e-4, 0.0)  # the release without the offset
    assert ds.modalities["s2l2a"].bands == NAMES["S2L2A"]
    assert ds.modalities["s1grd"].scaling == (1.0, 0.0)


def test_batches_come_from_tars_in_place(ssl4eo: Path) -> None:
    ds = shards.open(ssl4eo / "index")
    seen = {}
    for batch in ds.loader(batch_size=2, seed=0, steps=5):
        assert batch.weight.tolist() == [1.0, 1.0]
        for key, pixels in zip(batch.keys, batch.pixels["s2l2a"].numpy(), strict=True):
            seen[key] = pixels
    for number in range(5):
        assert np.array_equal(seen[ds.keys[number]], pixels_of(number, "S2L2A", 4))
    report = shards.verify(ssl4eo / "index")
    assert report.ok, report.problems


def test_a_changed_byte_of_somebody_elses_tar_is_noticed(ssl4eo: Path, tmp_path: Path) -> None:
    write_ssl4eo(tmp_path / "val", series=("S2L2A",), count=2)
    index_tars([str(tmp_path / "val" / "S2L2A")], tmp_path / "index", layout("ssl4eo-s12-v1.1"))
    (tar,) = (tmp_path / "val" / "S2L2A").iterdir()
    data = bytearray(tar.read_bytes())
    data[3000] ^= 1
    tar.write_bytes(bytes(data))
    report = shards.verify(tmp_path / "index")
    assert report.bad_keys == ["ssl4eos12_val_0000000"]
    ds = shards.open(tmp_path / "index")
    with pytest.raises(FMError, match="checksum"):
        ds[0]
    assert np.array_equal(ds[1].arrays["s2l2a"], pixels_of(1, "S2L2A", 4))


def test_one_date_is_left_out_of_the_shape_and_absent_members_stay_absent(terramesh: Path) -> None:
    ds = shards.open(terramesh / "index")
    assert len(ds) == 6
    for number in range(6):
        key = f"{'ssl4eos12' if number < 3 else 'majortom'}_val_{number:07d}"
        sample = ds[ds.keys.index(key)]
        series = ("S2L1C", "S2L2A", "S1GRD" if number < 3 else "S1RTC")
        assert set(sample.arrays) - {"cloud_mask"} == {name.lower() for name in series}
        for name in series:
            assert np.array_equal(
                sample.arrays[name.lower()], pixels_of(number, name, 1)[0], equal_nan=True
            )
        assert ("cloud_mask" in sample.arrays) == (number != 1)
        assert sample.time == f"{TIMES[0]}Z"
        assert sample.times is None
    assert ds.modalities["s2l1c"].scaling == (1e-4, -0.1)
    assert ds.modalities["s1rtc"].table[0].polarisation == "VV"
    assert len(shards.open(terramesh / "index", where="has('s1grd')")) == 3


def test_what_terramesh_leaves_open_must_be_said(tmp_path: Path) -> None:
    write_terramesh(tmp_path / "val")
    with pytest.raises(FMError, match=r"s2l1c is int16; say its offset: the published"):
        index_tars([str(tmp_path / "val")], tmp_path / "index", layout("terramesh"))
    with pytest.raises(UsageError, match="--offset s2l1b: no such modality"):
        with_offsets(layout("terramesh"), {"s2l1b": 0.0})
    radar = [str(tmp_path / "val" / name) for name in ("S1GRD", "S1RTC")]
    made = index_tars(radar, tmp_path / "index", layout("terramesh"))
    assert list(made.info.modalities) == ["s1grd", "s1rtc"]


@pytest.mark.parametrize(
    ("bands", "attributes", "reason"),
    [
        (("VH", "VV"), {}, "its bands are VH, VV; declared are VV, VH"),
        (("vv", "vh"), {"scale_factor": 0.5}, "states scale_factor 0.5, floats are physical"),
        (("vv", "vh"), {"add_offset": -3.0}, "states add_offset -3.0"),
    ],
)
def test_what_the_file_says_of_itself_must_agree(
    tmp_path: Path, bands: tuple[str, ...], attributes: dict[str, float], reason: str
) -> None:
    data = zarr_zip(
        {
            "bands": pixels_of(0, "S1GRD", 1),
            "band": np.array(bands),
            "center_lon": np.float64(8),
            "center_lat": np.float64(47),
            "time": np.array(["2020-01-01"], "M8[ns]").astype("i8"),
        },
        attributes={"bands": attributes},
    )
    write_tar(tmp_path / "S1GRD" / "x.tar", {"1.zarr.zip": data})
    with pytest.raises(FMError, match=reason):
        index_tars([str(tmp_path / "S1GRD")], tmp_path / "index", layout("terramesh"))


def test_times_in_the_forms_that_xarray_writes(tmp_path: Path) -> None:
    moment = datetime.datetime(2020, 5, 3, 2, 7, 17, tzinfo=datetime.UTC)
    plain = np.array(["2020-05-03T02:07:17"], "M8[ns]")
    forms = {
        "ns": (plain.astype("<i8"), {}),
        "dates": (plain, {}),
        "cf": (np.array([0]), {"units": "days since 2020-05-03 02:07:17"}),
        "seconds": (np.array([7 + 2 * 60]), {"units": "seconds since 2020-05-03T02:05:10"}),
    }
    files = {}
    for name, (times, attributes) in forms.items():
        store = {
            "bands": pixels_of(0, "S1GRD", 1),
            "band": np.array(["vv", "vh"]),
            "center_lon": np.float64(8),
            "center_lat": np.float64(47),
            "time": times,
        }
        files[f"{name}.zarr.zip"] = zarr_zip(store, attributes={"time": attributes})
    write_tar(tmp_path / "S1GRD" / "x.tar", files)
    index_tars([str(tmp_path / "S1GRD")], tmp_path / "index", layout("terramesh"))
    rows = pq.read_table(tmp_path / "index" / "index.parquet").to_pylist()
    assert {row["key"]: row["time"] for row in rows} == dict.fromkeys(forms, moment)


@pytest.mark.parametrize("attributes", [{}, {"_FillValue": -1}])
def test_a_missing_time_is_unknown(tmp_path: Path, attributes: dict[str, int]) -> None:
    missing = attributes.get("_FillValue", -(2**63))
    data = sample_zip(
        0, ("vv", "vh"), pixels_of(0, "S1GRD", 1), TIMES[:1], time=np.array([missing], "<i8"),
        attributes={"time": attributes},
    )  # fmt: skip
    write_tar(tmp_path / "S1GRD" / "x.tar", {"1.zarr.zip": data})
    index_tars([str(tmp_path / "S1GRD")], tmp_path / "index", layout("terramesh"))
    assert pq.read_table(tmp_path / "index" / "index.parquet")["time"].to_pylist() == [None]


def test_calendars_that_are_not_gregorian_are_refused(tmp_path: Path) -> None:
    data = sample_zip(
        0, ("vv", "vh"), pixels_of(0, "S1GRD", 1), TIMES[:1],
        attributes={"time": {"units": "days since 2020-01-01", "calendar": "360_day"}},
    )  # fmt: skip
    write_tar(tmp_path / "S1GRD" / "x.tar", {"1.zarr.zip": data})
    with pytest.raises(FMError, match="calendar '360_day' is not the Gregorian one"):
        index_tars([str(tmp_path / "S1GRD")], tmp_path / "index", layout("terramesh"))


def test_coordinates_that_are_mere_indices_give_no_transform(tmp_path: Path) -> None:
    pixels = pixels_of(0, "S1GRD", 1)
    index = np.arange(24)
    for name, x in (("indices", index), ("metres", 5e5 + 10.0 * index)):
        data = sample_zip(0, ("vv", "vh"), pixels, TIMES[:1], x=x)
        write_tar(tmp_path / name / "S1GRD" / "x.tar", {"1.zarr.zip": data})
        out = tmp_path / name / "index"
        index_tars([str(tmp_path / name / "S1GRD")], out, layout("terramesh"))
        (row,) = pq.read_table(out / "index.parquet").to_pylist()
        assert row["crs"] == (None if name == "indices" else "EPSG:32632")
        assert (row["transform"] is None) == (name == "indices")


def test_coordinates_of_zarr_3_place_a_sample() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, values in (("x", 5e5 + 10.0 * np.arange(4)), ("y", 6e6 - 10.0 * np.arange(4))):
            about = {
                "zarr_format": 3,
                "node_type": "array",
                "shape": [4],
                "data_type": "float64",
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4]}},
                "chunk_key_encoding": {"name": "default"},
                "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
                "fill_value": 0.0,
            }
            archive.writestr(f"{name}/zarr.json", json.dumps(about))
            archive.writestr(f"{name}/c/0", values.astype("<f8").tobytes())
    member = ArrayMember("s", "zarr.zip:bands", "CHW", gsd_m=10.0, places={"x": "x", "y": "y"})
    found = metadata._transform(ZipStore(stream.getvalue()), member)
    assert found == [10.0, 0.0, 499_995.0, 0.0, -10.0, 6_000_005.0]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_terramesh(tmp_path / "val")
    words = ["shards", "index", str(tmp_path / "val"), "--layout", "terramesh"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 1
    assert "say its offset" in capsys.readouterr().err
    said = [*words, "--offset", "s2l1c=-0.1", "--offset", "s2l2a=0", "--split", "val"]
    assert main([*said, "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "6 samples in 6 tars, left where they are" in out
    assert "3 samples have no s1rtc" in out
    assert main(["shards", "info", str(tmp_path / "out")]) == 0
    assert main(["shards", "verify", str(tmp_path / "out")]) == 0
    for wrong in (
        [*words],
        ["shards", "index", str(tmp_path / "val"), "--out", "x"],
        [*words, "--out", "x", "--offset", "s2l1c"],
        [*words, "--out", "x", "--offset", "s2l1c=much"],
        [*words[:-1], "terramash", "--out", "x"],
        [*words, "--out", "x", "--workers", "0"],
    ):
        assert main(wrong) == 2


def test_pickles_are_converted_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    stream = io.BytesIO()
    torch.save(torch.full((2, 4, 4), -3.0), stream)
    write_tar(tmp_path / "in" / "x.tar", {"1.s1.pth": stream.getvalue()})
    words = ["shards", "index", str(tmp_path / "in")]
    said = ["--member", "s1.npy=s1grd_10:sentinel1-grd:VV,VH:CHW:none", "--name", "a"]
    said += ["--licence", "CC0-1.0"]
    assert main([*words, *said, "--out", str(tmp_path / "out")]) == 1
    assert "1 pickles .s1.pth" in capsys.readouterr().err
    assert main([*words, "--convert-pickles", str(tmp_path / "safe")]) == 0
    words[2] = str(tmp_path / "safe")
    assert main([*words, *said, "--out", str(tmp_path / "out")]) == 0
    assert (shards.open(tmp_path / "out")[0].arrays["s1grd_10"] == -3).all()


def test_modalities_may_be_called_as_benchmarks_call_them(ssl4eo: Path, tmp_path: Path) -> None:
    tars, out = str(ssl4eo / "val"), tmp_path / "index"
    words = ["shards", "index", tars, "--layout", "ssl4eo-s12-v1.1", "--split", "val"]
    renamed = ["--rename", "s2l2a=s2l2a_10", "--rename", "s1grd=s1grd_10", "--out", str(out)]
    assert main([*words, *renamed]) == 0
    ds, before = shards.open(out), shards.open(ssl4eo / "index")
    assert set(ds.modalities) == {"s2l2a_10", "s1grd_10", "dem", "cloud"}
    assert ds.modalities["s2l2a_10"].bands == before.modalities["s2l2a"].bands
    assert np.array_equal(ds[2].arrays["s2l2a_10"], before[2].arrays["s2l2a"])
    for wrong in ("nosuch=x", "s2l2a=dem", "s2l2a=S2", "s2l2a"):
        assert main([*words, "--rename", wrong, "--out", str(tmp_path / "no")]) == 2
    assert not (tmp_path / "no").exists()
