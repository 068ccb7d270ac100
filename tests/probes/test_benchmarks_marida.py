"""MARIDA: what the authors' loader does, written out again."""

import numpy as np
import pytest

from fm.errors import FMError
from probes.benchmarks.marida import DECLARATIONS
from tests.probes.layouts import marida
from tests.probes.layouts.scene import codes
from tests.probes.layouts.witness import declared


def test_patches_maps_and_scenes(tmp_path):
    data = declared(DECLARATIONS, "marida", **marida.COUNTS).load(marida.write(tmp_path))
    assert len(data.bands["s2l2a_10"]) == 11
    assert data.shards[:3].tolist() == ["1-12-19_48MYU_0", "1-12-19_48MYU_1", "2-12-19_48MYU_2"]
    assert data.unit.tolist() == [0, 0, 1, 1, 2, 2, 3]
    inputs, truth = data.read(np.arange(7)), data.maps(np.arange(7))
    for n in range(7):
        known = inputs.valid["s2l2a_10"][n]
        assert (~known).sum() == 24
        np.testing.assert_array_equal(
            inputs.pixels["s2l2a_10"][n][:, known], marida.sea(n)[:, known]
        )
        stored = codes(15, 256, 256, n)
        joined = np.where(stored >= 12, 7, stored)  # the authors' aggregation, then from 0
        np.testing.assert_array_equal(truth[n], joined - 1)
    assert truth.min() == -1
    assert truth.max() == 10


def test_wrong_files_are_one_line(tmp_path):
    swapped = marida.MEANS[::-1]
    with pytest.raises(FMError, match=r"mean\(B02\) is .* x mean\(B12\)|mean\(B8A\) is"):
        declared(DECLARATIONS, "marida", **marida.COUNTS).load(
            marida.write(tmp_path / "turned", swapped)
        )
    root = marida.write(tmp_path / "lists")
    (root / "splits" / "val_X.txt").write_text("S2.tif\n")
    with pytest.raises(FMError, match=r"val_X\.txt: 'S2\.tif' is no patch, such as 1-12-19"):
        declared(DECLARATIONS, "marida", **marida.COUNTS).load(root)
