import pytest
import torch
from torch.nn.functional import interpolate

from probes.dense.grids import resample


@pytest.mark.parametrize(("size", "step"), [(12, 1 / 3), (4, 1.0), (8, 0.5), (2, 2.0)])
def test_whole_grids_are_torchs_bilinear(size, step):
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    want = interpolate(x, (size, size), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resample(x, (size, size), (step, step)), want)


def test_a_grid_that_ends_beyond_the_picture_is_cut():
    """11 tokens of 3 px cover 33 px; of a picture of 32 px the last is left out, none is moved."""
    x = torch.randn(1, 2, 11, 11, dtype=torch.float64)
    whole = interpolate(x, (33, 33), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resample(x, (32, 32), (1 / 3, 1 / 3)), whole[..., :32, :32])


def test_a_ramp_stays_a_ramp():
    x = (torch.arange(6.0) + 0.5).expand(1, 1, 3, 6)
    made = resample(x, (3, 9), (1.0, 6 / 9))[0, 0, 0]
    want = ((torch.arange(9.0) + 0.5) * 6 / 9).clamp(0.5, 5.5)
    torch.testing.assert_close(made, want)
    assert resample(torch.full((1, 1, 1, 1), 7.0), (4, 5), (0.25, 0.2)).unique() == 7
