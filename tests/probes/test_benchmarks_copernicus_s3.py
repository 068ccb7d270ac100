"""Copernicus-Bench's Sentinel-3: our reader against torchgeo's classes on the same folder."""

import numpy as np
import pytest

from fm.errors import FMError
from probes.benchmarks import copernicus_s3
from probes.benchmarks.copernicus_s3 import DECLARATIONS, oxygen_is_dark, sized
from tests.probes.layouts import copernicus
from tests.probes.layouts.scene import write_tif
from tests.probes.layouts.witness import declared, same_pixels, torchgeo_class


def test_clouds_as_torchgeo_reads_them(tmp_path):
    home = copernicus.write_clouds_s3(tmp_path)
    data = declared(DECLARATIONS, "copernicus-cloud-s3", **copernicus.COUNTS).load(home)
    kind = torchgeo_class("CopernicusBenchCloudS3")
    names = tuple(band.removesuffix("_radiance") for band in kind.all_bands)
    assert names == data.bands["s3olci_300"] == copernicus_s3.BANDS
    assert kind(root=str(tmp_path)).classes[1:][3:] == ("Cloud Shadow", "Snow/Ice")
    for part in copernicus.COUNTS:
        theirs = kind(root=str(tmp_path), split=part)
        rows = data.of(part)
        assert data.shards[rows].tolist() == theirs.files.tolist()
        samples = [theirs[i] for i in range(len(theirs))]
        same_pixels(data, rows, [s["image"].numpy() for s in samples], names, "s3olci_300")
        for truth, sample in zip(data.maps(rows), samples, strict=True):
            np.testing.assert_array_equal(truth, sample["mask"].numpy() - 1)
        assert (data.maps(rows) == -1).any(), "invalid pixels do not count"
        for place, sample in zip(data.lonlat(rows), samples, strict=True):
            assert place == pytest.approx([float(sample["lon"]), float(sample["lat"])])


def test_covers_as_torchgeo_reads_them(tmp_path):
    home = copernicus.write_covers_s3(tmp_path)
    declaration = declared(DECLARATIONS, "copernicus-lc100cls-s3", **copernicus.COUNTS)
    data = declaration.load(home)
    kind = torchgeo_class("CopernicusBenchLC100ClsS3")
    names = tuple(band.removesuffix("_radiance") for band in kind.all_bands)
    assert kind.classes == data.classes
    for part in copernicus.COUNTS:
        theirs = kind(root=str(tmp_path), split=part)
        rows = data.of(part)
        samples = [theirs[i] for i in range(len(theirs))]
        same_pixels(data, rows, [s["image"].numpy() for s in samples], names, "s3olci_300")
        for row, sample in zip(rows, samples, strict=True):
            assert data.targets[row].tolist() == sample["label"].bool().tolist()
    lines = home / "static_fnames-val.csv"
    lines.write_text("".join(lines.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(FMError, match=r"static_fnames-val\.csv: names no image of 0200593"):
        declaration.load(home)


def test_images_of_other_sizes_are_cut_or_filled_up_as_invalid(tmp_path):
    home = copernicus.write_covers_s3(tmp_path, sides=(96, 97, 94))
    data = declared(DECLARATIONS, "copernicus-lc100cls-s3", **copernicus.COUNTS).load(home)
    inputs = data.read(np.arange(3))
    valid = inputs.valid["s3olci_300"]
    assert [int(mask.sum()) for mask in valid] == [96 * 96, 96 * 96, 94 * 94]
    np.testing.assert_array_equal(
        inputs.pixels["s3olci_300"][1], copernicus.olci(97, 97, 11)[:, :96, :96]
    )
    np.testing.assert_array_equal(
        inputs.pixels["s3olci_300"][2][:, 1:95, 1:95], copernicus.olci(94, 94, 20)
    )
    assert sized(np.zeros((1, 32, 32), np.float32), 96).shape == (1, 32, 32)
    path = next((home / "s3_olci").rglob("*.tif"))
    write_tif(path, copernicus.olci(120, 120, 0))
    with pytest.raises(FMError, match="21 x 120 x 120 for s3olci_300, expected float32 21 x 96"):
        declared(DECLARATIONS, "copernicus-lc100cls-s3", **copernicus.COUNTS).load(home)


def test_bands_in_another_order_are_refused():
    bands = copernicus_s3.BANDS
    values = dict(zip(bands, copernicus.olci(8, 8, 0).astype(np.float64), strict=True))
    oxygen_is_dark(values, "here")
    turned = dict(zip(bands, [values[band] for band in reversed(bands)], strict=True))
    with pytest.raises(FMError, match=r"here: mean\(Oa13\) is .* x mean\(Oa12\)"):
        oxygen_is_dark(turned, "here")
