import copy

import numpy as np
import pytest
import torch

from fm.errors import FMError
from probes.benchmarks.base import Inputs
from probes.dense import stored_maps
from probes.dense.token_maps import token_maps
from tests.probes import dense_standin as standin

M = standin.MODALITY


def extract(model, data, **options):
    return stored_maps.extract_maps(model, data, benchmark="eight@1", pyramid=False, **options)


def test_a_frozen_backbone_is_in_eval_and_keeps_its_statistics():
    """Batch norms in train mode would score by batch and drift (SSL4EO-S12's linear probe)."""
    data = standin.eight("segmentation", side=64)
    model = standin.model(32, "resnet_18", planes=8)
    before = copy.deepcopy(model.state_dict())
    inputs = data.read(np.arange(24))
    want = token_maps(model, inputs, data.bands, data.scaling, pyramid=False).levels[0]
    model.train()
    made = extract(model, data, batch_size=5)
    np.testing.assert_allclose(made.arrays[0], want.detach().numpy(), atol=1e-5)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_maps_are_cached_by_content(tmp_path):
    data = standin.eight("segmentation")
    model = standin.model(3)
    first = extract(model, data)
    kept = extract(model, data, cache=tmp_path)
    [entry] = tmp_path.iterdir()
    np.testing.assert_array_equal(kept.arrays[0], first.arrays[0])
    assert kept.shapes == first.shapes
    stamp = (entry / "maps.json").stat().st_mtime_ns
    extract(model, data, cache=tmp_path)
    assert (entry / "maps.json").stat().st_mtime_ns == stamp
    file = entry / "level0.npy"
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    np.testing.assert_array_equal(extract(model, data, cache=tmp_path).arrays[0], first.arrays[0])
    with torch.no_grad():
        model.norm.bias += 1
    extract(model, data, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_stored_is_refused(monkeypatch):
    data = standin.eight("segmentation")
    with pytest.raises(FMError, match="one date"):
        extract(standin.model(3), data, after=True)
    monkeypatch.setattr(stored_maps, "MOST_BYTES", 1000)
    with pytest.raises(FMError, match="--cache"):
        extract(standin.model(3), data)
    model = standin.model(3)
    with torch.no_grad():
        model.norm.bias[0] = torch.nan
    with pytest.raises(FMError, match="NaN"):
        extract(model, data)


def test_pixels_are_in_physical_units_and_nan_where_invalid():
    data = standin.eight("segmentation")
    data.scaling[M] = (0.5, 1.0)
    stored = np.arange(2 * 6 * 4 * 4, dtype=np.uint8).reshape(2, 6, 4, 4)
    valid = np.ones((2, 4, 4), bool)
    valid[0, 1, 2] = False
    level = stored_maps.pixel_maps(Inputs({M: stored}, {M: valid}), data, (4, 4)).levels[0].numpy()
    assert np.isnan(level[0, :, 1, 2]).all()
    assert np.isnan(level).sum() == 6
    np.testing.assert_allclose(level[1], stored[1] * 0.5 + 1)
    twice = stored_maps.pixel_maps(Inputs({M: stored}, {M: valid}), data, (8, 8))
    assert twice.cells == [(1 / 8, 1 / 8)]
    np.testing.assert_allclose(twice.levels[0].numpy()[1, :, 0, 0], stored[1, :, 0, 0] * 0.5 + 1)
