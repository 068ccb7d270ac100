import dataclasses
import io
import json
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import shards
from fm.errors import FMError, UsageError
from fm.sensors import Band
from tests.conftest import tiny_samples, write_tiny

BANDS = ("B02", "B03", "B04", "B08")
OWN = Band("a", 500.0, 10.0, 5.0, "reflectance")


def samples(dtype: str = "uint16", count: int = 5, **changes: Any) -> Iterator[shards.Sample]:
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = rng.normal(1000, 300, (4, 8, 9)).astype(dtype)
        mask = rng.integers(0, 3, (8, 9)).astype(np.uint8)
        fields = {"key": f"k{i}", "arrays": {"s2l1c_10": pixels, "truth": mask}} | changes
        yield shards.Sample(**fields)


def write(out: Path, items: Any, **options: Any) -> shards.DatasetInfo:
    settings: dict[str, Any] = {
        "name": "w",
        "modalities": {"s2l1c_10": shards.Declared("sentinel2-l1c", BANDS)},
        "labels": {
            "truth": shards.LabelInfo("truth", "mask", ("a", "b", "c"), member="truth"),
            "kind": shards.LabelInfo("kind", "class", ("x", "y"), ignore=255),
            "tags": shards.LabelInfo("tags", "multilabel", ("x", "y")),
            "size": shards.LabelInfo("size", "regression"),
            "caption": shards.LabelInfo("caption", "text"),
        },
        "provenance": {},
        "licence": "CC0-1.0",
        "samples_per_shard": 2,
    }
    return shards.write_dataset(out, items, **(settings | options))


@pytest.mark.parametrize("codec", ["blosc-lz4", "blosc-zstd", "npy"])
@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_ours_and_plain_webdataset_read_what_was_written(
    tmp_path: Path, codec: str, dtype: str
) -> None:
    import webdataset

    info = write(tmp_path / "d", samples(dtype), codec=codec)
    ds = shards.open(tmp_path / "d")
    urls = [str(tmp_path / "d" / shard.name) for shard in info.shards]
    plain = list(webdataset.WebDataset(urls, shardshuffle=False).map(shards.webdataset_decode))
    assert [item["__key__"] for item in plain] == ds.keys == [f"k{i}" for i in range(5)]
    for i, sample in enumerate(samples(dtype)):
        for member, array in sample.arrays.items():
            for back in (ds[i].arrays[member], plain[i][member]):
                assert back.dtype == array.dtype
                assert np.array_equal(back, array)
    assert plain[0]["json"]["members"]["s2l1c_10"]["shape"] == [4, 8, 9]


def test_numpy_alone_reads_npy_members(tmp_path: Path) -> None:
    info = write(tmp_path / "d", samples(), codec="npy")
    with tarfile.open(tmp_path / "d" / info.shards[0].name) as tar:
        stream = io.BytesIO(tar.extractfile("k0.s2l1c_10.npy").read())
    assert np.array_equal(np.load(stream), next(samples()).arrays["s2l1c_10"])


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = write_tiny(tmp_path / "a"), write_tiny(tmp_path / "b")
    assert first == second
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_everything_about_a_sample_comes_back(tmp_path: Path) -> None:
    known = shards.Sample(
        key="S2A_1-x,y=2@3+4",
        arrays=next(samples()).arrays,
        lonlat=(-179.5, 89.0),
        time="2021-07-01T12:30:00.25+02:00",
        split="val",
        labels={
            **{"kind": np.int16(255), "tags": [1, 0, 1], "size": np.float32(0.5)},
            "caption": "a bay, two boats",
        },
        window=(-3, 4, 8, 9),
        valid_fraction=0.25,
        crs="EPSG:32618",
        transform=(10.0, 0.0, 435_780.0, 0.0, -10.0, 4_179_420.0),
    )
    bare = shards.Sample("bare", {"s2l1c_10": known.arrays["s2l1c_10"]})
    write(tmp_path / "d", [known, bare])
    ds = shards.open(tmp_path / "d")
    back = ds[0]
    assert back.labels == {
        **{"kind": 255, "tags": [0, 1], "size": 0.5},
        "caption": "a bay, two boats",
    }
    expected = dataclasses.replace(known, labels=back.labels, time="2021-07-01T10:30:00.250000Z")
    names = ("key", "lonlat", "time", "split", "labels", "window", "valid_fraction")
    for name in (*names, "crs", "transform"):
        assert getattr(back, name) == getattr(expected, name), name
    assert (ds[1].lonlat, ds[1].time, ds[1].split, ds[1].window, ds[1].labels) == (
        *(None, None, None, None),
        {},
    )
    assert list(ds[1].arrays) == ["s2l1c_10"]


