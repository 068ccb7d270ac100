"""BigEarthNet pairs from a small fake release: nothing to download, and every order scrambled."""

from pathlib import Path

import lmdb
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from safetensors.numpy import save

from fm.errors import FMError
from fm.sensors import sensor
from shards.sources import bigearthnet

PATCH = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_{}_{}"
RADAR = "S1B_IW_GRDH_1SDV_20170612T165809_33UUP_{}_{}"
S2 = [*reversed(sensor("sentinel2-l2a").bands)]


def code(band: str, number: int) -> int:
    """Return the value that fills a band of a pair."""
    return 1000 * number + sum(map(ord, band))


def tensors(number: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    optical = {
        band.name: np.full((int(1200 // band.gsd_m),) * 2, code(band.name, number), np.uint16)
        for band in S2
    }
    radar = {name: np.full((120, 120), -code(name, number), np.float32) for name in ("VH", "VV")}
    return optical, radar


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Return a folder laid out like the package's: two clear pairs and a flagged one."""
    rows = []
    with lmdb.open(str(tmp_path / "BigEarthNet-V2-LMDB"), map_size=1 << 24) as base:
        for number, split in enumerate(("validation", "train", "test")):
            place = (12 - number, 40)
            optical, radar = tensors(number)
            with base.begin(write=True) as writing:
                writing.put(PATCH.format(*place).encode(), save(optical))
                writing.put(RADAR.format(*place).encode(), save(radar))
            rows.append(
                {
                    "patch_id": PATCH.format(*place),
                    "s1_name": RADAR.format(*place),
                    "split": split,
                    "labels": ["Pastures", "Urban fabric"],
                }
            )
    for name, part in zip(bigearthnet.TABLES, (rows[:2], rows[2:]), strict=True):
        parquet.write_table(pa.Table.from_pylist(part), tmp_path / name)
    return tmp_path


def samples(release: Path, tables: tuple[str, ...] = bigearthnet.TABLES[:1]) -> list:
    rows = bigearthnet.read_tables(release, tables)
    bigearthnet._base.cache_clear()  # LMDB opens a file once a process
    return [bigearthnet.make(release / "BigEarthNet-V2-LMDB", row) for row in rows]


def test_bands_are_taken_by_name_whatever_the_file_s_order(release: Path) -> None:
    for sample, number in zip(samples(release), (1, 0), strict=True):
        for name in ("sentinel2-l2a", "sentinel1-grd"):
            for modality, bands in sensor(name).modalities.items():
                sign = 1 if name == "sentinel2-l2a" else -1
                found = [float(array[0, 0]) for array in sample.arrays[modality]]
                assert found == [sign * code(band.name, number) for band in bands], modality


def test_rows_are_sorted_and_flagged_pairs_are_asked_for(release: Path) -> None:
    clear = samples(release)
    assert [s.key[-5:] for s in clear] == ["11_40", "12_40"]
    assert [s.split for s in clear] == ["train", "val"]
    assert [s.key[-5:] for s in samples(release, bigearthnet.TABLES)] == ["10_40", "11_40", "12_40"]
    assert clear[0].time == "2017-06-13T10:10:31Z"
    named = [bigearthnet.CLASSES[k] for k in clear[0].labels["land_cover"]]
    assert named == ["Pastures", "Urban fabric"]


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        ({"labels": ["Pasture"]}, "unknown labels"),
        ({"split": "holdout"}, "unknown split"),
        ({"s1_name": RADAR.format(1, 1)}, "no entry S1B"),
        ({"patch_id": "S2A.dot"}, "no entry S2A.dot"),
    ],
)
def test_a_table_that_does_not_fit_is_one_line(release: Path, damage: dict, text: str) -> None:
    rows = parquet.read_table(release / bigearthnet.TABLES[0]).to_pylist()
    rows[0] |= damage
    parquet.write_table(pa.Table.from_pylist(rows), release / bigearthnet.TABLES[0])
    with pytest.raises(FMError, match=text) as error:
        samples(release)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", ["missing", "shape", "dtype"])
def test_a_band_that_does_not_fit_is_named(release: Path, change: str) -> None:
    optical, _ = tensors(1)
    if change == "missing":
        del optical["B8A"]
    else:
        as_is = optical["B8A"]
        optical["B8A"] = as_is[1:] if change == "shape" else as_is.astype(np.int32)
    with (
        lmdb.open(str(release / "BigEarthNet-V2-LMDB"), map_size=1 << 24) as base,
        base.begin(write=True) as writing,
    ):
        writing.put(PATCH.format(11, 40).encode(), save(optical))
    with pytest.raises(FMError, match=r"band B8A is .*, expected uint16 60x60"):
        samples(release)
