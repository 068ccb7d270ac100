"""Copernicus-Bench's floods: our reader against torchgeo's class on the same folder."""

import numpy as np
import pytest

from fm.errors import FMError
from probes.benchmarks.copernicus_flood import DECLARATIONS, decibels, vh_is_darker
from tests.probes.layouts import copernicus_maps
from tests.probes.layouts.copernicus import COUNTS
from tests.probes.layouts.scene import radar, write_tif
from tests.probes.layouts.witness import declared, torchgeo_class


@pytest.fixture(scope="module")
def floods(tmp_path_factory):
    return copernicus_maps.write_floods(tmp_path_factory.mktemp("floods"))


def test_floods_as_torchgeo_reads_them(floods):
    data = declared(DECLARATIONS, "copernicus-flood-s1", **COUNTS).load(floods)
    kind = torchgeo_class("CopernicusBenchFloodS1")
    assert kind.all_bands == data.bands["s1grd_10"] == ("VV", "VH")
    assert [c.lower().removesuffix("s") for c in kind.classes] == list(data.classes)
    for part in COUNTS:
        theirs = kind(root=str(floods.parent), split=part)
        rows = data.of(part)
        assert data.shards[rows].tolist() == theirs.files.tolist()
        inputs, truth = data.read(rows), data.maps(rows)
        for k in range(len(rows)):
            sample = theirs[k]
            before, after = sample["image"].double().numpy()
            for ours, linear in ((inputs, before), (inputs.after, after)):
                known = ours.valid["s1grd_10"][k]
                np.testing.assert_array_equal(known, (linear > 0).all(0))
                assert (~known).sum() == 15
                in_db = ours.pixels["s1grd_10"][k].astype(np.float64)
                np.testing.assert_allclose(
                    10 ** (in_db[:, known] / 10), linear[:, known], rtol=1e-6
                )
            stored = sample["mask"].numpy()
            np.testing.assert_array_equal(truth[k], np.where(stored == 3, -1, stored))
            place = data.lonlat(rows[k : k + 1])[0]
            assert place == pytest.approx([float(sample["lon"]), float(sample["lat"])])
    assert (data.maps(np.arange(3)) == -1).any()
    assert "2 of 2 test tiles are of a flood that train has tiles of" in data.notes


def test_backscatter_by_the_formula():
    linear = np.array([1.0, 0.1, 0.0, np.nan, 100.0], np.float32)
    np.testing.assert_allclose(decibels(linear, "here"), [0, -10, np.nan, np.nan, 20], atol=1e-6)
    with pytest.raises(FMError, match="here: backscatter below 0; the published files are linear"):
        decibels(radar(2, 8, 8, 0), "here")
    values = {"VV": np.array([-11.0]), "VH": np.array([-18.0])}
    vh_is_darker(values, "here")
    with pytest.raises(FMError, match=r"here: VV is -7\.0 dB above VH"):
        vh_is_darker({"VV": values["VH"], "VH": values["VV"]}, "here")


def test_wrong_files_are_one_line(tmp_path):
    home = copernicus_maps.write_floods(tmp_path)
    declaration = declared(DECLARATIONS, "copernicus-flood-s1", **COUNTS)
    path = next(iter(sorted(home.rglob("MS1_IVH*.tif"))))
    path.rename(path.with_name("other.tif"))
    with pytest.raises(FMError, match=r"0 files MS1_IVH_\*\.tif, expected one"):
        declaration.load(home)
    path.with_name("other.tif").rename(path)
    write_tif(path, np.ones((1, 224, 200), np.float32))
    with pytest.raises(FMError, match="1 x 224 x 200, expected one band of 224 x 224"):
        declaration.load(home)
    lists = home / "grid_dict_val.json"
    lists.write_text("{")
    with pytest.raises(FMError, match=r"grid_dict_val\.json: this list cannot be read"):
        declaration.load(home)
    lists.write_text('{"a": {}}')
    with pytest.raises(FMError, match=r"grid_dict_val\.json: 'a' names no folder of its tile"):
        declaration.load(home)