def test_the_index_is_geoparquet(tiny_dataset: Path) -> None:
    table = pq.read_table(tiny_dataset / "index.parquet")
    geo = json.loads(table.schema.metadata[b"geo"])
    assert geo["primary_column"] == "geometry"
    assert geo["columns"]["geometry"]["encoding"] == "WKB"
    rows = table.to_pylist()
    order, kind, lon, lat = struct.unpack("<BIdd", rows[7]["geometry"])
    assert (order, kind, lon, lat) == (1, 1, rows[7]["lon"], rows[7]["lat"])
    box = [min(row["lon"] for row in rows), min(row["lat"] for row in rows)]
    assert geo["columns"]["geometry"]["bbox"][:2] == box


def test_byte_ranges_are_where_tarfile_finds_the_members(tiny_dataset: Path) -> None:
    rows = pq.read_table(tiny_dataset / "index.parquet").to_pylist()
    for row in rows[::5]:
        with tarfile.open(tiny_dataset / row["shard"]) as tar:
            info = tar.getmember(f"{row['key']}.s2l1c_20.blosc")
        assert (info.offset_data, info.size) == (row["s2l1c_20.offset"], row["s2l1c_20.bytes"])


def test_statistics_are_physical_and_of_all_pixels(tiny_dataset: Path) -> None:
    ds = shards.open(tiny_dataset)
    pixels = np.stack([s.arrays["s2l1c_10"] for s in tiny_samples()]).astype(np.float64) * 1e-4
    found = ds.statistics("s2l1c_10")
    # float64 sums in another order
    assert np.allclose(found["mean"], pixels.mean((0, 2, 3)), rtol=1e-12)
    assert np.allclose(found["std"], pixels.std((0, 2, 3)), rtol=1e-10)
    assert found["count"] == [pixels[:, 0].size] * 4


def test_nan_is_left_out_of_statistics(tmp_path: Path) -> None:
    pixels = np.full((2, 4, 4), -10.0, np.float32)
    pixels[1] = -20.0
    pixels[:, 0] = np.nan
    info = shards.write_dataset(
        tmp_path / "d",
        [shards.Sample("a", {"s1grd_10": pixels})],
        name="sar",
        modalities={"s1grd_10": shards.Declared("sentinel1-grd", ("VV", "VH"))},
        provenance={},
        licence="",
    )
    found = info.modalities["s1grd_10"]
    assert found.statistics["mean"] == [-10.0, -20.0]
    assert found.statistics["count"] == [12, 12]
    assert found.scaling == (1.0, 0.0)


def test_an_error_in_the_samples_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[shards.Sample]:
        yield from samples()
        raise RuntimeError("the scene ended")

    with pytest.raises(RuntimeError, match="the scene ended"):
        write(tmp_path / "d", broken())
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_overwriting_keeps_the_old(tmp_path: Path) -> None:
    write(tmp_path / "d", samples())
    before = {path.name: path.read_bytes() for path in (tmp_path / "d").iterdir()}
    with pytest.raises(FMError, match="no samples"):
        write(tmp_path / "d", [], overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "d").iterdir()} == before
    with pytest.raises(FMError, match="exists already"):
        write(tmp_path / "d", samples())
    assert write(tmp_path / "d", samples(count=1), overwrite=True).count == 1


def test_overwrite_removes_no_folder_that_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years")
    with pytest.raises(FMError, match=r"holds no dataset\.json"):
        write(tmp_path / "home", samples(), overwrite=True)
    assert (tmp_path / "home" / "thesis.txt").exists()


