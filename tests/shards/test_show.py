"""Contact sheets and the pictures on them."""

from pathlib import Path

import numpy as np
import pytest

import shards
from fm.errors import UsageError
from fm.sensors import list_sensors, sensor
from shards.format import ModalityInfo
from shards.seeing.panels import LARGEST, Panel, panels, picture, spectrum, to_physical
from shards.seeing.show import contact_sheet


def modality(name: str, key: str, **options) -> ModalityInfo:
    bands = tuple(band.name for band in sensor(name).modalities[key])
    settings = {"dtype": "uint16", "codec": "npy", "scale": 1e-4, "offset": 0.0, "gsd_m": 10.0}
    return ModalityInfo(key, name, bands, **(settings | {"statistics": {}} | options))


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
    ("name", "key", "titles"),
    [
        ("sentinel2-l1c", "s2l1c_10", ["true colour: B04 B03 B02"]),
        ("sentinel2-l1c", "s2l1c_20", ["SWIR composite: B12 B8A B05"]),
        ("sentinel2-l1c", "s2l1c_60", ["three bands: B10 B09 B01"]),
        ("sentinel2-l2a", "s2l2a_60", ["reflectance: B01"]),
        ("sentinel1-grd", "s1grd_10", ["radar: VV VH VV-VH"]),
        (
            "aviris-indian-pines",
            "aviris_20",
            [
                "true colour: B028 B018 B009",
                "SWIR composite: B189 B049 B029",
                "mean spectrum, 400 to 2490 nm",
            ],
        ),
    ],
)
def test_pictures_are_those_that_the_bands_allow(name: str, key: str, titles: list[str]) -> None:
    assert [panel.title for panel in panels(modality(name, key))] == titles


def test_chosen_bands_have_the_colours_they_stand_for() -> None:
    limits = {
        "true colour": ((620, 700), (520, 600), (440, 515)),
        "SWIR composite": ((2050, 2350), (760, 910), (620, 720)),
    }
    seen = set()
    for name in list_sensors():
        for key in sensor(name).modalities:
            info = modality(name, key)
            for panel in panels(info):
                what = panel.title.partition(":")[0]
                for k, (low, high) in zip(panel.channels, limits.get(what, ()), strict=False):
                    assert low <= info.table[k].wavelength_nm <= high, (name, panel)
                seen.add((key, what))
    assert ("s2l1c_10", "true colour") in seen
    assert len({key for key, what in seen if what == "true colour"}) >= 6


def test_true_colour_is_red_green_blue_by_name(tiny_dataset: Path) -> None:
    ds = shards.open(tiny_dataset)
    info = ds.modalities["s2l1c_10"]
    array = np.zeros((4, 2, 2), dtype=np.uint16)
    for channel, band in enumerate(("B04", "B03", "B02")):
        place = info.bands.index(band)
        low, high = (info.statistics[p][place] / info.scale for p in ("p2", "p98"))
        array[place] = round(low + (high - low) * (0.2 + 0.3 * channel))
    (panel,) = panels(info)
    assert picture(array, info, panel)[0, 0] == pytest.approx([0.2, 0.5, 0.8, 1], abs=0.01)


def test_pixels_without_data_are_transparent() -> None:
    statistics = {"p2": [0.0] * 4, "p98": [1.0] * 4}
    info = modality("sentinel2-l1c", "s2l1c_10", nodata=(0,) * 4, statistics=statistics)
    array = np.full((4, 2, 3), 5000, np.uint16)
    array[info.bands.index("B03"), 1, 2] = 0
    array[info.bands.index("B08"), 0, 0] = 0  # not shown
    (panel,) = panels(info)
    opacity = picture(array, info, panel)[..., 3]
    assert opacity.tolist() == [[1, 1, 1], [1, 1, 0]]
    physical = to_physical(array, info, panel.channels)
    assert np.isnan(physical[1, 1, 2])
    assert physical[0, 0, 0] == pytest.approx(0.5)
    floats = modality("sentinel1-grd", "s1grd_10", dtype="float32")
    dark = np.full((2, 1, 2), -12.0, np.float32)
    dark[1, 0, 1] = np.nan
    assert picture(dark, floats, panels(floats)[0])[..., 3].tolist() == [[1, 0]]


def test_radar_shows_both_polarisations_and_their_difference() -> None:
    statistics = {"p2": [-20.0, -30.0], "p50": [-10.0, -17.0], "p98": [0.0, -10.0]}
    info = modality("sentinel1-grd", "s1grd_10", dtype="float32", statistics=statistics)
    array = np.array([-10.0, -20.0], np.float32).reshape(2, 1, 1)
    # (-10+20)/20, (-20+30)/20, and a difference of 10 in 7 +- 6
    (panel,) = panels(info)
    assert picture(array, info, panel)[0, 0] == pytest.approx([0.5, 0.5, 9 / 12, 1])


def test_without_statistics_a_picture_is_stretched_by_itself() -> None:
    info = modality("sentinel2-l2a", "s2l2a_60")
    array = np.arange(100, dtype=np.uint16).reshape(1, 10, 10)
    shown = picture(array, info, Panel("grey", "bands", (0,)))
    assert shown[..., 0].min() == 0
    assert shown[..., 0].max() == 1
    assert (shown[..., 0] == shown[..., 2]).all()


def test_large_arrays_are_thinned_and_series_show_their_first_time() -> None:
    info = modality("sentinel2-l2a", "s2l2a_60")
    array = np.zeros((2, 1, LARGEST * 2 + 1, 40), np.uint16)
    array[1] = 9
    shown = picture(array, info, Panel("grey", "bands", (0,)))
    assert max(shown.shape) <= LARGEST
    assert (shown[..., 0] == 0).all()


def test_a_spectrum_rises_in_wavelength_and_breaks_in_gaps() -> None:
    info = modality("aviris-indian-pines", "aviris_20", scale=1.0, nodata=(0,) * 200)
    array = np.repeat(np.arange(200, dtype=np.uint16)[:, None, None] + 7, 4, axis=1)
    array[:, 0] = 0
    nm, mean = spectrum(array, info)
    known = np.isfinite(nm)
    assert (np.diff(nm[known]) > 0).all()
    assert known.sum() == 200
    assert np.isnan(mean[~known]).all()
    assert 2 <= (~known).sum() <= 4  # water vapour near 1400 and 1900 nm
    order = np.argsort([band.wavelength_nm for band in info.table])
    assert mean[known].tolist() == (order + 7).tolist()
