"""Random crops: areas and ratios, whole pixels, what cannot be cut."""

import math

import pytest
import torch

from fm.errors import UsageError
from fm.rng import CounterRng
from pretrain.augment.crop import draw_box, draw_cut
from pretrain.settings.view import ViewConfig


def rng(count: int) -> CounterRng:
    return CounterRng(5, torch.zeros(count, dtype=torch.int64), torch.arange(count))


def test_boxes_have_the_areas_and_ratios_that_were_asked_for() -> None:
    config = ViewConfig(scale=(0.2, 0.5), ratio=(0.5, 1.5))
    shape = (60, 60)
    made = draw_box(rng(2000), "v", config, shape)
    area = made.height * made.width
    ratio = made.width * shape[1] / (made.height * shape[0])
    assert area.min() > 0.2 - 1e-5
    assert area.max() < 0.5 + 1e-5
    assert abs(area.mean() - 0.35) < 4 * 0.3 / math.sqrt(12 * 2000)
    assert ratio.min() > 0.5 - 1e-4
    assert ratio.max() < 1.5 + 1e-4
    assert made.top.min() >= 0
    assert (made.top + made.height).max() <= 1 + 1e-6
    assert made.left.min() >= 0
    assert (made.left + made.width).max() <= 1 + 1e-6
    assert 0.4 < made.mirrored.float().mean() < 0.6
    none = draw_box(rng(20), "v", config.model_copy(update={"flips": "none"}), shape)
    assert not none.mirrored.any()


def test_what_never_fits_is_cut_from_the_centre() -> None:
    config = ViewConfig(scale=(1, 1), ratio=(0.5, 0.8))
    made = draw_box(rng(20), "v", config, (50, 100))
    assert torch.allclose(made.height, torch.tensor(1.0))
    assert torch.allclose(made.width, torch.tensor(0.4))
    assert torch.allclose(made.left, torch.tensor(0.3))


def test_what_cannot_be_cut_is_refused() -> None:
    pixels = {"a": torch.zeros(1, 1, 48, 48), "b": torch.zeros(1, 1, 8, 8)}
    with pytest.raises(UsageError, match="more than the sample's 48 x 48"):
        draw_cut(rng(1), "v", ViewConfig(resize=False, size=60), pixels)
    with pytest.raises(UsageError, match="no common edge"):
        draw_cut(
            rng(1), "v", ViewConfig(resize=False, size=48), {**pixels, "c": torch.zeros(1, 1, 3, 3)}
        )
