"""BigEarthNet v2 folders in miniature: real sizes, made-up pixels that name their band."""

import pickle
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from pyproj import Transformer

from fm import sensors
from fm.errors import FMError, UsageError
from shards.sources import bigearthnet_folder, corine
from shards.sources.base import Content
from shards.sources.bigearthnet import CLASSES, SIZES, TABLES
from tests.shards.rasters import plane, write_raster

TILE = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"
PLACES = {"train": (75, 43), "validation": (2, 7), "test": (30, 0)}


def corner(split: str) -> tuple[float, float]:
    column, row = PLACES[split]
    return 300_000 + 1200.0 * column, 5_400_000 - 1200.0 * row


def names(split: str) -> tuple[str, str]:
    column, row = PLACES[split]
    return (
        f"{TILE}_{column:02d}_{row:02d}",
        f"S1B_IW_GRDH_1SDV_20170612T165809_33UUP_{column}_{row}",
    )


def row(split: str) -> dict:
    patch, radar = names(split)
    return {
        "patch_id": patch,
        "s1_name": radar,
        "labels": ["Pastures", "Urban fabric"],
        "split": split,
        "country": "Austria",
        "contains_seasonal_snow": split == "test",
        "contains_cloud_or_shadow": False,
    }


@pytest.fixture
def release(tmp_path: Path) -> Path:
    for number, split in enumerate(PLACES):
        (west, north), (patch, radar) = corner(split), names(split)
        for sensor, name, folder in (
            ("sentinel2-l2a", patch, f"BigEarthNet-S2/{TILE}/{patch}"),
            ("sentinel1-grd", radar, f"BigEarthNet-S1/{radar.rsplit('_', 3)[0]}/{radar}"),
        ):
            for place, band in enumerate(sensors.sensor(sensor).bands):
                side = int(1200 // band.gsd_m)
                data = plane(20 * number + place, side, side)
                optical = sensor == "sentinel2-l2a"
                write_raster(
                    tmp_path / folder / f"{name}_{band.name}.tif",
                    data if optical else -data.astype(np.float32),
                    west=west,
                    north=north,
                    pixel=band.gsd_m,
                    nodata=0 if optical else None,
                )
        codes = np.array([211, 231, 311, 999, 332, 523], np.uint16)
        write_raster(
            tmp_path / f"Reference_Maps/{TILE}/{patch}/{patch}_reference_map.tif",
            codes[np.arange(120 * 120).reshape(120, 120) % 6],
            west=west,
            north=north,
            nodata=0,
        )
    rows = [row(split) for split in PLACES]
    parquet.write_table(pa.Table.from_pylist(rows[:2]), tmp_path / TABLES[0])
    parquet.write_table(pa.Table.from_pylist(rows[2:]), tmp_path / TABLES[1])
    return tmp_path


def read(root: Path, *words: str) -> Content:
    parser = ArgumentParser()
    bigearthnet_folder.configure(parser)
    return bigearthnet_folder.read(parser.parse_args(["--root", str(root), *words]))


def test_every_pixel_lands_in_its_band(release: Path) -> None:
    content = read(release, "--include-flagged")
    content = pickle.loads(pickle.dumps(content))  # as a worker gets it
    found = {sample.key: sample for sample in content.samples()}
    for number, split in enumerate(PLACES):
        sample = found[names(split)[0]]
        for name in ("sentinel2-l2a", "sentinel1-grd"):
            sensor = sensors.sensor(name)
            order = [band.name for band in sensor.bands]
            for modality, bands in sensor.modalities.items():
                side, sign = SIZES[modality], 1 if name == "sentinel2-l2a" else -1
                planes = [plane(20 * number + order.index(b.name), side, side) for b in bands]
                assert np.array_equal(sample.arrays[modality], sign * np.float64(planes)), modality
                assert content.modalities[modality].bands == tuple(b.name for b in bands)
    assert content.modalities["s2l2a_10"].nodata == (0, 0, 0, 0)


def test_the_table_becomes_labels_splits_and_flags(release: Path) -> None:
    content = read(release)
    train, val = sorted(content.samples(), key=lambda s: str(s.split))
    assert (train.split, val.split) == ("train", "val")
    assert [CLASSES[k] for k in train.labels["land_cover"]] == ["Pastures", "Urban fabric"]
    assert train.labels["s1_name"] == names("train")[1]
    assert (train.labels["seasonal_snow"], train.labels["country"]) == (0, "Austria")
    assert train.time == "2017-06-13T10:10:31Z"
    flagged = [s for s in read(release, "--include-flagged").samples() if s.split == "test"]
    assert flagged[0].labels["seasonal_snow"] == 1


def test_place_is_that_of_the_file(release: Path) -> None:
    sample = next(s for s in read(release).samples() if s.split == "train")
    west, north = corner("train")
    to_degrees = Transformer.from_crs(32633, 4326, always_xy=True)
    want = to_degrees.transform(west + 600, north - 600)
    assert sample.lonlat == pytest.approx(want, abs=1e-9)
    assert (sample.crs, sample.transform) == ("EPSG:32633", (10.0, 0, west, 0, -10.0, north))


def test_the_reference_map_is_a_mask(release: Path) -> None:
    content = read(release)
    mask = next(iter(content.samples())).arrays["reference_map"]
    label = content.labels["land_cover_map"]
    shown = [label.classes[k] if k != label.ignore else None for k in mask[0, :6].tolist()]
    assert shown == ["Arable land", "Pastures", "Broad-leaved forest", None, None, "Marine waters"]
    content = read(release, "--map-classes", "44")
    mask = next(iter(content.samples())).arrays["reference_map"]
    classes = content.labels["land_cover_map"].classes
    assert classes[mask[0, 4]] == "Bare rock"
    assert mask[0, 3] == 255


def test_a_code_that_is_no_class_stops(release: Path) -> None:
    patch = names("train")[0]
    path = release / f"Reference_Maps/{TILE}/{patch}/{patch}_reference_map.tif"
    west, north = corner("train")
    write_raster(path, np.full((120, 120), 777, np.uint16), west=west, north=north)
    with pytest.raises(FMError, match=r"codes \[777\] are not CORINE"):
        list(read(release).samples())


def test_parts_that_are_asked_for_must_be_there(release: Path) -> None:
    content = read(release, "--parts", "s1")
    sample = next(iter(content.samples()))
    assert list(sample.arrays) == list(content.modalities) == ["s1grd_10"]
    with pytest.raises(UsageError, match="'s3'"):
        read(release, "--parts", "s3")
    with pytest.raises(UsageError, match="no sample"):
        read(release, "--parts", "map")
    (release / "Reference_Maps").rename(release / "Maps")
    with pytest.raises(FMError, match=r"Reference_Maps: no such folder"):
        read(release)


def test_missing_files_are_listed(release: Path) -> None:
    for split, band in (("train", "B8A"), ("validation", "B01")):
        patch = names(split)[0]
        (release / f"BigEarthNet-S2/{TILE}/{patch}/{patch}_{band}.tif").unlink()
    with pytest.raises(FMError, match="not one pair has all its files"):
        read(release)
    content = read(release, "--include-flagged", "--skip-missing")
    assert (len(content.tasks), content.provenance["left_out"]) == (1, 2)
    with pytest.raises(FMError, match=r"02_07_B01\.tif; .*75_43_B8A\.tif") as error:
        read(release, "--include-flagged")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"patch_id": "S2A_MSIL2A_2017"}, "not the name of a BigEarthNet v2 patch"),
        ({"labels": ["Pasture"]}, "unknown labels"),
        ({"split": "holdout"}, "unknown split"),
    ],
)
def test_a_table_that_does_not_fit(release: Path, change: dict, text: str) -> None:
    rows = [row("train"), row("validation") | change]
    parquet.write_table(pa.Table.from_pylist(rows), release / TABLES[0])
    with pytest.raises(FMError, match=text):
        read(release)
    parquet.write_table(pa.table({"patch_id": ["a"]}), release / TABLES[0])
    with pytest.raises(FMError, match="no column s1_name"):
        read(release)
    (release / TABLES[0]).write_bytes(b"PAR1 damaged PAR1")
    with pytest.raises(FMError, match="not a Parquet file that can be read"):
        read(release)