PIXELS = np.ones((4, 8, 9), np.uint16)
SERIES = np.ones((3, 4, 8, 9), np.uint16)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"key": "a.b"}, "no dot"),
        ({"key": "k" * 90}, "longer than 100 bytes"),
        ({"key": "same"}, "comes twice"),
        ({"arrays": {}}, "holds no modality"),
        ({"arrays": {"s2l1c_1": PIXELS}}, "did you mean 's2l1c_10'"),
        ({"arrays": {"s2l1c_10": PIXELS[:3]}}, r"expected \[4, H, W\]"),
        ({"arrays": {"s2l1c_10": PIXELS[0]}}, r"expected \[4, H, W\]"),
        ({"arrays": {"s2l1c_10": PIXELS[:, :0]}}, "not possible"),
        ({"arrays": {"s2l1c_10": PIXELS.astype(complex)}}, "convert it"),
        ({"arrays": {"s2l1c_10": PIXELS, "truth": PIXELS[0] + 7}}, "there are 3 classes"),
        ({"arrays": {"s2l1c_10": PIXELS, "truth": PIXELS}}, r"integer \[H, W\] mask"),
        ({"lonlat": (190.0, 0.0)}, "lonlat"),
        ({"lonlat": (float("nan"), 0.0)}, "lonlat"),
        ({"time": "yesterday"}, "ISO-8601"),
        ({"time": "0001-01-01T00:00+05:00"}, "out of range in UTC"),
        ({"window": (0, 0, 0, 5)}, "window"),
        ({"valid_fraction": 1.5}, "valid_fraction"),
        ({"times": ["2021-07-01", "2021-08-01"], "arrays": {"s2l1c_10": SERIES}}, "3 dates but"),
        ({"crs": "EPSG:4326"}, "come together"),
        ({"labels": {"caption": 7}}, "expected text"),
        ({"labels": {"knd": 1}}, "did you mean 'kind'"),
        ({"labels": {"kind": 2}}, "there are 2 classes"),
        ({"labels": {"kind": 1.0}}, "class number"),
        ({"labels": {"tags": 1}}, "list of class numbers"),
        ({"labels": {"size": float("inf")}}, "leave an unknown label out"),
        ({"labels": {"truth": PIXELS[0]}}, "put it into arrays"),
    ],
)
def test_a_bad_sample_is_one_line_and_nothing_is_written(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(FMError, match=reason) as caught:
        write(tmp_path / "d", samples(**changes))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_member_keeps_its_dtype(tmp_path: Path) -> None:
    mixed = [next(samples("uint16", key="a")), next(samples("int16", key="b"))]
    with pytest.raises(FMError, match="has one dtype"):
        write(tmp_path / "d", mixed)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"codec": "blosc"}, "unknown codec"),
        ({"name": "../x"}, "dataset name"),
        ({"samples_per_shard": 0}, "at least 1"),
        ({"modalities": {}}, "no modalities"),
        ({"modalities": {"s2": shards.Declared("sentinel2-l1", BANDS)}}, "sentinel2-l1c"),
        ({"modalities": {"s2": shards.Declared("sentinel2-l1c", ("B2",))}}, "B2"),
        ({"modalities": {"s2": shards.Declared("sentinel2-l1c", ("B02", "B05"))}}, "one grid"),
        ({"modalities": {"S2.x": shards.Declared("sentinel2-l1c", BANDS)}}, "lower-case"),
        ({"modalities": {"s2": shards.Declared("mine", ("a",), table=(OWN,))}}, "declare both"),
        (
            {"modalities": {"s2": shards.Declared("sentinel2-l1c", BANDS, nodata=(0, 0))}},
            "2 no-data numbers for 4 bands",
        ),
        (
            {"modalities": {"s2": shards.Declared("sentinel2-l1c", BANDS, nodata=0.5)}},
            "no whole number",
        ),
        ({"labels": {"key": shards.LabelInfo("key", "regression")}}, "none of key"),
        ({"labels": {"a": shards.LabelInfo("a", "mask", ("x",))}}, "names its member"),
        ({"labels": {"a": shards.LabelInfo("a", "class")}}, "name its classes"),
    ],
)
def test_a_bad_declaration_is_refused_before_any_sample(
    tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    def never() -> Iterator[shards.Sample]:
        raise AssertionError("samples were read")
        yield

    with pytest.raises((FMError, UsageError), match=reason):
        write(tmp_path / "d", never(), **options)
    assert list(tmp_path.iterdir()) == []


def test_time_series_are_stored_as_they_are(tmp_path: Path) -> None:
    series = np.arange(3 * 4 * 5 * 5, dtype=np.int16).reshape(3, 4, 5, 5)
    times = ["2021-06-01T10:30:00Z", "2021-07-01T10:30:00Z", "2021-08-01T10:30:00Z"]
    write(tmp_path / "d", [shards.Sample("a", {"s2l1c_10": series}, times=times)], labels={})
    ds = shards.open(tmp_path / "d")
    assert np.array_equal(next(ds.loader(1, steps=1)).pixels["s2l1c_10"][0].numpy(), series)
    assert (list(ds[0].times), ds[0].time) == (times, times[0])


@pytest.mark.parametrize("nodata", [-9999, (-9999, None, -9999, 7)])
def test_no_data_is_left_out_of_statistics_and_fraction(tmp_path: Path, nodata: Any) -> None:
    rng = np.random.default_rng(3)
    series = rng.integers(10, 5000, (2, 4, 6, 5)).astype(np.int16)
    series[0, 0, :3] = -9999
    series[1, 3, 0, 0] = 7
    series[1, 1, 2] = -9999
    info = write(
        tmp_path / "d",
        [shards.Sample("a", {"s2l1c_10": series})],
        labels={},
        modalities={"s2l1c_10": shards.Declared("sentinel2-l1c", BANDS, nodata=nodata)},
    )
    numbers = [nodata] * 4 if isinstance(nodata, int) else nodata
    modality = info.modalities["s2l1c_10"]
    assert modality.nodata == tuple(numbers)
    for band, number in enumerate(numbers):
        values = series[:, band][series[:, band] != number] * 1e-4
        assert modality.statistics["count"][band] == values.size
        assert modality.statistics["mean"][band] == pytest.approx(values.mean(), rel=1e-12)
        assert modality.statistics["min"][band] == values.min()
        assert sum(modality.statistics["histogram"][band]) == values.size
    valid = np.ones((2, 6, 5), bool)
    for band, number in enumerate(numbers):
        valid &= series[:, band] != number
    assert shards.open(tmp_path / "d")[0].valid_fraction == pytest.approx(valid.mean())


@pytest.mark.parametrize(
    ("dtype", "nodata", "reason"),
    [
        ("uint16", -9999, "-9999 cannot stand in uint16"),
        ("float32", 0, "missing data is NaN"),
    ],
)
def test_no_data_that_cannot_occur_is_refused(
    tmp_path: Path, dtype: str, nodata: int, reason: str
) -> None:
    declared = {"s2l1c_10": shards.Declared("sentinel2-l1c", BANDS, nodata=nodata)}
    with pytest.raises(FMError, match=reason):
        write(tmp_path / "d", samples(dtype), modalities=declared)
    assert list(tmp_path.iterdir()) == []


def test_shards_are_joined_in_order_and_percentiles_stay_exact(tmp_path: Path) -> None:
    info = write(tmp_path / "d", samples(count=7))
    values = np.stack([s.arrays["s2l1c_10"] for s in samples(count=7)])[:, 2] * 1e-4
    found = info.modalities["s2l1c_10"].statistics
    assert [shard.count for shard in info.shards] == [2, 2, 2, 1]
    for name, p in (("p1", 1), ("p2", 2), ("p50", 50), ("p98", 98), ("p99", 99)):
        assert found[name][2] == pytest.approx(np.percentile(values, p), rel=1e-12)
    start, step = found["histogram_start"][2], found["histogram_step"][2]
    counts = found["histogram"][2]
    edges = start + step * np.arange(len(counts) - 1)
    assert counts[1:-1] == np.histogram(values[values < edges[-1]], edges)[0].tolist()
