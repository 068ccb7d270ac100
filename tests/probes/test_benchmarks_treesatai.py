"""TreeSatAI: our reader against torchgeo's class on the same folder."""

import json

import numpy as np
import pytest

from fm.errors import FMError
from probes.benchmarks.treesatai import DECLARATIONS, LABELS
from tests.probes.layouts import treesatai
from tests.probes.layouts.witness import declared, torchgeo_class


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return treesatai.write(tmp_path_factory.mktemp("treesatai"))


@pytest.mark.parametrize(
    ("name", "kind", "modality", "names"),
    [
        ("treesatai-s2", "s2", "s2l2a_10", treesatai.OPTICAL),
        ("treesatai-s1", "s1", "s1grd_10", ("VV", "VH", "VV/VH")),
        ("treesatai-aerial", "aerial", "nirrgb_0", ("NIR", "G", "B", "R")),
    ],
)
def test_the_same_samples_as_torchgeo(release, name, kind, modality, names):
    data = declared(DECLARATIONS, name).load(release)
    witness = torchgeo_class("TreeSatAI")
    assert witness.classes == data.classes
    assert tuple({"IR": "NIR"}.get(b, b) for b in witness.all_bands[kind]) == names
    order = [names.index(band) for band in data.bands[modality]]
    place = {key: i for i, key in enumerate(data.shards.tolist())}
    for part in ("train", "test"):
        theirs = witness(root=str(release), split=part, sensors=[kind])
        for i, file in enumerate(theirs.files):
            row = place[file]
            assert data.split[row] in (("test",) if part == "test" else ("train", "val"))
            inputs = data.read(np.array([row]))
            image = theirs[i][f"image_{kind}"].numpy()[order]
            valid = np.ones(image.shape[1:], bool)
            if inputs.valid is not None:
                valid = inputs.valid[modality][0]
            np.testing.assert_array_equal(valid, (image != -9999).all(0))
            np.testing.assert_array_equal(inputs.pixels[modality][0][:, valid], image[:, valid])
            assert data.targets[row].tolist() == theirs[i]["label"].bool().tolist()
    lon, lat = data.lonlat(np.array([0]))[0]
    assert 5 < lon < 16
    assert 45 < lat < 55


def test_bands_are_given_in_table_order(release):
    data = declared(DECLARATIONS, "treesatai-s2").load(release)
    assert " ".join(data.bands["s2l2a_10"]) == "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B11 B12"
    means = data.read(np.arange(6)).pixels["s2l2a_10"].mean((0, 2, 3))
    assert means[0] == pytest.approx(1354, rel=0.05)
    assert means[8] == pytest.approx(2594, rel=0.05)


def test_labels_that_do_not_fit_are_refused(tmp_path):
    root = treesatai.write(tmp_path)
    shares = json.loads((root / LABELS).read_text())
    name = next(iter(shares))
    (root / LABELS).write_text(json.dumps(shares | {name: [("Ginkgo", 1.0)]}))
    with pytest.raises(FMError, match="'Ginkgo' is no genus of this dataset"):
        declared(DECLARATIONS, "treesatai-s2").load(root)
    del shares[name]
    (root / LABELS).write_text(json.dumps(shares))
    with pytest.raises(FMError, match=f"no labels of {name[:10]}"):
        declared(DECLARATIONS, "treesatai-s2").load(root)
