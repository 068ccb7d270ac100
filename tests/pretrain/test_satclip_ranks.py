"""Contrast of images with places: what other ranks hold is compared with too."""

import math

import pytest
import torch

from pretrain.ranks import collective
from tests.pretrain.test_satclip import built


def test_keys_of_other_ranks_are_compared_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect: each rank compares with its own keys alone (SatCLIP, CROMA)."""
    objective, batch, _ = built(soft_km=None)
    alone = objective(batch, batch.rng).loss_sum.item()
    # a second rank with the same samples: each key stands there twice and one of them is right,
    # so every cross-entropy is log 2 more
    monkeypatch.setattr(collective, "gather_rows", lambda rows: torch.cat([rows, rows]))
    both = objective(batch, batch.rng).loss_sum.item()
    assert both == pytest.approx(alone + 6 * math.log(2), rel=1e-5)
