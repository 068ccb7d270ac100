"""Arrays and tables of a user: what is declared is what is stored, and what is not said stops."""

import pickle
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from fm.errors import FMError, UsageError
from shards.sources import arrays
from shards.sources.base import Content
from tests.shards.makers import written

TABLE = """key,lon,lat,time,split,cover,tags,depth,note
a,10.5,50.25,2021-07-01T10:30Z,train,crop,urban;water,1.5,near the river
b,-70,-33,2021-01-01,test,water,,,
007,,,,,crop,water,2,
"""


def cube(count: int = 3, bands: int = 4, side: int = 6, dtype: object = np.uint16) -> np.ndarray:
    """Each number tells sample, band and pixel."""
    n, c, h, w = np.ogrid[:count, :bands, :side, :side]
    return (n * 10000 + c * 1000 + h * 10 + w + 1).astype(dtype)


def read(folder: Path, *words: str, table: str | None = TABLE) -> Content:
    if table is not None:
        (folder / "rows.csv").write_text(table)
    parser = ArgumentParser()
    arrays.configure(parser)
    rows = () if "--table" in words else ("--table", str(folder / "rows.csv"))
    return arrays.read(parser.parse_args([*rows, *words]))


S2 = ("--sensor", "sentinel2-l1c", "--bands", "B08,B02,B04,B03", "--nodata", "0")