def test_labels_that_are_null_are_unknown_and_an_empty_list_is_none(release: Path) -> None:
    rows = [row("train") | {"labels": None}, row("validation") | {"labels": []}]
    schema = pa.Table.from_pylist([row("train")]).schema
    parquet.write_table(pa.Table.from_pylist(rows, schema), release / TABLES[0])
    found = {task.split: task.labels.get("land_cover") for task in read(release).tasks}
    assert found == {"train": None, "val": []}


def test_a_patch_that_lies_elsewhere_than_its_name_says_is_refused(release: Path) -> None:
    patch = names("train")[0]
    west, north = corner("train")
    for band in sensors.sensor("sentinel2-l2a").bands:
        side = int(1200 // band.gsd_m)
        write_raster(
            release / f"BigEarthNet-S2/{TILE}/{patch}/{patch}_{band.name}.tif",
            plane(1, side, side),
            west=west + 1200,
            north=north,
            pixel=band.gsd_m,
        )
    with pytest.raises(FMError, match="does not cover the same ground"):
        list(read(release).samples())
    with pytest.raises(FMError, match=r"119\d m from where its name"):
        list(read(release, "--parts", "s2").samples())


def test_the_tables_of_classes_agree() -> None:
    """Facts of the nomenclature: 44 classes, 43 in v1, 11 of them without one of the 19."""
    assert len(corine.CLASSES_44) == len(set(corine.CLASSES_44)) == 44
    assert len(corine.CLASSES_43) == 43
    assert {target for *_, target in corine.CORINE} - {None} == set(CLASSES)
    lost = [name for name in corine.CLASSES_43 if not corine.to_19([name])]
    assert len(lost) == 11
    assert corine.to_19(["Sea and ocean", "Peatbogs", "Airports"]) == [15, 18]
