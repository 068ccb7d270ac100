"""Resampling: closed forms on linear fields, the same ground on every grid, invalid pixels."""

import pytest
import torch

from fm.errors import UsageError
from fm.resample import Box, as_a_whole, resample, sizes_of


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


def test_grids_of_other_ground_or_parts_of_pixels_are_refused() -> None:
    pixels = {"a": torch.zeros(1, 1, 48, 48), "b": torch.zeros(1, 1, 8, 8)}
    assert sizes_of(pixels, 24) == {"a": (24, 24), "b": (4, 4)}
    assert sizes_of(pixels, None) == {"a": (48, 48), "b": (8, 8)}
    with pytest.raises(UsageError, match=r"view.size=20: b has 8 .* give a multiple of 6"):
        sizes_of(pixels, 20)
    with pytest.raises(UsageError, match="other ground"):
        sizes_of({**pixels, "c": torch.zeros(1, 1, 8, 16)}, None)


def test_the_centre_is_cut_on_whole_pixels_of_the_coarsest_grid() -> None:
    fine, coarse = torch.rand(2, 3, 12, 12), torch.rand(2, 1, 4, 4)
    mask = torch.rand(2, 12, 12) > 0.5
    pixels = {"fine": fine, "coarse": coarse}
    made, masks = as_a_whole(pixels, {"fine": mask}, 9, resize=False)
    assert torch.equal(made["coarse"], coarse[..., :3, :3])  # one to spare: none above, one below
    assert torch.equal(made["fine"], fine[..., :9, :9])
    assert torch.equal(masks["fine"], mask[:, :9, :9])
    made, _ = as_a_whole(pixels, None, 6, resize=False)
    assert torch.equal(made["fine"], fine[..., 3:9, 3:9])
    same, none = as_a_whole(pixels, None, None, resize=True)
    assert torch.equal(same["fine"], fine)
    assert not none
    with pytest.raises(UsageError, match="more than the sample's 12 x 12"):
        as_a_whole(pixels, None, 15, resize=False)


def test_the_largest_square_of_the_centre_is_resampled() -> None:
    x = field(24, 48)
    made, _ = as_a_whole({"a": x}, None, 12, resize=True)
    want = torch.nn.functional.avg_pool2d(x[..., 12:36], 2)
    assert torch.allclose(made["a"], want, atol=1e-5)
    valid = torch.ones_like(x, dtype=torch.bool)
    valid[..., 12:24] = False
    made, masks = as_a_whole({"a": x}, {"a": valid}, 12, resize=True)
    assert not masks["a"][..., :6].any()
    assert (made["a"][..., :6] == 0).all()
    assert torch.allclose(made["a"][..., 6:], want[..., 6:], atol=1e-5)
