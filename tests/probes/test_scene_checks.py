"""Rasters of careless people: what they do not say is refused or told, never taken for data."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from fm.errors import FMError, UsageError
from probes.embed.dense import embed_scene
from probes.embed.scene import Scene, open_scene
from probes.embed.scene_checks import ground
from tests.probes.test_embed_dense import BANDS, NORTH, SENSOR, TEN, WEST, Means, raster

FOOT = 1200 / 3937
"""US survey foot, metres."""
TRUE = np.random.default_rng(0).integers(300, 3000, (4, 32, 32)).astype(np.uint16)


def written(folder: Path, pixels: np.ndarray = TRUE, **more) -> Path:
    path = folder / "s2.tif"
    raster(path, pixels, 10, WEST, NORTH, **more)
    return path


def valid(scene: Scene) -> np.ndarray:
    modality = next(iter(scene.layers))
    return scene.square(modality, scene.west, scene.north, 320 / scene.unit_m)[1]


def test_zeros_of_sentinel_2_are_no_data_where_the_file_is_silent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = TRUE.copy()
    pixels[2, :8] = 0
    inside = valid(open_scene(written(tmp_path, pixels), bands=BANDS))
    assert not inside[:8].any()
    assert inside[8:].all()
    stated = written(tmp_path, pixels, nodata=65535)
    assert valid(open_scene(stated, bands=BANDS)).all()
    assert not capsys.readouterr().err
    other = "landsat8-oli-l2:" + ",".join(f"SR_B{n}" for n in range(1, 5))
    raster(tmp_path / "l8.tif", pixels, 30, WEST, NORTH)
    assert valid(open_scene(tmp_path / "l8.tif", bands=other))[:10, :10].all()
    assert "states no number for no data, so every pixel is data" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_no_data_that_the_file_does_not_state_is_refused(tmp_path: Path, dtype: str) -> None:
    pixels = TRUE.astype(dtype) * (1e-4 if dtype == "float32" else 1)
    pixels = pixels.astype(dtype)
    words = r"B03 holds -9999, which is no reflectance; .*a_nodata"
    for tile in (320, 160):  # the first tile, and one after it
        pixels[1] = np.where(pixels[1] < 0, pixels[1, 0, 0], pixels[1])
        pixels[1, 30, 30] = -9999
        scene = open_scene(written(tmp_path, pixels), bands=BANDS)
        with pytest.raises(FMError, match=words):
            embed_scene(Means(40, TEN), scene, tmp_path / f"{tile}.tif", tile_m=tile)
    scene = open_scene(written(tmp_path, pixels, nodata=-9999), bands=BANDS)
    assert (~valid(scene)).sum() == 1
    embed_scene(Means(40, TEN), scene, tmp_path / "d.tif", tile_m=160)


def test_masks_pictures_and_complex_numbers_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    with rasterio.open(path, "r+") as out:
        out.write_mask(np.full((32, 32), 255, np.uint8))
    with pytest.raises(FMError, match="a mask beside the pixels"):
        open_scene(path, bands=BANDS)
    for dtype, text in (("uint8", "a stretched picture"), ("complex64", "integers or floats")):
        other = tmp_path / dtype
        other.mkdir()
        with pytest.raises(FMError, match=text):
            open_scene(written(other, (TRUE // 16).astype(dtype)), bands=BANDS)


@pytest.mark.parametrize(("crs", "north", "ground"), [(3857, 6.9e6, "6.09"), (32633, 6.9e6, None)])
def test_metres_of_the_map_are_those_of_the_ground(
    tmp_path: Path, crs: int, north: float, ground: str | None
) -> None:
    path = tmp_path / "s2.tif"
    raster(path, TRUE, 10, WEST, north)
    with rasterio.open(path, "r+") as out:
        out.crs = f"EPSG:{crs}"
    if ground is None:
        assert open_scene(path, bands=BANDS).crs == "EPSG:32633"
        return
    with pytest.raises(FMError, match=rf"10 m of EPSG:3857 are {ground} m on the ground"):
        open_scene(path, bands=BANDS)


SINUSOIDAL = "+proj=sinu +R=6371007.181 +units=m"


@pytest.mark.parametrize(
    ("crs", "middle", "along"),
    [
        ("EPSG:6933", (1e6, 6.9e6), "x"),  # cells of 3.9 m by 25 m
        ("EPSG:6933", (1e6, 3.7e6), None),  # near 30 degrees they are squares
        (SINUSOIDAL, (1e5, 5e6), None),
        (SINUSOIDAL, (2e6, 5e6), r"x \+ y"),  # x is true to .003, y to .05
        ("EPSG:3035", (6.5e6, 5e6), None),
        ("EPSG:5070", (-2e6, 3e5), None),
    ],
)
def test_squares_of_the_map_are_squares_of_ground(
    crs: str, middle: tuple[float, float], along: str | None
) -> None:
    """Defect: only x was measured, which a sinusoidal map has right wherever it is sheared."""
    x, y = middle
    box = (x - 500, y - 500, x + 500, y + 500)
    if along is None:
        ground(Path("a.tif"), crs, 1.0, box, 10)
        return
    with pytest.raises(FMError, match=rf"on the ground there \(along {along}\); reproject"):
        ground(Path("a.tif"), crs, 1.0, box, 10)


def test_tiles_are_metres_where_the_map_is_in_feet(tmp_path: Path) -> None:
    path, model = tmp_path / "feet.tif", Means(40, TEN)
    pixel = 10 / FOOT
    profile = {"driver": "GTiff", "count": 4, "dtype": "uint16", "crs": "EPSG:2264", "nodata": 0}
    profile |= {"height": 32, "width": 32, "transform": from_origin(2e6, 7e5, pixel, pixel)}
    with rasterio.open(path, "w", **profile) as out:
        out.write(TRUE)
    made = embed_scene(model, open_scene(path, bands=BANDS), tmp_path / "d.tif", tile_m=160)
    with rasterio.open(made) as found:
        assert found.transform.a == pytest.approx(40 / FOOT, rel=1e-6)
        assert found.tags()["EOFM_TILE_M"] == "160"
        cells = found.read()
    assert cells.shape == (4, 8, 8)
    wanted = TRUE.reshape(4, 8, 4, 8, 4).mean((2, 4)) * 1e-4
    np.testing.assert_allclose(cells, wanted, rtol=1e-5)


def test_nothing_is_written_over_the_scene(tmp_path: Path) -> None:
    path = written(tmp_path)
    before = path.read_bytes()
    scene = open_scene(path, bands=BANDS)
    for out in (path, tmp_path / "link.tif"):
        if out != path:
            out.symlink_to(path)
        with pytest.raises(UsageError, match="which it is made of"):
            embed_scene(Means(40, TEN), scene, out, overwrite=True)
    assert path.read_bytes() == before


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    """Defect: --overwrite put a map in the place of any folder that ends in .zarr."""
    zarr = pytest.importorskip("zarr", reason="the extra cube writes .zarr")
    scene, out = open_scene(written(tmp_path), bands=BANDS), tmp_path / "mine.zarr"
    zarr.open_group(out, mode="w").create_array("air", shape=(3,), dtype="f4")
    with pytest.raises(FMError, match="holds something else than an embedding"):
        embed_scene(Means(40, TEN), scene, out, overwrite=True)
    assert (out / "air").is_dir()
    other = embed_scene(Means(40, TEN), scene, tmp_path / "d.zarr")
    assert embed_scene(Means(40, TEN), scene, other, overwrite=True) == other


def test_names_that_are_no_text_are_refused_at_once(tmp_path: Path) -> None:
    scene = open_scene(written(tmp_path), bands=BANDS)
    with pytest.raises(UsageError, match="the name is not UTF-8"):
        embed_scene(Means(40, TEN), scene, tmp_path / "caf\udce9.tif")


def test_tiles_have_a_largest_size(tmp_path: Path) -> None:
    scene = open_scene(written(tmp_path), bands=BANDS)
    with pytest.raises(UsageError, match=r"10000 of the model's 40 m tokens .* at most 2048"):
        embed_scene(Means(40, TEN), scene, tmp_path / "d.tif", tile_m=400_000)


def test_folders_are_held_to_the_same_ground(tmp_path: Path) -> None:
    for band in SENSOR.bands:
        side = int(960 // band.gsd_m)
        path = tmp_path / f"s2_{band.name}.tif"
        raster(path, np.full((1, side, side), 900, np.uint16), band.gsd_m, WEST, 6.9e6)
        with rasterio.open(path, "r+") as out:
            out.crs = "EPSG:3857"
    with pytest.raises(FMError, match="60 m of EPSG:3857"):
        open_scene(tmp_path, sensor="sentinel2-l1c")
