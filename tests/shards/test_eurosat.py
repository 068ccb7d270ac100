"""EuroSAT in miniature: the files keep B8A last, the shards do not."""

import pickle
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest
from pyproj import Transformer
from rasterio.transform import Affine

from fm import sensors
from fm.errors import FMError, UsageError
from shards.sources import eurosat
from shards.sources.base import Content
from tests.shards.rasters import plane, write_raster

NAMES = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B10", "B11", "B12", "B8A"]
"""The published order of the files."""
GRID = Affine(10.0057, 0, 624_602.2, 0, -9.9941, 4_877_286.0)
"""As in the real files: pixels are not quite square."""


@pytest.fixture
def release(tmp_path: Path) -> Path:
    for number, name in enumerate(("AnnualCrop_2", "AnnualCrop_10", "SeaLake_3000")):
        data = np.stack([plane(place + number, 64, 64) for place in range(13)])
        path = tmp_path / name.split("_")[0] / f"{name}.tif"
        write_raster(path, data, crs="EPSG:32635", transform=GRID)
    return tmp_path


def read(root: Path, *words: str) -> Content:
    parser = ArgumentParser()
    eurosat.configure(parser)
    return eurosat.read(parser.parse_args(["--root", str(root), *words]))


def test_bands_are_put_into_table_order_by_name(release: Path) -> None:
    content = read(release)
    content = pickle.loads(pickle.dumps(content))  # as a worker gets it
    samples = list(content.samples())
    assert [s.key for s in samples] == ["AnnualCrop_2", "AnnualCrop_10", "SeaLake_3000"]
    bands = content.modalities["s2l1c"].bands
    assert bands == tuple(band.name for band in sensors.sensor("sentinel2-l1c").bands)
    for number, sample in enumerate(samples):
        for name, found in zip(bands, sample.arrays["s2l1c"], strict=True):
            assert np.array_equal(found, plane(NAMES.index(name) + number, 64, 64)), name
    assert content.modalities["s2l1c"].nodata == (*[0] * 10, None, 0, 0)  # B10: 0 is measured
    assert [content.labels["land_use"].classes[s.labels["land_use"]] for s in samples] == [
        "AnnualCrop",
        "AnnualCrop",
        "SeaLake",
    ]


def test_place_is_that_of_the_file(release: Path) -> None:
    sample = next(iter(read(release).samples()))
    to_degrees = Transformer.from_crs(32635, 4326, always_xy=True)
    want = to_degrees.transform(624_602.2 + 32 * 10.0057, 4_877_286.0 - 32 * 9.9941)
    assert sample.lonlat == pytest.approx(want, abs=1e-9)
    assert sample.transform == tuple(GRID)[:6]
    assert sample.crs == "EPSG:32635"
    assert sample.time is None


def test_lists_make_splits(release: Path, tmp_path: Path) -> None:
    train, test = tmp_path / "train.txt", tmp_path / "test.txt"
    train.write_text("AnnualCrop_2.jpg\nSeaLake_3000.jpg\n")
    test.write_text("AnnualCrop_10.jpg\n")
    words = ["--split", f"train={train}", "--split", f"test={test}"]
    assert [s.split for s in read(release, *words).samples()] == ["train", "test", "train"]
    test.write_text("AnnualCrop_2.jpg\nForest_1.jpg\n")
    with pytest.raises(FMError, match="AnnualCrop_2 is in train and in test"):
        read(release, *words)
    with pytest.raises(FMError, match="Forest_1 of the lists is missing"):
        read(release, "--split", f"val={tmp_path / 'test.txt'}")
    with pytest.raises(UsageError, match="write train=FILE"):
        read(release, "--split", f"all={train}")
    with pytest.raises(FMError, match="cannot be read"):
        read(release, "--split", f"val={tmp_path / 'none.txt'}")


def test_what_does_not_fit_is_listed(release: Path) -> None:
    (release / "Glacier").mkdir()
    (release / "SeaLake/AnnualCrop_7.tif").write_bytes(b"")
    with pytest.raises(FMError, match=r"Glacier is no class.*SeaLake/AnnualCrop_7\.tif is no"):
        read(release)
    with pytest.raises(FMError, match="no such folder"):
        read(release / "none")
    with pytest.raises(FMError, match=r"no CLASS/CLASS_N\.tif"):
        read(release / "Glacier")


@pytest.mark.parametrize("shape", [(12, 64, 64), (13, 64, 63)])
def test_another_shape_is_refused(release: Path, shape: tuple[int, ...]) -> None:
    write_raster(release / "AnnualCrop/AnnualCrop_2.tif", np.ones(shape, np.uint16))
    with pytest.raises(FMError, match=r"expected uint16 \(13, 64, 64\)"):
        list(read(release).samples())
