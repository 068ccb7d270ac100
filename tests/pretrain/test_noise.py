"""Noise: moments of what is drawn, against what is documented."""

import math

import torch

from fm.rng import CounterRng
from pretrain.augment import noise

COUNT = 20_000


def rng(count: int = 1) -> CounterRng:
    return CounterRng(11, torch.zeros(count, dtype=torch.int64), torch.arange(count))


def test_normal_numbers_have_the_moments_of_a_normal_distribution() -> None:
    z = noise.normal(rng(), "z", COUNT).double()
    error = 1 / math.sqrt(COUNT)
    assert abs(z.mean()) < 4 * error
    assert abs((z**2).mean() - 1) < 4 * math.sqrt(2) * error
    assert abs((z**3).mean()) < 4 * math.sqrt(15) * error
    assert abs((z**4).mean() - 3) < 4 * math.sqrt(96) * error


def test_speckle_multiplies_power_by_a_gamma_draw() -> None:
    hit = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    draw = noise.normal(rng(), "z", COUNT).view(1, 1, 1, -1)
    for looks in (4.0, 16.0):
        made = noise.speckled(torch.full_like(draw, -12.0), looks, draw, hit)
        power = 10 ** ((made.double() + 12.0) / 10)
        assert abs(power.mean() - 1) < 4 / math.sqrt(looks * COUNT)
        assert abs(power.var() * looks - 1) < 0.1
        # mean of the logarithm of a gamma draw
        expected = 10 / math.log(10) * (torch.digamma(torch.tensor(looks)) - math.log(looks))
        assert abs(made.double().mean() + 12.0 - expected) < 0.03
    assert torch.equal(noise.speckled(made, 4.0, draw, ~hit), made)


def test_detector_noise_is_a_share_of_the_bands_mean_and_drift_one_factor_a_band() -> None:
    x = torch.ones(2, 3, 60, 60) * torch.tensor([0.1, 0.2, 0.4])[:, None, None]
    hit = torch.tensor([True, False]).view(2, 1, 1, 1)
    means = x.mean(dim=(2, 3), keepdim=True)
    made = noise.noisy(x, means, 0.01, noise.normal_like(rng(2), "n", x), hit)
    assert torch.equal(made[1], x[1])
    spread = (made - x)[0].std(dim=(1, 2)) / torch.tensor([0.1, 0.2, 0.4])
    assert ((spread - 0.01).abs() < 0.01 * 0.05).all()
    gain = noise.normal(rng(2), "g", 3).view(2, 3, 1, 1)
    drifted = noise.drifted(x, 0.02, gain, hit)[0] / x[0]
    assert torch.allclose(drifted, (1 + 0.02 * gain[0]).expand(3, 60, 60))
    assert drifted[:, 0, 0].unique().numel() == 3


def test_many_channels_are_drawn_in_parts_that_differ() -> None:
    z = noise.normal_like(rng(2), "n", torch.zeros(2, 40, 2, 3))
    assert z.shape == (2, 40, 2, 3)
    assert z.flatten().unique().numel() == z.numel()
