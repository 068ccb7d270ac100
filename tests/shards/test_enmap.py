"""EnMAP folders as HySpecNet-11k, SpectralEarth and the ground segment lay them out, made tiny."""

import pickle
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.warp

from fm import sensors
from fm.errors import FMError, UsageError
from fm.sensors.enmap import bands_202
from shards.sources import enmap
from shards.sources.base import Content, Skip

BASE = "ENMAP01-____L2A-DT0000004950_20221103T162438Z_001_V010110_20221118T145147Z"
PATCH = f"{BASE}-Y01460153_X03110318"
KEY = "DT0000004950_20221103T162438Z_001"
GAPS = [*range(126, 141), *range(160, 167)]
LAYERS = ("CLOUD", "CLOUDSHADOW", "CIRRUS", "HAZE", "SNOW", "CLASSES")
SIDE = 8


def tif(path: Path, pixels: np.ndarray, nodata: float | None = None, **other: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = {
        "crs": "EPSG:32618",
        "transform": rasterio.Affine(30, 0, 688005, 0, -30, 4561935),
        "nodata": nodata,
    }
    count, height, width = pixels.shape
    with rasterio.open(
        path, "w", "GTiff", width, height, count, dtype=pixels.dtype, **(settings | other)
    ) as raster:
        raster.write(pixels)


def cube(side: int = SIDE, gaps: list[int] = GAPS) -> np.ndarray:
    """Each number tells its band and pixel: band * 100 + pixel."""
    pixel = np.arange(side * side).reshape(side, side) % 100
    pixels = (np.arange(224)[:, None, None] * 100 + pixel).astype(np.int16)
    pixels[gaps] = -32768
    return pixels


def product(
    folder: Path,
    base: str = PATCH,
    pixels: np.ndarray | None = None,
    layers: dict[str, np.ndarray] | None = None,
    **other: object,
) -> Path:
    """Write a spectral image and its quality layers; land everywhere unless told otherwise."""
    pixels = cube() if pixels is None else pixels
    image = folder / f"{base}-SPECTRAL_IMAGE.TIF"
    tif(image, pixels, **({"nodata": -32768} | other))
    for name in LAYERS:
        layer = np.full(pixels.shape[1:], name == "CLASSES", np.uint8)
        layer = (layers or {}).get(name, layer)
        tif(folder / f"{base}-QL_QUALITY_{name}.TIF", layer[None])
    tif(folder / f"{base}-QL_PIXELMASK.TIF", np.zeros(pixels.shape, np.uint8))
    return image


def read(folder: Path, *words: str) -> Content:
    parser = ArgumentParser()
    enmap.configure(parser)
    return enmap.read(parser.parse_args(["--folder", str(folder), *words]))


def test_224_bands_become_202_by_the_table(tmp_path: Path) -> None:
    product(tmp_path / PATCH)
    content = read(tmp_path)
    make, (task,) = pickle.loads(pickle.dumps((content.make, content.tasks)))  # as a worker's
    sample = make(task)
    pixels = sample.arrays["enmap_30"]
    assert pixels.dtype == np.int16
    # the number tells the band it was written as, and the declared band its name: B001 is band 0
    bands = content.modalities["enmap_30"].bands
    assert len(bands) == 202
    assert [int(p[0, 0]) // 100 + 1 for p in pixels] == [int(name[1:]) for name in bands]
    assert bands == tuple(band.name for band in bands_202())
    # the clear window around 1600 nm is there, the one around 1900 nm is not
    assert {"B146", "B152"} <= set(bands)
    assert not {"B127", "B141", "B161", "B167"} & set(bands)
    assert content.modalities["enmap_30"].nodata == -32768
    assert content.modalities["enmap_30"].scale == 1e-4
    assert np.array_equal(pixels[5], cube()[5])


def test_the_name_tells_time_scene_and_place_in_the_tile(tmp_path: Path) -> None:
    product(tmp_path / PATCH)
    (sample,) = read(tmp_path).samples()
    assert sample.key == f"{KEY}-Y01460153_X03110318"
    assert sample.time == "2022-11-03T16:24:38Z"
    assert sample.labels == {"scene": "DT0000004950_001"}
    assert sample.window == (146, 311, 8, 8)
    assert sample.crs == "EPSG:32618"
    assert sample.transform == (30, 0, 688005, 0, -30, 4561935)
    (lon,), (lat,) = rasterio.warp.transform("EPSG:32618", "EPSG:4326", [688125], [4561815])
    assert sample.lonlat == pytest.approx((lon, lat), abs=1e-9)
    assert sample.valid_fraction == 1.0


@pytest.mark.parametrize("gaps", [[*range(126, 141), *range(145, 152)], []])
def test_other_gaps_stop_the_build(tmp_path: Path, gaps: list[int]) -> None:
    product(tmp_path / PATCH, pixels=cube(gaps=gaps))
    content = read(tmp_path)
    with pytest.raises(FMError, match="of the 22 bands to drop hold data") as caught:
        list(content.samples())
    assert "B161-B167" in str(caught.value)
    assert ("while B146-B152 hold none" in str(caught.value)) == bool(gaps)
    assert "--bands 224" in str(caught.value)
    assert len(list(read(tmp_path, "--bands", "224").samples())) == 1


def test_all_224_bands_can_be_kept(tmp_path: Path) -> None:
    product(tmp_path / PATCH)
    content = read(tmp_path, "--bands", "224")
    (sample,) = content.samples()
    assert np.array_equal(sample.arrays["enmap_30"], cube())
    names = tuple(band.name for band in sensors.sensor("enmap-l2a").bands)
    assert content.modalities["enmap_30"].bands == names
    assert sample.valid_fraction == 1.0


def test_validity_is_data_in_every_band_and_nothing_in_the_way(tmp_path: Path) -> None:
    pixels = cube()
    pixels[:, 0, :] = -32768  # 8 pixels without data
    pixels[3, 1, 0] = -32768  # and one without band 3
    layers = {name: np.zeros((SIDE, SIDE), np.uint8) for name in LAYERS}
    layers["CLASSES"][:] = 1
    layers["CLASSES"][7, :] = 2
    layers["CLOUD"][2, :4] = 1
    layers["CLOUDSHADOW"][2, 3:5] = 1  # one pixel is both
    layers["CIRRUS"][3, :2] = (1, 3)
    layers["HAZE"][4, 0] = 1
    layers["SNOW"][5, :3] = 1
    layers["CLOUD"][0, 0] = 1  # no data there: it does not count as cloud
    product(tmp_path / PATCH, pixels=pixels, layers=layers)
    (sample,) = read(tmp_path, "--mask").samples()
    hidden, empty = 5 + 2 + 1, 9
    assert sample.valid_fraction == (64 - empty - hidden) / 64
    mask = sample.arrays["quality_mask"]
    assert mask.dtype == np.uint8
    assert mask[0].tolist() == [0] * 8
    assert mask[1].tolist() == [0] + [1] * 7
    assert mask[2].tolist() == [7, 7, 7, 7, 6, 1, 1, 1]
    assert mask[3, :3].tolist() == [5, 5, 1]
    assert mask[4, 0] == 4
    assert mask[5, :4].tolist() == [3, 3, 3, 1]
    assert mask[7].tolist() == [2] * 8
    label = read(tmp_path, "--mask").labels["quality"]
    assert [label.classes[k] for k in (1, 2, 3, 4, 5, 6, 7)] == [
        *("land", "water", "snow", "haze", "cirrus", "cloud shadow", "cloud")
    ]
    assert label.ignore == 0
    # of 55 pixels with data 8 are hidden
    assert len(list(read(tmp_path, "--max-cloud", "0.15").samples())) == 1
    content = read(tmp_path, "--max-cloud", "0.14")
    with pytest.raises(Skip, match="more cloud"):
        content.make(content.tasks[0])
    (bare,) = read(tmp_path, "--no-quality").samples()
    assert bare.valid_fraction == (64 - empty) / 64


def test_an_undocumented_quality_number_stops_the_build(tmp_path: Path) -> None:
    product(tmp_path / PATCH, layers={"CLOUD": np.full((SIDE, SIDE), 2, np.uint8)})
    with pytest.raises(FMError, match=r"QL_QUALITY_CLOUD.TIF: holds 2; EnMAP L2A documents 0 to 1"):
        list(read(tmp_path).samples())


def test_patches_without_data_are_left_out_with_the_reason(tmp_path: Path) -> None:
    enmap._opened.cache_clear()
    product(tmp_path / PATCH, pixels=np.full((224, SIDE, SIDE), -32768, np.int16))
    content = read(tmp_path)
    with pytest.raises(Skip, match="no data"):
        content.make(content.tasks[0])
    product(tmp_path / PATCH, pixels=cube(gaps=[*GAPS, 40]))
    enmap._opened.cache_clear()
    with pytest.raises(Skip, match="a band holds no data"):
        content.make(content.tasks[0])


def metadata(path: Path, shift: float = 0.0, gain: str = "0.0001") -> None:
    bands = "".join(
        f'<bandID number="{i}"><wavelengthCenterOfBand>{band.wavelength_nm + shift}'
        f"</wavelengthCenterOfBand><FWHMOfBand>{band.fwhm_nm}</FWHMOfBand><GainOfBand>"
        f"{gain if i == 7 else '0.0001'}</GainOfBand><OffsetOfBand>0</OffsetOfBand></bandID>"
        for i, band in enumerate(sensors.sensor("enmap-l2a").bands, start=1)
    )
    path.write_text(
        f"<level_X><specific><bandCharacterisation>{bands}</bandCharacterisation></specific>"
        "</level_X>"
    )


def test_a_tile_is_cut_into_squares(tmp_path: Path) -> None:
    product(tmp_path / BASE, BASE, cube(20))
    metadata(tmp_path / BASE / f"{BASE}-METADATA.XML", shift=0.4)
    content = read(tmp_path, "--patch", "8")
    samples = list(content.samples())
    assert [sample.window for sample in samples] == [
        *((0, 0, 8, 8), (0, 8, 8, 8), (8, 0, 8, 8), (8, 8, 8, 8))
    ]
    assert samples[2].key == f"{KEY}-Y00080015_X00000007"
    assert np.array_equal(samples[3].arrays["enmap_30"][0], cube(20)[0, 8:16, 8:16])
    assert samples[3].transform == (30, 0, 688005 + 8 * 30, 0, -30, 4561935 - 8 * 30)
    with pytest.raises(FMError, match="no tile holds a square of 64 px"):
        read(tmp_path, "--patch", "64")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shift": 6.0}, "224 bands are not those of the table: B001 at 424.24 nm"),
        ({"gain": "0.001"}, "gain or offset differs between bands"),
    ],
)
def test_metadata_that_contradict_the_table(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    product(tmp_path / PATCH)
    metadata(tmp_path / PATCH / f"{PATCH}-METADATA.XML", **options)
    with pytest.raises(FMError, match=message):
        read(tmp_path)


def test_spectral_earth_patches_are_202_bands_by_place_and_date(tmp_path: Path) -> None:
    kept = [i for i in range(224) if i not in GAPS]
    for date in ("20220627", "2023-01-02"):
        tif(tmp_path / "enmap" / "00012_3" / f"{date}.tif", cube()[kept])
    content = read(tmp_path)
    second, first = content.samples()
    assert (first.key, first.time) == ("00012_3_2023-01-02", "2023-01-02T00:00:00Z")
    assert (second.key, second.time) == ("00012_3_20220627", "2022-06-27T00:00:00Z")
    assert content.modalities["enmap_30"].bands == tuple(band.name for band in bands_202())
    assert [int(p[0, 0]) // 100 for p in first.arrays["enmap_30"]] == kept
    with pytest.raises(FMError, match="no quality layers"):
        read(tmp_path, "--max-cloud", "0.1")
    with pytest.raises(FMError, match="has 202 bands"):
        read(tmp_path, "--bands", "224")


def test_headers_are_checked_before_any_pixel_and_all_at_once(tmp_path: Path) -> None:
    other = BASE.replace("T162438Z_001", "T162438Z_002")
    product(tmp_path / "a", PATCH, cube().astype(np.int32))
    product(tmp_path / "b", f"{other}-Y00000009_X00000007")
    product(tmp_path / "c", f"{other}-Y00000007_X00000007", nodata=0)
    product(tmp_path / "d", BASE.replace("L2A", "L1C"))
    product(tmp_path / "e", "EnMAP_tile_7")
    product(
        tmp_path / "f",
        f"{other}-Y00080015_X00000007",
        transform=rasterio.Affine(10, 0, 0, 0, -10, 0),
    )
    image = product(tmp_path / "g", f"{other}-Y00160023_X00000007")
    image.with_name(image.name.replace("SPECTRAL_IMAGE", "QL_QUALITY_HAZE")).unlink()
    tif(tmp_path / "h" / "20220627.tif", cube()[:150])
    tif(tmp_path / "i" / "cdl.tif", cube()[:202])
    with pytest.raises(FMError) as caught:
        read(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for text in (
        "int32 pixels",
        "8 x 8 px, its name says (10, 8)",
        "no-data is 0, EnMAP L2A has -32768",
        "level L1C is not reflectance",
        "EnMAP_tile_7-SPECTRAL_IMAGE.TIF: not an EnMAP product's name",
        "pixels of 10 x 10",
        "without QL_QUALITY_HAZE.TIF",
        "150 bands, a SpectralEarth patch has 202",
        "no PATCH/DATE.tif",
    ):
        assert text in message


def test_split_lists_give_the_split(tmp_path: Path) -> None:
    second = f"{BASE}-Y00000007_X00000007"
    product(tmp_path / "data" / PATCH)
    product(tmp_path / "data" / second, second)
    lists = tmp_path / "splits"
    lists.mkdir()
    (lists / "train.csv").write_text(f"{BASE}/{PATCH}/{PATCH}-DATA.npy\nother/other-DATA.npy\n")
    (lists / "val.csv").write_text(f"{second}\n")
    (lists / "test.csv").write_text("")
    samples = read(tmp_path / "data", "--splits", str(lists)).samples()
    assert {sample.key: sample.split for sample in samples} == {
        f"{KEY}-Y01460153_X03110318": "train",
        f"{KEY}-Y00000007_X00000007": "val",
    }
    (lists / "test.csv").write_text(f"{second}\n")
    with pytest.raises(FMError, match="is in val and in test"):
        read(tmp_path / "data", "--splits", str(lists))
    (lists / "val.csv").write_text("")
    (lists / "test.csv").unlink()
    with pytest.raises(FMError, match=r"no test.csv.*1 patches are in no list"):
        read(tmp_path / "data", "--splits", str(lists))


def test_the_same_patch_twice_and_folders_without_any(tmp_path: Path) -> None:
    with pytest.raises(FMError, match=r"no \*-SPECTRAL_IMAGE.TIF"):
        read(tmp_path)
    product(tmp_path / "a")
    product(tmp_path / "b")
    with pytest.raises(FMError, match="the same patch as"):
        read(tmp_path)
    with pytest.raises(FMError, match="no such folder"):
        read(tmp_path / "absent")
    with pytest.raises(UsageError, match="--no-quality leaves nothing"):
        read(tmp_path, "--no-quality", "--mask")
    with pytest.raises(UsageError, match="a share from 0 to 1"):
        read(tmp_path, "--max-cloud", "10")
