import io
import json
import os
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import webdataset

import shards
from fm.errors import FMError, UsageError
from shards.codecs.codec import checksum
from shards.foreign import fragment
from shards.foreign.declare_file import from_mapping
from shards.foreign.index import Indexed, index_tars
from shards.foreign.keys import sample_key, split_name
from shards.foreign.members import decode_foreign
from shards.format import read_info
from tests.shards.foreign_tars import npy, place, write_tar, zarr_zip
from tests.shards.rasters import write_raster
from tests.shards.test_foreign_members import tiff

RNG = np.random.default_rng(3)
S2 = {
    "modality": "s2l1c_10",
    "sensor": "sentinel2-l1c",
    "bands": ["B02", "B03", "B04", "B08"],
    "axes": "HWC",
    "nodata": 0,
}
MEMBERS = {
    "s2.npy": S2,
    "s1.tif": {"modality": "s1grd_10", "sensor": "sentinel1-grd", "bands": ["VV", "VH"]},
    "more.safetensors": [
        {
            "tensor": name,
            "modality": f"s2l1c_{gsd}",
            "sensor": "sentinel2-l1c",
            "bands": bands,
            "axes": "CHW",
            "nodata": "none",
        }
        for name, gsd, bands in (("b20", 20, ["B05", "B06"]), ("b60", 60, ["B09"]))
    ],
    "mask.tif": {"mask": "cover", "classes": ["water", "land"], "ignore": 255},
    "json": {
        "metadata": {"lonlat": ["place.lon", "place.lat"], "time": "date", "split": "part"},
        "labels": {
            "crop": {"key": "crop", "kind": "class", "classes": ["wheat", "maize"]},
            "tags": {"key": "tags", "kind": "multilabel", "classes": ["a", "b", "c"]},
            "yields": {"key": "stats.0", "kind": "regression"},
        },
    },
    "cls": {"label": "scene", "kind": "class", "classes": ["dark", "bright"]},
}
PLAIN = {"name": "plots", "licence": "CC0-1.0", "members": MEMBERS, "ignore": ["txt"]}


def sample(number: int) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    pixels = rng.integers(1, 4000, (8, 6, 4)).astype("<u2")
    pixels[0, 0] = 0
    lon, lat = place(number)
    return {
        "s2.npy": pixels,
        "s1.tif": rng.normal(-12, 3, (2, 8, 6)).astype("f4"),
        "more.safetensors": {
            "b20": rng.integers(0, 99, (2, 4, 3)).astype("<u2"),
            "b60": rng.integers(0, 99, (1, 2, 1)).astype("<u2"),
        },
        "mask.tif": rng.integers(0, 2, (1, 8, 6)).astype("u1"),
        "json": {
            "place": {"lon": lon, "lat": lat},
            "date": f"2021-0{number + 1}-03T10:00:00Z",
            "part": ("train", "val")[number % 2],
            "crop": ("wheat", 1)[number % 2],
            "tags": ["c", 0],
            "stats": [number / 4],
        },
        "cls": str(number % 2),
        "txt": "passed over",
    }


def packed(value: Any, ending: str) -> bytes:
    if ending.endswith("npy"):
        return npy(value)
    if ending.endswith("tif"):
        return tiff(value)
    if ending.endswith("safetensors"):
        return safetensors.numpy.save(value)
    return (json.dumps(value) if ending == "json" else value).encode()


def write_plain(folder: Path, count: int = 5, without: tuple[tuple[int, str], ...] = ()) -> None:
    for first in range(0, count, 2):
        files = {
            f"field/{number:04d}.{ending}": packed(value, ending)
            for number in range(first, min(first + 2, count))
            for ending, value in sample(number).items()
            if (number, ending) not in without
        }
        write_tar(folder / f"plots-{first // 2:03d}.tar", files)


