"""S2-100K in miniature: full-size patches of made-up numbers, two baselines."""

import pickle
import tarfile
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rasterio.transform import Affine

from fm import sensors
from fm.errors import FMError
from shards.sources import s2_100k
from shards.sources.base import Content, Skip
from tests.shards.rasters import plane, write_raster

NAMES = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
"""The order of the files (SatCLIP; specs of the release)."""
WEST, NORTH = 309_945.0, 8_563_255.0
LONLAT = Transformer.from_crs(32735, 4326, always_xy=True).transform(WEST + 1280, NORTH - 1280)
ROWS = [("patch_7.tif", *LONLAT), ("patch_12.tif", *LONLAT), ("patch_3.tif", *LONLAT)]


def write_index(root: Path, rows: list) -> None:
    lines = [f"{lat!r},{lon!r},somewhere,{name}" for name, lon, lat in rows]
    (root / "index.csv").write_text("\n".join(["lat,lon,url,fn", *lines]) + "\n")


def write_patch(root: Path, name: str, number: int, **changes: object) -> None:
    data = np.stack([plane(place + 1 + number, 256, 256) for place in range(12)])
    data[:, :8] = 0
    where = {"crs": "EPSG:32735", "west": WEST, "north": NORTH}
    write_raster(root / "images" / name, data, **(where | changes))


@pytest.fixture
def release(tmp_path: Path) -> Path:
    for number, (name, *_) in enumerate(ROWS):
        write_patch(tmp_path, name, number)
    write_index(tmp_path, ROWS)
    return tmp_path


def read(root: Path, *words: str) -> Content:
    parser = ArgumentParser()
    s2_100k.configure(parser)
    return s2_100k.read(parser.parse_args(["--root", str(root), *words]))


def test_bands_and_places(release: Path) -> None:
    content = read(release, "--as-stored")
    content = pickle.loads(pickle.dumps(content))  # as a worker gets it
    samples = list(content.samples())
    assert [s.key for s in samples] == ["patch_7", "patch_12", "patch_3"]
    declared = content.modalities["s2l2a"]
    assert declared.bands == tuple(band.name for band in sensors.sensor("sentinel2-l2a").bands)
    assert (declared.sensor, declared.gsd_m, declared.nodata) == ("sentinel2-l2a", 10, (0,) * 12)
    for number, sample in enumerate(samples):
        for name, found in zip(declared.bands, sample.arrays["s2l2a"], strict=True):
            want = plane(NAMES.index(name) + 1 + number, 256, 256)
            assert np.array_equal(found[8:], want[8:]), name
            assert (found[:8] == 0).all()
        assert sample.lonlat == LONLAT
        assert sample.crs == "EPSG:32735"
        assert sample.transform == (10.0, 0, WEST, 0, -10.0, NORTH)
        assert sample.time is None


def test_baselines_give_all_patches_the_same_meaning(release: Path) -> None:
    table = release / "baselines.csv"
    table.write_text("fn,baseline\npatch_7.tif,03.01\npatch_12.tif,04.00\npatch_3.tif,05.09\n")
    content = read(release, "--baselines", str(table))
    sensor = sensors.sensor(content.modalities["s2l2a"].sensor)
    assert sensor.name == "sentinel2-l2a-n0400"
    for sample, add, number in zip(content.samples(), (1000, 0, 0), range(3), strict=True):
        first = sample.arrays["s2l2a"][0]
        assert np.array_equal(first[8:], plane(1 + number, 256, 256)[8:] + add)
        assert (first[:8] == 0).all()  # no data stays no data
    old, *_ = content.samples()
    assert old.labels == {"baseline": "03.01"}
    want = plane(1, 256, 256)[8, 0] * 1e-4  # the reflectance that the old patch meant
    assert old.arrays["s2l2a"][0, 8, 0] * sensor.scale + sensor.offset == pytest.approx(want)
    table.write_text("fn,baseline\npatch_7.tif,old\n")
    with pytest.raises(FMError, match=r"patch_7\.tif has no baseline.*patch_3\.tif has no"):
        read(release, "--baselines", str(table))


