"""Rasters that tell by a mask, an alpha band or a number where they have data."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from fm.errors import FMError
from shards.building.inputs import stamp
from shards.sources.base import Content
from tests.shards.rasters import plane, write_raster
from tests.shards.test_rasters import CRS, read

SIDE = 20
THERE = np.ones((SIDE, SIDE), bool)
THERE[:4], THERE[10, 3:9] = False, False
COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def written(path: Path, how: str, dtype: str = "uint16") -> np.ndarray:
    """Write three bands and, one way or another, where there is data; return the bands."""
    data = np.stack([plane(k, SIDE, SIDE, dtype) for k in (1, 2, 3)])
    if dtype.startswith("float"):
        data = data / np.float32(1000)
    if how == "alpha":
        alpha = np.where(THERE, 1, 0).astype(dtype)  # next to transparent is data
        alpha[15:] = 255
        data = np.concatenate([data, alpha[None]])
    if how == "nodata":
        write_raster(path, np.where(THERE, data, 0).astype(dtype), crs=CRS, nodata=0)
        return data
    write_raster(path, data, crs=CRS)
    if how == "alpha":
        with rasterio.open(path, "r+") as raster:
            raster.colorinterp = (*COLOURS, ColorInterp.alpha)
    else:
        inside = how == "internal"
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside), rasterio.open(path, "r+") as raster:
            raster.write_mask(THERE)
        assert path.with_name(f"{path.name}.msk").exists() != inside
    return data[:3]


def of(root: Path, *words: object, order: str = "B04,B03,B02") -> Content:
    given = ["--root", root, "--band-order", order, "--sensor", "sentinel2-l2a"]
    size = () if "--whole" in words else ("--patch", "10")
    return read(*given, *size, *words)


def joined(content: Content) -> np.ndarray:
    """The pixels of 2 x 2 patches, one mosaic again; bands in table order."""
    parts = [sample.arrays["s2l2a_10"] for sample in content.samples()]
    return np.concatenate([np.concatenate(row, 2) for row in (parts[:2], parts[2:])], 1)


@pytest.mark.parametrize("how", ["internal", "sidecar", "alpha", "nodata"])
def test_what_a_file_leaves_out_is_no_data(tmp_path: Path, how: str) -> None:
    """Defect: masks and alpha bands were passed over, so what lay below was measured."""
    data = written(tmp_path / "d" / "a.tif", how)
    content = of(tmp_path / "d", "--nodata", "0")
    assert content.modalities["s2l2a_10"].nodata == (0, 0, 0)
    assert np.array_equal(joined(content), np.where(THERE, data[::-1], 0))
    data = written(tmp_path / "f" / "a.tif", how, "float32")
    given = () if how == "nodata" else ("--nodata", "none")
    found = joined(of(tmp_path / "f", *given))
    assert np.array_equal(found, np.where(THERE, data[::-1], np.nan), equal_nan=True)


@pytest.mark.parametrize("how", ["internal", "alpha"])
def test_integers_need_a_number_for_it(tmp_path: Path, how: str) -> None:
    written(tmp_path / "a.tif", how)
    said = r"a\.tif: a mask .* no data, and integers need a number for that \(B02, B03, B04\); give"
    with pytest.raises(FMError, match=said) as error:
        of(tmp_path, "--nodata", "none")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("how", ["internal", "sidecar", "alpha", "nodata"])
def test_what_is_left_out_does_not_bleed_when_it_is_warped(tmp_path: Path, how: str) -> None:
    written(tmp_path / "a.tif", how)
    with rasterio.open(tmp_path / "a.tif", "r+") as raster:  # would show in each mean
        data = raster.read()
        data[:3, ~THERE] = 0 if how == "nodata" else 60_000
        raster.write(data)
    warp = ("--reproject", CRS, "--resolution", "20", "--resampling", "average")
    for sample in of(tmp_path, "--nodata", "0", *warp).samples():
        (array,) = sample.arrays.values()
        assert array[array > 0].min() > 0
        assert array.max() < 500
        assert (array == 0).any()


def test_a_band_that_is_named_is_no_mask_though_it_is_called_alpha(tmp_path: Path) -> None:
    """The fourth of four bands is often called so. Defect: where it was 0, nothing was warped."""
    data = np.stack([plane(k, SIDE, SIDE) for k in (1, 2, 3, 4)])
    data[3, :10] = 0
    found = {}
    for last in (ColorInterp.alpha, ColorInterp.undefined):
        write_raster(tmp_path / last.name / "a.tif", data, crs=CRS)
        with rasterio.open(tmp_path / last.name / "a.tif", "r+") as raster:
            raster.colorinterp = (*COLOURS, last)
        order = "B04,B03,B02,B08"
        (sample,) = of(tmp_path / last.name, "--nodata", "65535", "--whole", order=order).samples()
        assert np.array_equal(sample.arrays["s2l2a_10"], data[[2, 1, 0, 3]])
        warp = ("--reproject", "32619", "--resolution", "10", "--resampling", "bilinear")
        warped = of(tmp_path / last.name, "--nodata", "65535", *warp, order=order)
        found[last] = [sample.arrays["s2l2a_10"] for sample in warped.samples()]
    assert len(found[ColorInterp.alpha]) > 1
    for one, other in zip(*found.values(), strict=True):
        assert np.array_equal(one, other)


def test_the_mask_of_a_class_raster_is_no_class(tmp_path: Path) -> None:
    written(tmp_path / "a_B02.tif", "nodata")
    for name in ("B02", "classes"):
        write_raster(tmp_path / f"a_{name}.tif", plane(0, SIDE, SIDE, "uint8") % 2, crs=CRS)
    with rasterio.open(tmp_path / "a_classes.tif", "r+") as raster:
        raster.write_mask(THERE)
    words = ["--root", tmp_path, "--bands", "B02=*_B02.tif", "--sensor", "sentinel2-l2a"]
    words += ["--nodata", "none", "--whole", "--mask", "*_classes.tif", "--mask-classes", "a,b"]
    with pytest.raises(FMError, match=r"classes\.tif: a mask says where it has no class; give --m"):
        read(*words)
    (sample,) = read(*words, "--mask-ignore", "9").samples()
    assert np.array_equal(
        sample.arrays["mask"], np.where(THERE, plane(0, SIDE, SIDE, "uint8") % 2, 9)
    )


def test_a_number_of_no_class_fits_what_a_mask_leaves_out(tmp_path: Path) -> None:
    """Defect: it was found out by numpy, after the build had begun."""
    write_raster(tmp_path / "a_B02.tif", plane(0, SIDE, SIDE), crs=CRS)
    write_raster(tmp_path / "a_classes.tif", plane(0, SIDE, SIDE, "uint8") % 2, crs=CRS)
    words = ["--root", tmp_path, "--bands", "B02=*_B02.tif", "--sensor", "sentinel2-l2a"]
    words += ["--nodata", "none", "--whole", "--mask", "*_classes.tif", "--mask-classes", "a,b"]
    assert len(list(read(*words, "--mask-ignore", "-1").samples())) == 1  # no mask, none needed
    with rasterio.open(tmp_path / "a_classes.tif", "r+") as raster:
        raster.write_mask(THERE)
    for number in ("-1", "256"):
        said = (
            rf"classes\.tif: a mask .* no class, and --mask-ignore {number} does not fit into uint8"
        )
        with pytest.raises(FMError, match=said):
            read(*words, "--mask-ignore", number)


def test_a_named_band_called_alpha_is_none_beside_a_mask_either(tmp_path: Path) -> None:
    """Defect: of a file with both, the band that was named said where the others were warped."""
    data = np.stack([plane(k, SIDE, SIDE) for k in (1, 2, 3, 4)])
    data[3, :10] = 0
    found = []
    for last in (ColorInterp.alpha, ColorInterp.undefined):
        write_raster(tmp_path / last.name / "a.tif", data, crs=CRS)
        with rasterio.open(tmp_path / last.name / "a.tif", "r+") as raster:
            raster.colorinterp = (*COLOURS, last)
            raster.write_mask(THERE)
        warp = ("--reproject", CRS, "--resolution", "10", "--resampling", "average")
        words = ("--nodata", "65535", *warp)
        found.append(joined(of(tmp_path / last.name, *words, order="B04,B03,B02,B08")))
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0] == 65535, np.broadcast_to(~THERE, found[0].shape))


def test_a_mask_beside_a_file_is_one_of_the_files_that_a_sample_is_made_of(tmp_path: Path) -> None:
    written(tmp_path / "a.tif", "sidecar")
    content = of(tmp_path, "--nodata", "0")
    before = stamp(content.files, content.tasks)
    (tmp_path / "a.tif.msk").write_bytes((tmp_path / "a.tif.msk").read_bytes() + b"\0")
    assert stamp(content.files, content.tasks) != before
