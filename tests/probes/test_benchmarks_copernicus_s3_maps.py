"""Copernicus-Bench's Sentinel-3 maps: our reader against torchgeo's classes on the same folder."""

import math

import numpy as np
import pytest

from fm.errors import FMError
from probes.benchmarks.copernicus_s3_maps import DECLARATIONS, cells
from shards.sources.raster_io import header
from tests.probes.layouts import copernicus, copernicus_maps
from tests.probes.layouts.copernicus_maps import STEP
from tests.probes.layouts.scene import write_tif
from tests.probes.layouts.witness import declared, same_pixels, torchgeo_class


def test_cover_maps_as_torchgeo_reads_them(tmp_path):
    home = copernicus_maps.write_cover_maps(tmp_path)
    data = declared(DECLARATIONS, "copernicus-lc100seg-s3", **copernicus.COUNTS).load(home)
    kind = torchgeo_class("CopernicusBenchLC100SegS3")
    names = tuple(band.removesuffix("_radiance") for band in kind.all_bands)
    assert kind.classes == data.classes
    for part in copernicus.COUNTS:
        theirs = kind(root=str(tmp_path), split=part)
        rows = data.of(part)
        samples = [theirs[i] for i in range(len(theirs))]
        same_pixels(data, rows, [s["image"].numpy() for s in samples], names, "s3olci_300")
        for truth, sample, place in zip(data.maps(rows), samples, data.lonlat(rows), strict=True):
            np.testing.assert_array_equal(truth, sample["mask"].numpy())
            assert place == pytest.approx([float(sample["lon"]), float(sample["lat"])])


def test_maps_lie_where_their_geotransform_says(tmp_path):
    fine, off = 0.00088888888888, 0.0007  # as the published maps of biomass
    home = copernicus_maps.write_cover_maps(tmp_path, (97, 94), fine, off)
    data = declared(DECLARATIONS, "copernicus-lc100seg-s3", **copernicus.COUNTS).load(home)
    found = data.maps(np.arange(2))
    for n, side in enumerate((97, 94)):
        place = f"020059{n}_-70.25_-55.25"
        head = header(next((home / "s3_olci" / place).glob("*.tif")))
        shape = header(home / f"lc100/{place}.tif").shape
        stored = copernicus_maps.codes(22, *shape, n)
        first = 0 if side == 97 else -1
        for row, column in ((0, 0), (3, 287), (100, 51), (287, 287)):
            # the centre of the cell in degrees from the corner of the image, then of the map
            y, x = ((first + (k + 0.5) / 3) * STEP for k in (row, column))
            at = math.floor((y + off) / fine), math.floor((x + off) / fine)
            inside = all(0 <= k < n_of for k, n_of in zip(at, shape, strict=True))
            assert found[n, row, column] == (stored[at] if inside else -1)
        assert head.shape == (side, side)
    assert (found[1] == -1).any()
    assert (found[0] >= 0).all()


def test_a_map_of_other_ground_is_refused(tmp_path):
    home = copernicus_maps.write_cover_maps(tmp_path)
    declaration = declared(DECLARATIONS, "copernicus-lc100seg-s3", **copernicus.COUNTS)
    path = home / "lc100/0200590_-70.25_-55.25.tif"
    truth = np.zeros((288, 288), np.uint8)
    write_tif(path, truth, crs="EPSG:4326", west=10.0, north=-55.3, pixel=STEP / 3)
    with pytest.raises(FMError, match="this map lies elsewhere than its image"):
        declaration.load(home)
    write_tif(path, truth, crs="EPSG:32619")
    with pytest.raises(FMError, match=r"EPSG:32619, its image has EPSG:4326; take the published"):
        declaration.load(home)
    write_tif(path, truth + 7, crs="EPSG:4326", west=-69.6, north=-55.3, pixel=STEP / 3)
    with pytest.raises(FMError, match="its map holds 7, which is no class of this dataset"):
        declaration.load(home)
    east = write_tif(
        tmp_path / "east.tif", truth, crs="EPSG:4326", west=290.4, north=-55.3, pixel=STEP / 3
    )
    image = header(next((home / "s3_olci/0200590_-70.25_-55.25").glob("*.tif")))
    rows, columns = cells(image, header(east))  # 360 degrees further is the same ground
    assert rows.tolist() == columns.tolist() == list(range(288))


def test_mean_biomass_of_the_maps_torchgeo_reads(tmp_path):
    home = copernicus_maps.write_biomass(tmp_path)
    declaration = declared(DECLARATIONS, "copernicus-biomass-s3-mean", **copernicus.COUNTS)
    data = declaration.load(home)
    kind = torchgeo_class("CopernicusBenchBiomassS3")
    for part in copernicus.COUNTS:
        theirs = kind(root=str(tmp_path), split=part)
        rows = data.of(part)
        inputs = data.read(rows)
        for k, row in enumerate(rows):
            sample = theirs[k]
            mean = sample["mask"].double().mean().item()
            assert data.targets[row] == pytest.approx([mean], rel=1e-12)
            image = sample["image"].numpy()  # 93 x 94, filled up to 96 around its middle
            np.testing.assert_array_equal(inputs.pixels["s3olci_300"][k][:, 1:94, 1:95], image)
            assert int(inputs.valid["s3olci_300"][k].sum()) == 93 * 94
    path = next((home / "biomass").glob("*.tif"))
    write_tif(path, np.full((281, 281), 65535, np.uint16))
    with pytest.raises(FMError, match="biomass of 65535 to 65535 t/ha"):
        declaration.load(home)
    write_tif(path, np.ones((281, 281), np.float32))
    with pytest.raises(FMError, match="float32 1 x 281 x 281, expected one band of whole t/ha"):
        declaration.load(home)
