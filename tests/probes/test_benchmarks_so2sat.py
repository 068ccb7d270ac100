"""So2Sat: our reader against torchgeo's class on the same files, and validation by city."""

import h5py
import numpy as np
import pytest

from fm.errors import FMError
from probes.benchmarks.so2sat import DECLARATIONS, RADAR
from tests.probes.layouts import so2sat
from tests.probes.layouts.witness import declared, same_pixels, torchgeo_class

V2 = {"train": 20, "val": 5, "test": 6}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    root = so2sat.write(tmp_path_factory.mktemp("so2sat"))
    for kind in ("random", "block", "culture_10"):
        so2sat.write(root / kind, ("training", "testing"))
    return so2sat.write_cities(root)


@pytest.mark.parametrize(
    ("name", "modality"), [("so2sat", "s2l1c_10"), ("so2sat-s1", "s1so2sat_10")]
)
def test_version_2_as_torchgeo_reads_it(release, name, modality):
    data = declared(DECLARATIONS, name, **V2).load(release)
    kind = torchgeo_class("So2Sat")
    ours, bands = (RADAR, "s1") if name == "so2sat-s1" else (so2sat.OPTICAL, "s2")
    assert name == "so2sat-s1" or tuple(f"S2_{b}" for b in ours) == kind.all_s2_band_names
    for part, other in (("train", "train"), ("val", "validation"), ("test", "test")):
        theirs = kind(root=str(release), version="2", split=other, bands=kind.BAND_SETS[bands])
        rows = data.of(part)
        samples = [theirs[i] for i in range(len(theirs))]
        same_pixels(data, rows, [s["image"].numpy() for s in samples], ours, modality, 1e-7)
        assert data.targets[rows].tolist() == [int(s["label"]) for s in samples]
    assert data.classes == kind.classes
    assert data.scaling == {modality: (1.0, 0.0)}
    assert data.read(np.arange(2)).pixels[modality].dtype == np.float32


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("so2sat-random", "3_random"),
        ("so2sat-block", "3_block"),
        ("so2sat-culture10", "3_culture_10"),
    ],
)
def test_version_3_as_torchgeo_reads_it(release, name, version):
    counts = {"train": 20, "test": 6} if name == "so2sat-culture10" else {}
    data = declared(DECLARATIONS, name, **counts).load(release)
    theirs = torchgeo_class("So2Sat")(
        root=str(release),
        version=version,
        split="test",
        bands=(*(f"S2_{band}" for band in so2sat.OPTICAL),),
    )
    rows = data.of("test")
    images = [theirs[i]["image"].numpy() for i in range(len(theirs))]
    same_pixels(data, rows, images, so2sat.OPTICAL, "s2l1c_10", 1e-7)
    assert len(data.of("train")) + len(data.of("val")) == 20
    assert any("split made here: the published train list dealt" in note for note in data.notes)


def test_culture_10_holds_out_whole_cities(release, tmp_path):
    declaration = declared(DECLARATIONS, "so2sat-culture10", train=20, test=6)
    data = declaration.load(release)
    cities = np.arange(20) % 5
    held = {int(c) for c in cities[data.split[:20] == "val"]}
    assert len(held) == 1
    assert {int(c) for c in cities[data.split[:20] == "train"]} == set(range(5)) - held
    again = declaration.load(release)
    assert again.split_lists() == data.split_lists()
    assert again.manifest_hash == data.manifest_hash
    assert data.split_lists()["val"]["stored_samples"] == 4
    so2sat.write(tmp_path / "culture_10", ("training", "testing"))
    with pytest.raises(FMError, match=r"training_geo\.h5: no such file; validation holds out"):
        declaration.load(tmp_path)


def test_another_unit_or_order_is_refused(tmp_path):
    root = so2sat.write(tmp_path)
    for path in root.glob("*.h5"):
        with h5py.File(path, "r+") as file:
            file["sen2"][...] = file["sen2"][...] * 10_000
    declaration = declared(DECLARATIONS, "so2sat", **V2)
    with pytest.raises(FMError, match=r"B02 has a median of 1.1.e.03 .* in reflectance"):
        declaration.load(root)
    swapped = (*so2sat.OPTICAL[:7], "B12", "B11", "B8A")
    with pytest.raises(FMError, match=r"mean\(B8A\) is 0\.49 x mean\(B08\)"):
        declaration.load(so2sat.write(tmp_path / "swapped", order=swapped))


def test_labels_that_are_not_one_of_17_are_refused(tmp_path):
    root = so2sat.write(tmp_path)
    with h5py.File(root / "testing.h5", "r+") as file:
        file["label"][0] = 0
    with pytest.raises(FMError, match=r"testing\.h5: label is \(6, 17\), expected one of 17 set"):
        declared(DECLARATIONS, "so2sat", **V2).load(root)
