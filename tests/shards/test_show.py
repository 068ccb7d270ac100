"""Contact sheets."""

from pathlib import Path

import numpy as np
import pytest

import shards
from fm.errors import UsageError
from fm.sensors import sensor
from shards.format import ModalityInfo
from shards.show import contact_sheet, display, shown


def test_a_sheet_is_a_png(tiny_dataset: Path, tmp_path: Path) -> None:
    contact_sheet(tiny_dataset, tmp_path / "sheet.png", count=3)
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    for options, text in (({"count": 0}, "--count 0"), ({"out": tmp_path / "a.jpg"}, ".png")):
        with pytest.raises(UsageError, match=text):
            contact_sheet(tiny_dataset, **{"out": tmp_path / "b.png", **options})


def test_a_sample_without_the_modality_leaves_its_places_empty(tmp_path: Path) -> None:
    bands = tuple(band.name for band in sensor("aviris-indian-pines").bands)
    declared = {
        "aviris_20": shards.Declared("aviris-indian-pines", bands),
        "s1grd_10": shards.Declared("sentinel1-grd", ("VV", "VH")),
    }
    arrays = {
        "aviris_20": np.arange(200 * 9, dtype=np.uint16).reshape(200, 3, 3),
        "s1grd_10": np.linspace(-20, -5, 18, dtype=np.float32).reshape(2, 3, 3),
    }
    samples = [shards.Sample(key=f"s{i}", arrays={n: arrays[n]}) for i, n in enumerate(arrays)]
    options = {"name": "odd", "modalities": declared, "provenance": {}, "licence": "CC0-1.0"}
    shards.write_dataset(tmp_path / "ds", samples, **options)
    contact_sheet(tmp_path / "ds", tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "modality", "bands"),
    [
        ("sentinel2-l1c", "s2l1c_10", "B04 B03 B02"),
        ("sentinel2-l1c", "s2l1c_20", "B12 B07 B05"),
        ("sentinel2-l1c", "s2l1c_60", "B10 B09 B01"),
        ("sentinel2-l2a", "s2l2a_60", "B01"),
        ("sentinel1-grd", "s1grd_10", "VV"),
        ("aviris-indian-pines", "aviris_20", "B091 B041 B011"),
    ],
)
def test_three_different_bands_or_one_are_shown(name: str, modality: str, bands: str) -> None:
    names = tuple(band.name for band in sensor(name).modalities[modality])
    info = ModalityInfo(modality, name, names, "uint16", "npy", 1.0, 0.0, 10.0, {})
    assert " ".join(names[k] for k in shown(info)) == bands


def test_true_colour_is_red_green_blue_by_name(tiny_dataset: Path) -> None:
    ds = shards.open(tiny_dataset)
    info: ModalityInfo = ds.modalities["s2l1c_10"]
    array = np.zeros((4, 2, 2), dtype=np.uint16)
    for channel, band in enumerate(("B04", "B03", "B02")):
        place = info.bands.index(band)
        low, high = (info.statistics[p][place] / info.scale for p in ("p2", "p98"))
        array[place] = round(low + (high - low) * (0.2 + 0.3 * channel))
    assert display(array, info)[0, 0] == pytest.approx([0.2, 0.5, 0.8], abs=0.01)
