"""Panels of spectral components are shown as spectra."""

import numpy as np
import pytest
import torch

from pretrain.monitors.in_bands import in_bands
from pretrain.objective import Panel
from pretrain.report import stored
from tests.conformance.objectives import OBJECTIVES

MIXED = [n for n, c in OBJECTIVES.items() if c.backbone.options.get("basis")]


@torch.no_grad()
@pytest.mark.parametrize("name", MIXED)
def test_panels_under_a_basis_are_of_bands_again(name, tmp_path):
    case = OBJECTIVES[name]
    objective = case.build().eval()
    batch = case.batch(objective, 2)
    backbone = objective.backbone
    samples = [in_bands(panels, backbone) for panels in objective.panels(batch, batch.rng)]
    own, numbers = dict(backbone.bands), dict(backbone.normalisation)
    stored.save(tmp_path, samples, ["a", "b"], bands=own, normalisation=numbers)
    held = stored.load(tmp_path)
    assert len(held) == 2 * len(batch.pixels)
    for panel in held:
        pixels = batch.pixels[panel.modality]["ab".index(panel.key)].double()
        want = torch.nn.functional.avg_pool2d(pixels, case.factor).numpy()
        assert panel.bands == tuple(own[panel.modality])
        # float16 of normalised values
        assert np.allclose(panel.image, want, atol=float(4e-3 * panel.scale.max()))
        assert np.array_equal(panel.image[panel.shown], panel.predicted[panel.shown])


def test_panels_of_no_known_band_are_left_out_and_lose_no_run(tmp_path):
    image, shown = np.zeros((3, 4, 4), np.float32), np.ones((4, 4), bool)
    case = OBJECTIVES[MIXED[0]]
    backbone = case.build().backbone
    (modality, *_) = backbone.bands
    odd = Panel(f"x of {modality}", image, shown, image)
    own, numbers = dict(backbone.bands), dict(backbone.normalisation)
    assert len(own[modality]) != 3
    stored.save(tmp_path, [[odd]], ["a"], bands=own, normalisation=numbers)
    assert stored.load(tmp_path) == []
