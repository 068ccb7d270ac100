"""Crops: closed forms on linear fields, the same ground on every grid, invalid pixels."""

import math

import pytest
import torch

from fm.errors import UsageError
from fm.rng import CounterRng
from pretrain.augment.crop import Box, draw_box, draw_cut, resample, sizes_of
from pretrain.settings.view import ViewConfig


def rng(count: int) -> CounterRng:
    return CounterRng(5, torch.zeros(count, dtype=torch.int64), torch.arange(count))


def box(*numbers: float, mirrored: bool = False) -> Box:
    return Box(*(torch.tensor([n]) for n in numbers), torch.tensor([mirrored]))


def field(rows: int, columns: int) -> torch.Tensor:
    """Return 3 x (share of the height) + 5 x (share of the width) at the pixels' centres."""
    down = (torch.arange(rows) + 0.5) / rows
    along = (torch.arange(columns) + 0.5) / columns
    return (3 * down[:, None] + 5 * along[None, :])[None, None]


def test_the_whole_at_its_own_size_is_the_image() -> None:
    x = torch.rand(1, 3, 33, 20)
    made, valid = resample(x, None, box(0, 0, 1, 1), (33, 20), 1.0)
    assert valid is None
    # coordinates are float32: 1e-6 of a pixel, times differences up to 1
    assert torch.allclose(made, x, atol=1e-5)


def test_a_linear_field_is_sampled_where_the_pixels_of_the_box_lie() -> None:
    x = field(40, 30)
    place = box(0.3, 0.25, 0.4, 0.5)
    for size in ((16, 24), (40, 30)):
        made = resample(x, None, place, size, 1.0)[0]
        down = 0.3 + 0.4 * (torch.arange(size[0]).double() + 0.5) / size[0]
        along = 0.25 + 0.5 * (torch.arange(size[1]).double() + 0.5) / size[1]
        assert torch.allclose(
            made[0, 0].double(), 3 * down[:, None] + 5 * along[None, :], atol=1e-5
        )
        mirrored = resample(x, None, box(0.3, 0.25, 0.4, 0.5, mirrored=True), size, 1.0)[0]
        assert torch.allclose(mirrored.flip(-1), made, atol=1e-5)


def test_smaller_views_average_what_they_leave_out() -> None:
    x = torch.rand(1, 2, 24, 24)
    made = resample(x, None, box(0, 0, 1, 1), (12, 12), 1.0)[0]
    assert torch.allclose(made, torch.nn.functional.avg_pool2d(x, 2), atol=1e-5)


def test_invalid_pixels_neither_bleed_nor_come_back_and_zeros_are_numbers() -> None:
    x = torch.full((1, 2, 16, 16), 0.25)
    x[0, 0, :, :4] = 0.0  # dark water
    valid = torch.ones_like(x, dtype=torch.bool)
    valid[0, 1, :, 8:] = False
    x[0, 1, :, 8:] = 900.0
    made, known = resample(x, valid, box(0, 0, 1, 1), (32, 32), 1.0)
    assert known is not None
    assert known.shape == made.shape
    assert known[0, 0].all()
    assert (made[0, 0, :, :6] == 0).all()
    assert known[0, 1, :, :16].all()
    assert not known[0, 1, :, 16:].any()
    assert torch.allclose(made[0, 1, :, :16], torch.tensor(0.25), atol=1e-6)
    assert (made[0, 1, :, 16:] == 0).all()


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


def test_grids_of_other_ground_or_parts_of_pixels_are_refused() -> None:
    pixels = {"a": torch.zeros(1, 1, 48, 48), "b": torch.zeros(1, 1, 8, 8)}
    assert sizes_of(pixels, 24) == {"a": (24, 24), "b": (4, 4)}
    assert sizes_of(pixels, None) == {"a": (48, 48), "b": (8, 8)}
    with pytest.raises(UsageError, match=r"view.size=20: b has 8 .* give a multiple of 6"):
        sizes_of(pixels, 20)
    with pytest.raises(UsageError, match="other ground"):
        sizes_of({**pixels, "c": torch.zeros(1, 1, 8, 16)}, None)
    with pytest.raises(UsageError, match="more than the sample's 48 x 48"):
        draw_cut(rng(1), "v", ViewConfig(resize=False, size=60), pixels)
    with pytest.raises(UsageError, match="no common edge"):
        draw_cut(
            rng(1), "v", ViewConfig(resize=False, size=48), {**pixels, "c": torch.zeros(1, 1, 3, 3)}
        )
