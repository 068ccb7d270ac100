"""BigEarthNet v1 folders in miniature: labels and times come from the JSON, pairs from S1's."""

import json
import tarfile
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest

from fm import sensors
from fm.errors import FMError
from shards.building.packages import Package, fetch
from shards.sources import bigearthnet_v1
from shards.sources.base import Content
from shards.sources.bigearthnet import CLASSES
from tests.shards.rasters import plane, write_raster

PATCHES = {  # name: (labels, west)
    "S2B_MSIL2A_20170924T93020_69_24": (["Peatbogs", "Mixed forest"], 682_800.0),
    "S2B_MSIL2A_20180204T94161_57_38": (["Airports"], 668_400.0),
}
RADAR = {name: f"S1A_IW_GRDH_1SDV_2017_{name[-5:]}" for name in PATCHES}
NORTH = 6_971_220.0


def write_patch(folder: Path, name: str, sensor: str, west: float, about: dict) -> None:
    for place, band in enumerate(sensors.sensor(sensor).bands):
        side = int(1200 // band.gsd_m)
        data = plane(place + 1, side, side, "float32" if sensor == "sentinel1-grd" else "uint16")
        write_raster(
            folder / name / f"{name}_{band.name}.tif",
            data,
            crs="EPSG:32635",
            west=west,
            north=NORTH,
            pixel=band.gsd_m,
        )
    (folder / name / f"{name}_labels_metadata.json").write_text(json.dumps(about))


@pytest.fixture
def release(tmp_path: Path) -> Path:
    for name, (labels, west) in PATCHES.items():
        about = {
            "labels": labels,
            "coordinates": {"ulx": west, "uly": NORTH},
            "acquisition_date": "2017-09-24 09:30:20",
        }
        write_patch(tmp_path / "s2", name, "sentinel2-l2a", west, about)
        about = {"labels": labels, "corresponding_s2_patch": name}
        write_patch(tmp_path / "s1", RADAR[name], "sentinel1-grd", west, about)
    return tmp_path


def read(release: Path, *words: str, radar: bool = True) -> Content:
    parser = ArgumentParser()
    bigearthnet_v1.configure(parser)
    folders = ["--s2", str(release / "s2")] + (["--s1", str(release / "s1")] if radar else [])
    return bigearthnet_v1.read(parser.parse_args([*folders, *words]))


def test_pairs_bands_labels_and_times(release: Path) -> None:
    content = read(release)
    first, second = content.samples()
    assert [first.key, second.key] == list(PATCHES)
    assert first.labels["s1_name"] == RADAR[first.key]
    shown = [content.labels["land_cover"].classes[k] for k in first.labels["land_cover"]]
    assert shown == ["Peatbogs", "Mixed forest"]
    assert first.time == "2017-09-24T09:30:20Z"  # not 93:02:0, as its name might be read
    for name in ("sentinel2-l2a", "sentinel1-grd"):
        sensor = sensors.sensor(name)
        order = [band.name for band in sensor.bands]
        for modality, bands in sensor.modalities.items():
            side = int(1200 // bands[0].gsd_m)
            want = [plane(order.index(band.name) + 1, side, side) for band in bands]
            assert np.array_equal(first.arrays[modality], want), modality
    assert set(read(release, radar=False).modalities) == {"s2l2a_10", "s2l2a_20", "s2l2a_60"}


def test_nineteen_classes_leave_out_what_has_none(release: Path) -> None:
    content = read(release, "--classes", "19")
    (sample,) = content.samples()
    assert sample.labels["land_cover"] == [10, 15]
    assert [CLASSES[k] for k in (10, 15)] == ["Mixed forest", "Inland wetlands"]
    assert content.provenance["left_out"]["without a label of the classes"] == 1


def test_lists_give_splits_and_leave_out(release: Path, tmp_path: Path) -> None:
    first, second = PATCHES
    for split, name in (("train", first), ("val", ""), ("test", second)):
        (tmp_path / f"{split}.csv").write_text(f"{name},x\n" if name else "")
    content = read(release, "--splits", str(tmp_path))
    assert [sample.split for sample in content.samples()] == ["train", "test"]
    (tmp_path / "snow.csv").write_text(f"{first}\n")
    content = read(release, "--exclude", str(tmp_path / "snow.csv"))
    assert [task.key for task in content.tasks] == [second]
    (tmp_path / "val.csv").write_text(f"{first}\n")
    with pytest.raises(FMError, match="is in train and in val"):
        read(release, "--splits", str(tmp_path))


def change(release: Path, name: str, **about: object) -> None:
    path = release / "s2" / name / f"{name}_labels_metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | about))


def test_what_is_wrong_is_listed(release: Path) -> None:
    first, second = PATCHES
    change(release, first, labels=["Glaciers and perpetual snow"])
    change(release, second, acquisition_date="20170924T93020")
    with pytest.raises(FMError, match=r"unknown labels.*'20170924T93020' is no time"):
        read(release)
    change(release, first, labels=["Pastures"])
    (release / "s1" / RADAR[first] / f"{RADAR[first]}_VH.tif").unlink()
    change(release, second, acquisition_date="2017-09-24 09:30:20", coordinates=None)
    with pytest.raises(FMError, match="not one pair has all its files"):
        read(release, "--skip-missing")
    change(release, second, coordinates={"ulx": 668_400, "uly": NORTH + 60})
    assert len(read(release, "--skip-missing").tasks) == 1
    with pytest.raises(FMError, match="60 m from where its name or JSON says"):
        list(read(release, "--skip-missing").samples())
    (release / "s2" / first / f"{first}_labels_metadata.json").write_text("{")
    with pytest.raises(FMError, match="cannot be read") as error:
        read(release)
    assert "\n" not in str(error.value)


def test_one_radar_patch_a_pair(release: Path) -> None:
    first, second = PATCHES
    path = release / "s1" / RADAR[second] / f"{RADAR[second]}_labels_metadata.json"
    path.write_text(json.dumps({"corresponding_s2_patch": first}))
    with pytest.raises(FMError, match="both belong to"):
        read(release)
    path.write_text(json.dumps({"corresponding_s2_patch": "S2_elsewhere"}))
    with pytest.raises(FMError, match="no Sentinel-1 patch corresponds"):
        read(release)


EXAMPLES = Package(
    name="bigearthnet-common",
    version="2.8.0",
    sha256="6c2bcf2b1d39a3f48925b0d941557152f9e523576fbb9d2b881a842ed92fd6af",
    members=("bigearthnet_common/BigEarthNet-S?-Example.tar.bz2",),
    licence="package Apache-2.0; data CDLA-Permissive-1.0",
)


@pytest.mark.data
def test_real_pairs(package_cache: Path, tmp_path: Path) -> None:
    try:
        folder = fetch(EXAMPLES, package_cache) / "bigearthnet_common"
    except FMError as error:
        pytest.skip(str(error))
    for part in ("S1", "S2"):
        with tarfile.open(folder / f"BigEarthNet-{part}-Example.tar.bz2") as archive:
            archive.extractall(tmp_path, filter="data")
        (tmp_path / f"BigEarthNet-{part}-Example").rename(tmp_path / part.lower())
    content = read(tmp_path)
    samples = {sample.key: sample for sample in content.samples()}
    assert len(samples) == 6
    sample = samples["S2B_MSIL2A_20170924T93020_69_24"]
    assert sample.time == "2017-09-24T09:30:20Z"
    assert sample.labels["s1_name"] == "S1A_IW_GRDH_1SDV_20170925T043256_35VPK_69_24"
    assert sample.lonlat == pytest.approx((30.59994, 62.81962), abs=1e-4)
    for sample in samples.values():
        means = {
            name: float(plane.mean())
            for modality, array in sample.arrays.items()
            for name, plane in zip(content.modalities[modality].bands, array, strict=True)
        }
        # neighbours in wavelength agree: B8A lies in B08's range, B09 just beyond
        assert means["B8A"] == pytest.approx(means["B08"], rel=0.1)
        assert means["B09"] == pytest.approx(means["B8A"], rel=0.1)
        assert means["VH"] < means["VV"] < 0