def test_the_offset_must_be_decided(release: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        read(release)
    assert "--as-stored" in capsys.readouterr().err


def test_all_problems_are_listed(release: Path) -> None:
    rows = [*ROWS, ROWS[0], ("patch_9.tif", *LONLAT), ("patch_8.tif", 200.0, 4.0)]
    write_patch(release, "patch_8.tif", 8)
    write_index(release, rows)
    with pytest.raises(FMError, match=r"row 4: .*twice.*row 6: lon 200.*patch_9\.tif is missing"):
        read(release, "--as-stored")
    write_index(release, [*ROWS, ("patch_9.tif", *LONLAT)])
    content = read(release, "--as-stored", "--skip-missing")
    assert (len(content.tasks), content.provenance["left_out"]) == (3, 1)
    (release / "index.csv").write_text("fn,lon\n")
    with pytest.raises(FMError, match="no column lat"):
        read(release, "--as-stored")
    (release / "index.csv").write_text("fn,lon,lat\na.tif,1\n")
    with pytest.raises(FMError, match="row 1 has another number of cells"):
        read(release, "--as-stored")


def test_a_patch_in_another_place_is_refused(release: Path) -> None:
    write_patch(release, "patch_7.tif", 0, west=WEST + 100)
    content = read(release, "--as-stored")
    with pytest.raises(FMError, match="lies 100 m from its place in index"):
        content.make(content.tasks[0])


def test_an_empty_patch_is_left_out(release: Path) -> None:
    empty = np.zeros((12, 256, 256), np.uint16)
    write_raster(release / "images/patch_7.tif", empty, crs="EPSG:32735", west=WEST, north=NORTH)
    content = read(release, "--as-stored")
    with pytest.raises(Skip, match="no pixel with data"):
        content.make(content.tasks[0])
    write_raster(release / "images/patch_7.tif", empty[:11])
    with pytest.raises(FMError, match=r"expected uint16 \(12, 256, 256\)"):
        content.make(content.tasks[0])


def packed(release: Path, root: Path, *, one: bool = False) -> Path:
    """Write the release as Hugging Face has it: two patches a tar, or all in one."""
    (root / "data").mkdir(parents=True)
    (root / "index.csv").write_bytes((release / "index.csv").read_bytes())
    names = [name for name, *_ in ROWS]
    parts = {"satclip.tar": names}
    if not one:
        parts = {"data/shard-00000.tar": names[:2], "data/shard-00001.tar": names[2:]}
    for tar, members in parts.items():
        with tarfile.open(root / tar, "w") as stream:
            for name in members:
                inside = f"images/{name}" if one else name
                stream.add(release / "images" / name, inside)
    return root


@pytest.mark.parametrize("one", [False, True])
def test_tars_are_read_in_place(one: bool, release: Path, tmp_path: Path) -> None:
    root = packed(release, tmp_path / "packed, as there", one=one)
    here, there = (read(place, "--as-stored") for place in (release, root))
    there = pickle.loads(pickle.dumps(there))
    for ours, theirs in zip(there.samples(), here.samples(), strict=True):
        assert ours.key == theirs.key
        assert np.array_equal(ours.arrays["s2l2a"], theirs.arrays["s2l2a"])
        assert (ours.lonlat, ours.crs, ours.transform) == (LONLAT, theirs.crs, theirs.transform)
    assert there.files is not None
    tars = {Path(f).name for task in there.tasks for f in there.files(task)}
    assert tars == ({"satclip.tar"} if one else {"shard-00000.tar", "shard-00001.tar"})


def test_wrong_tars_are_one_line(release: Path, tmp_path: Path) -> None:
    root = packed(release, tmp_path / "packed")
    with tarfile.open(root / "data" / "shard-00002.tar", "w") as stream:
        stream.add(release / "images" / "patch_7.tif", "patch_7.tif")
    with pytest.raises(FMError, match=r"00002\.tar: patch_7\.tif is in .*00000\.tar too"):
        read(root, "--as-stored")
    (root / "data" / "shard-00002.tar").unlink()
    (root / "data" / "shard-00000.tar").unlink()
    with pytest.raises(FMError, match=r"shard-\*\.tar: patch_7\.tif is missing.*--skip-missing"):
        read(root, "--as-stored")
    cut = root / "data" / "shard-00001.tar"
    cut.write_bytes(cut.read_bytes()[:5000])
    with pytest.raises(FMError, match="it was cut off"):
        read(root, "--as-stored")
    cut.unlink()
    with pytest.raises(FMError, match="has neither images/ nor data/shard-"):
        read(root, "--as-stored")


def test_files_below_ten_kilobytes_are_left_out_and_counted(release: Path) -> None:
    """As SatCLIP's code does: next to nothing of them is data."""
    data = np.zeros((12, 256, 256), np.uint16)
    data[:, 0, 0] = 500
    path = release / "images" / "patch_7.tif"
    transform = Affine(10, 0, WEST, 0, -10, NORTH)
    words = {"driver": "GTiff", "crs": "EPSG:32735", "transform": transform, "compress": "deflate"}
    with rasterio.open(
        path, "w", width=256, height=256, count=12, dtype="uint16", **words
    ) as raster:
        raster.write(data)
    assert path.stat().st_size < 10_000
    content = read(release, "--as-stored")
    with pytest.raises(Skip, match="a file of less than 10000 bytes"):
        content.make(content.tasks[0])
    assert [s.key for s in content.samples()] == ["patch_12", "patch_3"]
