"""Copernicus-Bench: our reader against torchgeo's classes on the same folder."""

import numpy as np
import pytest

from fm.errors import FMError
from probes.benchmarks.copernicus_bench import DECLARATIONS
from tests.probes.layouts import copernicus
from tests.probes.layouts.witness import declared, same_pixels, torchgeo_class, whole


@pytest.mark.parametrize("name", ["copernicus-ben-s2", "copernicus-ben-s1"])
def test_bigearthnet_as_torchgeo_reads_it(tmp_path, name):
    home = copernicus.write_labels(tmp_path)
    declaration = declared(DECLARATIONS, name, **copernicus.COUNTS)
    data = declaration.load(home)
    kind = torchgeo_class(declaration.witness)
    assert kind.classes == data.classes
    for part in copernicus.COUNTS:
        theirs = kind(root=str(tmp_path), split=part)
        rows = data.of(part)
        samples = [theirs[i] for i in range(len(theirs))]
        modality = next(iter(data.bands))
        same_pixels(data, rows, [s["image"].numpy() for s in samples], kind.all_bands, modality)
        for row, sample in zip(rows, samples, strict=True):
            assert data.targets[row].tolist() == sample["label"].bool().tolist()
            assert data.lonlat(np.array([row]))[0] == pytest.approx(
                [float(sample["lon"]), float(sample["lat"])]
            )
    path = home / "multilabel-val.csv"
    path.write_text(path.read_text().replace(",1", ",2", 1))
    with pytest.raises(FMError, match="expected two paths and 19 of 0 and 1"):
        declaration.load(home)


def test_zones_as_torchgeo_reads_them(tmp_path):
    root = copernicus.write_zones(tmp_path)
    data = declared(DECLARATIONS, "copernicus-lcz-s2", **copernicus.COUNTS).load(root)
    kind = torchgeo_class("CopernicusBenchLCZS2")
    assert kind.classes == data.classes
    for part in copernicus.COUNTS:
        theirs = kind(root=str(root), split=part)
        samples = [theirs[i] for i in range(len(theirs))]
        images = [s["image"].numpy() for s in samples]
        same_pixels(data, data.of(part), images, kind.all_bands, "s2l1c_10")
        assert data.targets[data.of(part)].tolist() == [int(s["label"]) for s in samples]


def test_clouds_as_torchgeo_reads_them(tmp_path):
    home = copernicus.write_clouds(tmp_path)
    data = declared(DECLARATIONS, "copernicus-cloud-s2", **copernicus.COUNTS).load(home)
    kind = torchgeo_class("CopernicusBenchCloudS2")
    assert [c.lower() for c in kind.classes] == list(data.classes)
    assert kind.all_bands == copernicus.L1C
    for part in copernicus.COUNTS:
        theirs = kind(root=str(tmp_path), split=part)
        assert set(data.shards[data.of(part)]) == set(theirs.files)
        pixels, truth = whole(data, theirs.files[0])
        sample = theirs[0]
        np.testing.assert_array_equal(pixels["s2l1c_10"], sample["image"].numpy())
        np.testing.assert_array_equal(truth, sample["mask"].numpy())
