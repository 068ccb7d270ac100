"""Brightness, contrast, grey and solarise against float64 formulas and 8-bit arithmetic."""

import numpy as np
import torch

from pretrain.augment import colour


def images(seed: int = 0) -> torch.Tensor:
    return torch.rand(4, 3, 9, 7, generator=torch.Generator().manual_seed(seed))


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None, None, None]


def test_contrast_is_about_each_bands_mean_over_the_valid_pixels() -> None:
    x = images()
    valid = images(1) > 0.3
    by = column(0.6, 1.0, 1.4, 0.9)
    made = colour.stretched(x, valid, by)
    for b in range(4):
        for c in range(3):
            values = x[b, c].double().numpy()
            mean = values[valid[b, c].numpy()].mean()
            expected = mean + by[b].item() * (values - mean)
            assert np.abs(made[b, c].numpy() - expected).max() < 2e-7
    assert torch.equal(made[1], x[1])
    whole = colour.stretched(x, None, by)
    mean = x.double().mean(dim=(2, 3), keepdim=True)
    assert (whole - (mean + by * (x.double() - mean))).abs().max() < 2e-7


def test_reflectance_does_not_become_negative() -> None:
    before = torch.tensor([0.1, 0.1, -0.02, -0.02])
    made = torch.tensor([0.2, -0.3, -0.3, 0.1])
    assert torch.allclose(colour.not_below_zero(made, before), torch.tensor([0.2, 0.0, -0.02, 0.1]))


def test_factors_lie_about_1_and_are_1_where_not_hit() -> None:
    draw = torch.tensor([0.0, 0.25, 0.999, 0.7])
    hit = torch.tensor([True, True, True, False])
    made = colour.factor(draw, 0.4, hit)
    assert torch.allclose(made, torch.tensor([0.6, 0.8, 1.3992, 1.0]))


def test_wrapping_is_the_cast_to_8_bits_of_published_recipes() -> None:
    counts = np.arange(256, dtype=np.uint8)
    for by in (0.625, 1.0, 1.125, 1.375):
        expected = (counts * by).astype(np.int64).astype(np.uint8)
        made = colour.wrapped(torch.from_numpy(counts).float() * by)
        assert made.tolist() == expected.tolist()
    beyond = [-3.7, -0.2, 255.9, 256.0, 300.2]
    expected = np.array(beyond).astype(np.int64).astype(np.uint8)
    assert colour.wrapped(torch.tensor(beyond)).tolist() == expected.tolist()
    assert colour.counts(torch.tensor([-0.5, 0.5, 1.7])).tolist() == [0.0, 127.0, 255.0]


def test_grey_is_the_mean_of_the_valid_bands() -> None:
    x = images()
    hit = column(1, 0, 1, 0) > 0
    valid = torch.ones_like(x, dtype=torch.bool)
    valid[0, 1, 2, 3] = False
    made = colour.greyed(x, valid, hit)
    assert torch.equal(made[1], x[1])
    assert torch.allclose(made[0, :, 2, 3], (x[0, 0, 2, 3] + x[0, 2, 2, 3]) / 2)
    assert torch.allclose(made[2], x[2].mean(dim=0).expand(3, -1, -1))
    assert torch.allclose(colour.greyed(x, None, hit)[2], made[2])


def test_solarise_turns_the_bright_and_the_legacy_one_the_dark() -> None:
    x = torch.tensor([0.1, 0.5, 0.8]).view(1, 1, 1, 3)
    hit = torch.tensor([True]).view(1, 1, 1, 1)
    assert torch.allclose(
        colour.solarised(x, 0.5, False, hit).flatten(), torch.tensor([0.1, 0.5, 0.2])
    )
    assert torch.allclose(
        colour.solarised(x, 0.5, True, hit).flatten(), torch.tensor([0.9, 0.5, 0.8])
    )
    assert torch.equal(colour.solarised(x, 0.5, True, ~hit), x)