def arrays_of(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Every array by key and member, read by the byte ranges and codecs of the index."""
    info = read_info(folder)
    root = Path(info.root) if info.root else folder
    found: dict[str, dict[str, np.ndarray]] = {}
    for row in pq.read_table(folder / "index.parquet").to_pylist():
        found[row["key"]] = {}
        for member in info.members:
            if row[f"{member}.offset"] is None:
                continue
            with open(root / (row[f"{member}.shard"] or row["shard"]), "rb") as stream:
                stream.seek(row[f"{member}.offset"])
                data = stream.read(row[f"{member}.bytes"])
            assert checksum(data) == row[f"{member}.xxh3"]
            dtype, codec = info.stored(member)
            out = np.empty(row[f"{member}.shape"], dtype)
            decode_foreign(data, codec, out)
            found[row["key"]][member] = out
    return found


def build(tmp_path: Path, declared: Any = PLAIN, **options: Any) -> Indexed:
    return index_tars([str(tmp_path / "tars")], tmp_path / "out", from_mapping(declared), **options)


def test_members_of_every_kind_are_found_and_nothing_is_rewritten(tmp_path: Path) -> None:
    write_plain(tmp_path / "tars", without=((1, "s1.tif"), (2, "cls")))
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "tars").iterdir()}
    made = build(tmp_path)
    after = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "tars").iterdir()}
    assert before == after
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        *("dataset.json", "index.bin", "index.parquet"),
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "tars"]
    assert made.absent == {"s1grd_10": 1}
    assert made.ignored == {"txt": 5}
    found = arrays_of(tmp_path / "out")
    assert list(found) == [f"field@{number:04d}" for number in range(5)]
    for number in range(5):
        want, got = sample(number), found[f"field@{number:04d}"]
        assert np.array_equal(got["s2l1c_10"], want["s2.npy"].transpose(2, 0, 1))
        assert np.array_equal(got["s2l1c_20"], want["more.safetensors"]["b20"])
        assert np.array_equal(got["s2l1c_60"], want["more.safetensors"]["b60"])
        assert np.array_equal(got["cover_mask"], want["mask.tif"][0])
        assert ("s1grd_10" in got) == (number != 1)
    rows = pq.read_table(tmp_path / "out" / "index.parquet").to_pylist()
    assert [row["crop"] for row in rows] == [0, 1, 0, 1, 0]
    assert [row["scene"] for row in rows] == [0, 1, None, 1, 0]
    assert [row["split"] for row in rows] == ["train", "val", "train", "val", "train"]
    assert rows[2]["tags"] == [0, 2]
    assert rows[2]["yields"] == 0.5
    assert (rows[2]["lon"], rows[2]["lat"]) == place(2)
    assert rows[2]["time"].isoformat() == "2021-03-03T10:00:00+00:00"


def test_plain_webdataset_gives_the_same_arrays(tmp_path: Path) -> None:
    write_plain(tmp_path / "tars")
    build(tmp_path)
    found = arrays_of(tmp_path / "out")
    urls = sorted(str(path) for path in (tmp_path / "tars").iterdir())
    count = 0
    for item in webdataset.WebDataset(urls, shardshuffle=False):
        mine = found[sample_key(item["__key__"])]
        theirs = np.load(io.BytesIO(item["s2.npy"]), allow_pickle=False)
        assert np.array_equal(mine["s2l1c_10"], theirs.transpose(2, 0, 1))
        tensors = safetensors.numpy.load(item["more.safetensors"])
        assert np.array_equal(mine["s2l1c_20"], tensors["b20"])
        count += 1
    assert count == len(found) == 5


def test_statistics_are_of_valid_pixels_in_physical_units(tmp_path: Path) -> None:
    write_plain(tmp_path / "tars")
    info = build(tmp_path, workers=2).info
    pixels = np.stack([sample(number)["s2.npy"] for number in range(5)]).astype(np.float64)
    pixels = pixels.transpose(3, 0, 1, 2).reshape(4, -1)
    statistics = info.modalities["s2l1c_10"].statistics
    for band in range(4):
        valid = pixels[band][pixels[band] != 0] * 1e-4
        assert statistics["count"][band] == len(valid) == 5 * 47
        assert np.isclose(statistics["mean"][band], valid.mean(), rtol=1e-12)
        assert np.isclose(statistics["std"][band], valid.std(), rtol=1e-12)
    rows = pq.read_table(tmp_path / "out" / "index.parquet").to_pylist()
    # one pixel of 48 lacks data in every band of the worst modality, as the writer counts it
    assert all(np.isclose(row["valid_fraction"], 1 - 1 / 48) for row in rows)
    fast = index_tars([str(tmp_path / "tars")], tmp_path / "fast", from_mapping(PLAIN), every=0)
    assert fast.info.modalities["s2l1c_10"].statistics == {}
    assert fast.info.modalities["s2l1c_10"].dtype == "uint16"
    some = index_tars([str(tmp_path / "tars")], tmp_path / "some", from_mapping(PLAIN), every=2)
    counted = some.info.modalities["s2l1c_10"].statistics["count"]
    known = [
        row["valid_fraction"] is not None
        for row in pq.read_table(tmp_path / "some" / "index.parquet").to_pylist()
    ]
    assert known == [checksum(f"field@{number:04d}".encode()) % 2 == 0 for number in range(5)]
    assert 0 < sum(known) < 5
    assert counted == [47 * sum(known)] * 4
    assert arrays_of(tmp_path / "fast").keys() == arrays_of(tmp_path / "out").keys()


def test_the_index_may_lie_with_the_tars(tmp_path: Path) -> None:
    write_plain(tmp_path / "tars")
    made = index_tars([str(tmp_path / "tars")], tmp_path / "tars", from_mapping(PLAIN))
    assert made.info.root is None
    assert len(arrays_of(tmp_path / "tars")) == 5
    with pytest.raises(FMError, match="exists already"):
        index_tars([str(tmp_path / "tars")], tmp_path / "tars", from_mapping(PLAIN))


def test_an_interrupted_index_goes_on_with_the_tars_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plain(tmp_path / "tars")
    whole = build(tmp_path).info
    read: list[str] = []
    real = fragment.make

    def make(path: Path, tar: str, *rest: Any, **options: Any) -> fragment.Fragment:
        if not read and tar == "plots-002.tar":
            read.append("failed")
            raise OSError("the disk went away")
        read.append(tar)
        return real(path, tar, *rest, **options)

    monkeypatch.setattr(fragment, "make", make)
    os.rename(tmp_path / "out", tmp_path / "first")
    read.clear()
    monkeypatch.setattr(fragment, "make", lambda p, t, *r, **o: _fail(t) or make(p, t, *r, **o))
    with pytest.raises(FMError, match="the disk went away"):
        build(tmp_path, workers=1)
    assert not (tmp_path / "out").exists()
    read.clear()
    monkeypatch.setattr(fragment, "make", make)
    read.append("past the first failure")
    again = build(tmp_path, workers=1).info
    assert read[1:] == ["plots-002.tar"]
    assert again.manifest_hash == whole.manifest_hash
    for name in ("index.parquet", "index.bin", "dataset.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()


def _fail(tar: str) -> None:
    if tar == "plots-002.tar":
        raise OSError("the disk went away")


def test_what_is_not_declared_stops_it_with_the_whole_list(tmp_path: Path) -> None:
    write_plain(tmp_path / "tars")
    files = {"9.s2.npy": npy(np.zeros((8, 6, 3), "u2")), "9.jpg": b"", "9.a.pth": b"", "b": b""}
    write_tar(tmp_path / "tars" / "z.tar", files)
    (tmp_path / "tars" / "y.tar").write_bytes(b"garbage")
    declared = PLAIN | {"members": {"s2.npy": S2}, "ignore": []}
    with pytest.raises(FMError) as caught:
        build(tmp_path, declared)
    text = str(caught.value)
    for part in (
        "y.tar: ends at byte 7 without",
        "1 pickles .a.pth (first 9.a.pth in z.tar)",
        "so they are refused; take the tensors out with --convert-pickles",
        "5 members .json (first field/0000.json in plots-000.tar)",
        "1 members .jpg",
        "1 members .b",
    ):
        assert part in text
    assert not (tmp_path / "out").exists()


def test_a_member_that_is_not_as_declared_names_its_tar(tmp_path: Path) -> None:
    write_plain(tmp_path / "tars")
    files = {"field/0009.s2.npy": npy(np.ones((8, 6, 3), "<u2"))}
    write_tar(tmp_path / "tars" / "plots-009.tar", files)
    with pytest.raises(FMError, match=r"plots-009\.tar: field/0009\.s2\.npy: .* is not HWC of 4"):
        build(tmp_path)
    files = {"field/0009.s2.npy": npy(np.ones((8, 6, 4), "<i4"))}
    write_tar(tmp_path / "tars" / "plots-009.tar", files)
    with pytest.raises(FMError, match=r"is uint16 in plots-000\.tar but int32 in plots-009"):
        build(tmp_path)
    files = {"field/0009.s2.npy": npy(np.ones((8, 6, 4), "<u2")), "field/0009.json": b"{}"}
    write_tar(tmp_path / "tars" / "plots-009.tar", files)
    with pytest.raises(FMError, match=r"field/0009\.json: it holds no 'place\.lon'"):
        build(tmp_path)


def test_integers_without_a_no_data_number_are_refused(tmp_path: Path) -> None:
    write_plain(tmp_path / "tars")
    entry = {key: value for key, value in S2.items() if key != "nodata"}
    declared = PLAIN | {"members": MEMBERS | {"s2.npy": entry}}
    with pytest.raises(FMError, match="s2l1c_10 is uint16; say its nodata"):
        build(tmp_path, declared)


def test_labels_called_count_and_total_are_left_alone(tmp_path: Path) -> None:
    pixels = npy(np.ones((8, 6, 4), "<u2"))
    text = json.dumps({"count": 7.5, "total": 2.5}).encode()
    write_tar(tmp_path / "tars" / "x.tar", {"1.json": text, "1.s2.npy": pixels})
    labels = {name: {"key": name, "kind": "regression"} for name in ("count", "total")}
    build(tmp_path, PLAIN | {"members": {"s2.npy": S2, "json": {"labels": labels}}})
    (row,) = pq.read_table(tmp_path / "out" / "index.parquet").to_pylist()
    assert (row["count"], row["total"], row["valid_fraction"]) == (7.5, 2.5, 1.0)


def test_valid_fraction_is_of_pixels_valid_in_every_band_of_the_worst_modality(
    tmp_path: Path,
) -> None:
    optical, radar = np.ones((4, 4, 4), "<u2"), np.full((2, 4, 4), -9.0, "<f4")
    for band in range(4):
        optical[band, 0, band] = 0  # four pixels lack one band each
    radar[0, :, 0:2] = np.nan
    write_tar(tmp_path / "tars" / "a" / "x.tar", {"1.s2.npy": npy(optical)})
    write_tar(tmp_path / "tars" / "b" / "x.tar", {"1.npy": npy(radar)})
    grd = {"modality": "s1grd_10", "sensor": "sentinel1-grd", "bands": ["VV", "VH"], "axes": "CHW"}
    build(tmp_path, PLAIN | {"members": {"a/s2.npy": S2, "b/npy": grd}})
    (row,) = pq.read_table(tmp_path / "out" / "index.parquet").to_pylist()
    assert row["valid_fraction"] == 0.5


def test_a_no_data_number_of_floats_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "tars" / "x.tar", {"1.s2.npy": npy(np.ones((8, 6, 4), "<f4"))})
    with pytest.raises(FMError, match="is float32, whose missing data is NaN, not 0"):
        build(tmp_path, PLAIN | {"members": {"s2.npy": S2}})


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"scales": (1e-3,) * 4, "offsets": (0.0,) * 4}, "states scale_factor 0.001"),
        ({"nodata": 65535}, r"states no-data \(_FillValue\) 65535"),
        ({"units": ("K",) * 4}, "states the unit 'K', declared is 'reflectance'"),
    ],
)
def test_tags_of_a_tiff_must_agree(tmp_path: Path, tags: dict[str, Any], reason: str) -> None:
    data = np.ones((4, 8, 6), "<u2")
    nodata = tags.pop("nodata", None)
    path = write_raster(tmp_path / "x.tif", data, nodata=nodata, tags=tags)
    write_tar(tmp_path / "tars" / "x.tar", {"1.tif": path.read_bytes()})
    entry = {key: value for key, value in S2.items() if key != "axes"}
    with pytest.raises(FMError, match=reason):
        build(tmp_path, PLAIN | {"members": {"tif": entry}})


@pytest.mark.parametrize("stated", [{"_FillValue": 65535}, {"scale_factor": 1.0e-3}])
def test_tags_of_a_zarr_array_must_agree_without_metadata_too(
    tmp_path: Path, stated: dict[str, float]
) -> None:
    data = zarr_zip({"bands": np.ones((4, 8, 6), "<u2")}, attributes={"bands": stated})
    write_tar(tmp_path / "tars" / "x.tar", {"1.zarr.zip": data})
    entry = S2 | {"array": "bands", "axes": "CHW"}
    with pytest.raises(FMError, match=f"states .*{next(iter(stated))}"):
        build(tmp_path, PLAIN | {"members": {"zarr.zip": entry}})


def test_keys() -> None:
    assert split_name("a/b.c/0001.s2.npy") == ("a/b.c/0001", "s2.npy")
    assert split_name("dir.d/README") == ("", "dir.d/README")
    assert split_name(".hidden") == ("", ".hidden")
    assert sample_key("a/b/0001") == "a@b@0001"
    assert sample_key("ü 1") == "_=C3=BC=201"
    assert sample_key("-1") == "_-1"


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("a/1.s2.npy", "a@1.s2.npy", "give one key 'a@1'"),
        ("a/1.s2.npy", "a/1.s2.npy", "s2l1c_10 comes twice"),
    ],
)
def test_two_samples_never_share_a_key(
    tmp_path: Path, first: str, second: str, reason: str
) -> None:
    pixels = npy(np.ones((8, 6, 4), "<u2"))
    declared = PLAIN | {"members": {"s2.npy": S2}}
    write_tar(tmp_path / "tars" / "x.tar", [(first, pixels), (second, pixels)])
    with pytest.raises(FMError, match=reason):
        build(tmp_path, declared)
    for name in ("x", "y"):
        write_tar(tmp_path / "tars" / f"{name}.tar", {"a/1.s2.npy": pixels})
    with pytest.raises(FMError, match=r"s2l1c_10 of sample 'a@1' is in x\.tar and in y\.tar"):
        build(tmp_path, declared)


def test_series_are_joined_whatever_their_tars_are_called(tmp_path: Path) -> None:
    pixels = {n: np.full((8, 6, 4), n + 1, "<u2") for n in range(4)}
    radar = {n: np.full((2, 8, 6), -n, "<f4") for n in range(1, 5)}
    for number, numbers in enumerate(((0, 1, 2), (3,))):
        files = {f"{n}.s2.npy": npy(pixels[n]) for n in numbers}
        write_tar(tmp_path / "tars" / "optical" / f"o{number}.tar", files)
    for number, numbers in enumerate(((4, 3), (2, 1))):
        files = {f"{n}.npy": npy(radar[n]) for n in numbers}
        write_tar(tmp_path / "tars" / "radar" / f"r{number}.tar", files)
    grd = {"modality": "s1grd_10", "sensor": "sentinel1-grd", "bands": ["VV", "VH"], "axes": "CHW"}
    declared = PLAIN | {"members": {"optical/s2.npy": S2, "radar/npy": grd}, "ignore": []}
    made = build(tmp_path, declared)
    assert made.absent == {"s2l1c_10": 1, "s1grd_10": 1}
    found = arrays_of(tmp_path / "out")
    assert list(found) == ["0", "1", "2", "3", "4"]
    for n in range(5):
        assert (found[str(n)].get("s2l1c_10", np.full(1, n + 1)) == n + 1).all()
        assert (found[str(n)].get("s1grd_10", np.full(1, -n)) == -n).all()
    counts = {shard.name: shard.count for shard in made.info.shards}
    assert counts == {
        "optical/o0.tar": 3,
        "optical/o1.tar": 1,
        "radar/r0.tar": 1,
        "radar/r1.tar": 0,
    }


def test_members_of_one_key_that_lie_apart_are_not_joined(tmp_path: Path) -> None:
    for name, lon in (("a", 8.0), ("b", 8.5)):
        data = zarr_zip(
            {
                "bands": np.ones((2, 4, 4), "<f4"),
                "lon": np.float64(lon),
                "lat": np.float64(47.0),
            }
        )
        write_tar(tmp_path / "tars" / name / "x.tar", {"1.zarr.zip": data})
    entry = {
        "array": "bands",
        "sensor": "sentinel1-grd",
        "bands": ["VV", "VH"],
        "axes": "CHW",
        "metadata": {"lonlat": ["lon", "lat"]},
    }
    declared = PLAIN | {"members": {f"{n}/zarr.zip": entry | {"modality": f"s1_{n}"} for n in "ab"}}
    with pytest.raises(FMError, match=r"sample '1' lies at \(8\.5, 47\.0\) in b/x\.tar"):
        build(tmp_path, declared)


def test_places_that_cannot_be_indexed(tmp_path: Path) -> None:
    declared = from_mapping(PLAIN)
    with pytest.raises(FMError, match="no such tar or folder"):
        index_tars([str(tmp_path / "none")], tmp_path / "out", declared)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FMError, match=r"no \.tar is in it"):
        index_tars([str(tmp_path / "empty")], tmp_path / "out", declared)
    (tmp_path / "a.tar.gz").write_bytes(b"")
    with pytest.raises(FMError, match=r"not a plain \.tar"):
        index_tars([str(tmp_path / "a.tar.gz")], tmp_path / "out", declared)
    write_tar(tmp_path / "deep" / "a" / "b" / "x.tar", {})
    write_tar(tmp_path / "deep" / "y.tar", {})
    with pytest.raises(UsageError, match="do not share a parent"):
        index_tars(
            [str(tmp_path / "deep" / "a" / "b"), str(tmp_path / "deep" / "y.tar")],
            tmp_path / "out",
            declared,
        )
    write_tar(tmp_path / "odd" / "x y.tar", {})
    with pytest.raises(FMError, match="cannot hold this name"):
        index_tars([str(tmp_path / "odd")], tmp_path / "out", declared)
    with pytest.raises(UsageError, match="cannot stand in one dataset"):
        index_tars(["https://example.org/x.tar", str(tmp_path)], tmp_path / "out", declared)
    write_tar(tmp_path / "tars" / "x.tar", {"1.txt": b""})
    with pytest.raises(FMError, match="no declared member"):
        build(tmp_path)
    with pytest.raises(UsageError, match="say --name and --licence"):
        build(tmp_path, {"members": MEMBERS})


def test_tars_behind_a_url_are_indexed_and_read_there(tmp_path: Path) -> None:
    write_plain(tmp_path / "tars", count=3)
    remote = fsspec.filesystem("memory")
    remote.put(str(tmp_path / "tars") + "/", "/foreign-tars/", recursive=True)
    urls = [f"memory://foreign-tars/plots-00{number}.tar" for number in (0, 1)]
    made = index_tars(urls, tmp_path / "there", from_mapping(PLAIN), cache=tmp_path / "cache")
    here = build(tmp_path)
    assert made.info.root == "memory://foreign-tars"
    assert made.info.manifest_hash == here.info.manifest_hash
    ds = shards.open(tmp_path / "there", cache=tmp_path / "cache")
    assert np.array_equal(ds[2].arrays["s2l1c_10"], sample(2)["s2.npy"].transpose(2, 0, 1))