def test_a_stack_and_a_csv_become_a_dataset(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", cube())
    content = read(
        tmp_path,
        *("--modality", f"s2={tmp_path}/x.npy", *S2, "--name", "mine", "--licence", "CC0-1.0"),
        *("--class", "cover", "--multilabel", "use=tags", "--regression", "depth"),
        *("--text", "note"),
    )
    ds = written(content, tmp_path / "ds")
    info = ds.info.modalities["s2"]
    assert info.bands == ("B08", "B02", "B04", "B03")  # the order of the array, not the table's
    assert (info.scale, info.offset, info.nodata) == (1e-4, 0.0, (0, 0, 0, 0))
    assert [round(band.wavelength_nm or 0, -2) for band in info.table] == [800, 500, 700, 600]
    assert [ds[i].key for i in range(3)] == ["a", "b", "007"]
    assert np.array_equal(ds[1].arrays["s2"], cube()[1])
    assert ds[0].lonlat == (10.5, 50.25)
    assert ds[2].lonlat is None
    assert ds[1].time == "2021-01-01T00:00:00Z"
    assert (ds[0].split, ds[2].split) == ("train", None)
    # text names its classes, in alphabetical order; a list is split at ;
    assert content.labels["cover"].classes == ("crop", "water")
    assert content.labels["use"].classes == ("urban", "water")
    assert ds[0].labels["cover"] == 0
    assert ds[0].labels["use"] == [0, 1]
    assert ds[0].labels["depth"] == 1.5
    assert ds[0].labels["note"] == "near the river"
    assert "depth" not in ds[1].labels
    assert ds.info.licence == "CC0-1.0"


def test_axes_are_turned_by_name(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", cube().transpose(0, 2, 3, 1))
    content = read(tmp_path, "--modality", f"s2={tmp_path}/x.npy", *S2, "--axes", "HWC")
    make = pickle.loads(pickle.dumps(content.make))  # as a worker process gets it
    for index, sample in enumerate(map(make, content.tasks)):
        assert np.array_equal(sample.arrays["s2"], cube()[index])
        assert sample.arrays["s2"].flags.c_contiguous
    with pytest.raises(FMError, match="6 bands along C of CHW"):
        read(tmp_path, "--modality", f"s2={tmp_path}/x.npy", *S2)
    with pytest.raises(UsageError, match="--axes CWH"):
        read(tmp_path, "--modality", f"s2={tmp_path}/x.npy", *S2, "--axes", "CWH")


def test_a_folder_goes_by_key_and_an_npz_by_place(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for place, key in enumerate(("a", "b", "007")):
        np.save(folder / f"{key}.npy", cube()[place])
    np.savez(tmp_path / "y.npz", x=cube() + 1, other=np.zeros(3))
    np.save(tmp_path / "m.npy", np.arange(3)[:, None, None] * np.ones((3, 6, 6), np.uint8))
    content = read(
        tmp_path,
        *("--modality", f"one={folder}", "--modality", f"two={tmp_path}/y.npz:x"),
        *("--sensor", "one=sentinel2-l1c", "--sensor", "two=sentinel2-l2a"),
        *("--bands", "one=B08,B02,B04,B03", "--bands", "two=B02,B03,B04,B08"),
        *("--nodata", "one=0", "--nodata", "two=none"),
        *("--mask", f"truth={tmp_path}/m.npy", "--classes", "truth=a,b,c", "--ignore", "truth=2"),
    )
    for index, sample in enumerate(content.samples()):
        assert np.array_equal(sample.arrays["one"], cube()[index])
        assert np.array_equal(sample.arrays["two"], cube()[index] + 1)
        assert (sample.arrays["truth_mask"] == index).all()
    assert content.modalities["two"].nodata == (None,) * 4
    label = content.labels["truth"]
    assert (label.classes, label.ignore, label.member) == (("a", "b", "c"), 2, "truth_mask")


def test_temporal_samples_carry_a_time_a_step(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.stack([cube(), cube() + 7], axis=1))
    table = "key,times\n" + "".join(f"{k},2021-01-01;2021-06-01T12:00Z\n" for k in "abc")
    content = read(tmp_path, "--modality", f"s2={tmp_path}/x.npy", *S2, table=table)
    sample = next(content.samples())
    assert sample.arrays["s2"].shape == (2, 4, 6, 6)
    assert sample.times == ("2021-01-01", "2021-06-01T12:00Z")
    with pytest.raises(FMError, match="3 rows have not 2 times"):
        read(tmp_path, "--modality", f"s2={tmp_path}/x.npy", *S2, table="key\na\nb\nc\n")


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", cube(2))
    parquet.write_table(
        pyarrow.table(
            {
                "id": ["p", "q"],
                "longitude": [1.0, 2.0],
                "lat": [3.0, 4.0],
                "crs": ["EPSG:32632", None],
                "transform": [[10.0, 0, 5, 0, -10, 7], None],
                "tags": [[1, 0], [2]],
                "cover": [20, 10],
            }
        ),
        tmp_path / "rows.parquet",
    )
    content = read(
        tmp_path,
        *("--modality", f"s2={tmp_path}/x.npy", *S2, "--table", f"{tmp_path}/rows.parquet"),
        *("--column", "key=id", "--column", "lon=longitude"),
        *("--multilabel", "tags", "--classes", "tags=x,y,z"),
        *("--class", "cover", "--classes", "cover=10,20,30"),
    )
    first, second = content.samples()
    assert (first.key, first.lonlat) == ("p", (1.0, 3.0))
    assert first.crs == "EPSG:32632"
    assert first.transform == (10.0, 0, 5, 0, -10, 7)
    assert (first.labels["tags"], second.labels["tags"]) == ([1, 0], [2])
    # classes called by a number are meant by that number, not by their place
    assert (first.labels["cover"], second.labels["cover"]) == (1, 0)


def test_floats_are_physical_or_brought_there(tmp_path: Path) -> None:
    physical = (cube() / 1e5).astype(np.float32)
    physical[0, :, 0, 0] = np.nan
    np.save(tmp_path / "x.npy", physical)
    words = ("--sensor", "sentinel2-l1c", "--bands", "B08,B02,B04,B03")
    content = read(tmp_path, "--modality", f"s2={tmp_path}/x.npy", *words)
    first = next(content.samples())
    assert np.array_equal(first.arrays["s2"], physical[0], equal_nan=True)
    assert first.valid_fraction is None  # the writer counts
    stored = cube().astype(np.float32)
    stored[0, 1, 0, :2] = -9999
    np.save(tmp_path / "y.npy", stored)
    scaling = ("--scale", "1e-4", "--offset", "-0.1", "--nodata", "-9999")
    content = read(tmp_path, "--modality", f"s2={tmp_path}/y.npy", *words, *scaling)
    first = next(content.samples())
    assert np.isnan(first.arrays["s2"][1, 0, :2]).all()
    assert first.arrays["s2"].dtype == np.float32
    assert first.arrays["s2"][2, 3, 4] == pytest.approx(2035 * 1e-4 - 0.1, rel=1e-6)
    assert (content.modalities["s2"].scale, content.modalities["s2"].offset) == (1.0, 0.0)
    # a scale without an offset takes the sensor's: all of it, or none of it silently
    n0400 = ("--sensor", "sentinel2-l1c-n0400", *words[2:], "--nodata", "-9999")
    content = read(tmp_path, "--modality", f"s2={tmp_path}/y.npy", *n0400, "--scale", "1e-4")
    first = next(content.samples())
    assert first.arrays["s2"][2, 3, 4] == pytest.approx(2035 * 1e-4 - 0.1, rel=1e-6)
    for one, message in (
        (("--scale", "0.01"), "give --offset too"),
        (("--offset", "0"), "--scale"),
    ):
        with pytest.raises(FMError, match=message):
            read(tmp_path, "--modality", f"s2={tmp_path}/y.npy", *n0400, *one)
    # numbers of thousands are no reflectance, and linear power is no decibel
    content = read(tmp_path, "--modality", f"s2={tmp_path}/y.npy", *words)
    with pytest.raises(FMError, match=r"sample a: s2: band B08 .* look scaled"):
        list(content.samples())
    np.save(tmp_path / "z.npy", np.full((3, 2, 4, 4), 0.02, np.float32))
    radar = ("--sensor", "sentinel1-grd", "--bands", "VV,VH")
    content = read(tmp_path, "--modality", f"s1={tmp_path}/z.npy", *radar)
    with pytest.raises(FMError, match="looks linear"):
        list(content.samples())


def test_a_sensor_file_describes_what_nobody_knows(tmp_path: Path) -> None:
    (tmp_path / "bands.yaml").write_text(
        "name: drone\nscale: 1.0e-4\noffset: 0\nnodata: 65535\nbands:\n"
        + "".join(
            f"  - {{name: b{i}, wavelength_nm: {500 + i}, gsd_m: 0.5, unit: reflectance}}\n"
            for i in range(4)
        )
    )
    np.save(tmp_path / "x.npy", cube())
    words = ("--modality", f"s2={tmp_path}/x.npy", "--sensor-file", f"{tmp_path}/bands.yaml")
    declared = read(tmp_path, *words).modalities["s2"]
    assert (declared.sensor, declared.bands) == ("drone", ("b0", "b1", "b2", "b3"))
    assert (declared.scale, declared.nodata) == (1e-4, (65535,) * 4)
    assert declared.table[2].wavelength_nm == 502
    with pytest.raises(FMError, match=r"--scale 0.001, but the sensor file says 0.0001"):
        read(tmp_path, *words, "--scale", "0.001")
    with pytest.raises(FMError, match=r"--nodata 0, but the sensor file says"):
        read(tmp_path, *words, "--nodata", "0")
    np.save(tmp_path / "x.npy", cube(dtype=np.float32))
    with pytest.raises(FMError, match="floating pixels, and the sensor file has a scale"):
        read(tmp_path, *words)
    stored = cube(dtype=np.float32)
    stored[0, 1, 2, 3] = 65535
    np.save(tmp_path / "x.npy", stored)
    scaled = ("--scale", "1e-4", "--offset", "0")
    first = next(read(tmp_path, *words, *scaled).samples())
    assert np.isnan(first.arrays["s2"][1, 2, 3])  # the sensor file's number
    assert np.isnan(first.arrays["s2"]).sum() == 1
    with pytest.raises(FMError, match=r"--nodata 0, but the sensor file says"):
        read(tmp_path, *words, *scaled, "--nodata", "0")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--bands", "B02,B03,B04,B08", "--nodata", "0"), "--sensor NAME or --sensor-file FILE"),
        (("--sensor", "sentinel2-l1c", "--nodata", "0"), "--bands is missing"),
        (("--sensor", "sentinel2-l1c", "--bands", "B02,B03,B04,B08"), "integers need --nodata"),
        (("--sensor", "sentinel-2", "--bands", "B02", "--nodata", "0"), "there is no sensor"),
        (
            ("--sensor", "sentinel2-l1c", "--bands", "B02,B03,B04,B11", "--nodata", "0"),
            "bands of [10.0, 20.0] m in one array; say with --gsd",
        ),
        (
            ("--sensor", "sentinel2-l1c", "--bands", "B02,B03,B04", "--nodata", "0"),
            "4 bands along C of CHW (4, 6, 6), 3 are named for s2",
        ),
        ((*S2[:4], "--nodata", "-1"), "no-data -1 does not fit into uint16"),
        ((*S2[:4], "--nodata", "0,0"), "--nodata lists 2 numbers for 4 bands"),
        ((*S2, "--scale", "x"), "--scale x: give a number"),
        ((*S2, "--class", "depth"), "name its classes with --classes depth=..."),
        ((*S2, "--class", "covers"), "no column 'covers'; did you mean 'cover'"),
        ((*S2, "--regression", "note"), "row 1: note is 'near the river', expected a number"),
        ((*S2, "--class", "cover", "--classes", "cover=crop"), "row 2: label 'cover' is 'water'"),
        ((*S2, "--mask", "truth=absent.npy"), "no such file or folder"),
    ],
)
def test_what_is_missing_or_contradictory_stops(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    np.save(tmp_path / "x.npy", cube())
    with pytest.raises(FMError) as caught:
        read(tmp_path, "--modality", f"s2={tmp_path}/x.npy", *words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("key\na\nb\n", "3 samples, the table has 2 rows"),
        ("key\na\na\nb\n", "row 2: key 'a' comes twice"),
        ("key\na\nb.c\nd\n", "row 2: sample key 'b.c'"),
        ("name\na\nb\nc\n", "no column 'key'"),
        ("key,lon,lat\na,50,100\nb,,\nc,,\n", "(50, 100) is not (lon, lat)"),
        ("key,lon\na,50\nb,\nc,\n", "lon without lat"),
        ("key,time\na,July\nb,\nc,\n", "'July' is not ISO-8601"),
        ("key,crs\na,EPSG:4326\nb,\nc,\n", "crs and transform come together"),
        ("key,lon\na\nb,\nc,\n", "row 1 has 1 cells for 2 columns"),
        ("", "the table is empty"),
    ],
)
def test_tables_are_checked_row_by_row(tmp_path: Path, table: str, message: str) -> None:
    np.save(tmp_path / "x.npy", cube())
    with pytest.raises(FMError) as caught:
        read(tmp_path, "--modality", f"s2={tmp_path}/x.npy", *S2, table=table)
    assert message in str(caught.value)


def test_files_and_rows_belong_together(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for key in ("a", "b", "c"):
        np.save(folder / f"{key}.npy", cube()[0])
    with pytest.raises(FMError, match=r"1 rows have no file, such as 007.npy"):
        read(tmp_path, "--modality", f"s2={folder}", *S2)
    with pytest.raises(FMError, match=r"1 files have no row, such as c.npy"):
        read(tmp_path, "--modality", f"s2={folder}", *S2, table="key\na\nb\n")
    np.save(folder / "c.npy", cube()[0].astype(np.int16))
    with pytest.raises(FMError, match="files of different kinds"):
        read(tmp_path, "--modality", f"s2={folder}", *S2, table="key\na\nb\nc\n")


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(FMError, match="pickled"):
        read(tmp_path, "--modality", f"s2={tmp_path}/x.npy", *S2)
    np.savez(tmp_path / "y.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(FMError, match="pickled"):
        read(tmp_path, "--modality", f"s2={tmp_path}/y.npz", *S2)


def test_options_of_several_modalities_name_theirs(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", cube())
    two = ("--modality", f"a={tmp_path}/x.npy", "--modality", f"b={tmp_path}/x.npy")
    with pytest.raises(UsageError, match="write NAME=sentinel2-l1c"):
        read(tmp_path, *two, *S2)
    with pytest.raises(UsageError, match="there is no 'c'"):
        read(tmp_path, *two, "--sensor", "c=sentinel2-l1c")
