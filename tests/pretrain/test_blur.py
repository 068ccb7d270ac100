"""Blur against a direct convolution in float64."""

import numpy as np
import pytest
import torch

from pretrain.augment.blur import blurred, by_axes, by_convolution, kernels


def direct(image: np.ndarray, mask: np.ndarray, sigma: float, radius: int) -> np.ndarray:
    """Convolve one band with a two-dimensional Gaussian, borders mirrored, by its definition."""
    at = np.arange(-radius, radius + 1)
    weight = np.exp(-(at[:, None] ** 2 + at[None, :] ** 2) / (2 * sigma**2))
    weight /= weight.sum()
    filled = np.pad(np.where(mask, image, 0.0), radius, mode="reflect")
    share = np.pad(mask.astype(np.float64), radius, mode="reflect")
    made = np.zeros_like(image)
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            place = (slice(i, i + 2 * radius + 1), slice(j, j + 2 * radius + 1))
            made[i, j] = (weight * filled[place]).sum() / (weight * share[place]).sum()
    return np.where(mask, made, 0.0)


def test_each_sample_is_convolved_with_its_own_gaussian_over_valid_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, 2, 14, 11, generator=generator)
    valid = torch.rand(4, 2, 14, 11, generator=generator) > 0.2
    x = torch.where(valid, x, 0.0)
    sigma = torch.tensor([0.4, 1.0, 1.5, 0.1])
    hit = torch.tensor([True, False, True, True])
    made = blurred(x, valid, sigma, 1.5, hit)
    for b in range(4):
        for c in range(2):
            if not hit[b]:
                assert torch.equal(made[b, c], x[b, c])
                continue
            mask = valid[b, c].numpy()
            expected = direct(x[b, c].double().numpy(), mask, sigma[b].item(), 5)
            assert np.abs(made[b, c].numpy() - expected).max() < 1e-6
    everything = torch.ones_like(valid)
    assert torch.allclose(
        blurred(x, None, sigma, 1.5, hit), blurred(x, everything, sigma, 1.5, hit), atol=1e-6
    )


def test_a_plain_image_stays_plain_and_small_images_are_blurred_too() -> None:
    hit = torch.ones(1, dtype=torch.bool)
    plain = torch.full((1, 1, 6, 6), 0.3)
    assert torch.allclose(blurred(plain, None, torch.tensor([2.0]), 2.0, hit), plain)
    small = torch.rand(1, 1, 2, 1)
    made = blurred(small, None, torch.tensor([2.0]), 2.0, hit)
    assert made.shape == small.shape
    assert made.std() < small.std()
    assert kernels(torch.tensor([0.5]), 2.0).shape == (1, 13)


def test_neither_batch_mates_nor_their_blur_change_a_sample() -> None:
    x = torch.rand(5, 3, 12, 12)
    sigma = torch.linspace(0.3, 1.8, 5)
    hit = torch.tensor([True, False, True, True, False])
    whole = blurred(x, None, sigma, 2.0, hit)
    for i in range(5):
        row = slice(i, i + 1)
        assert torch.equal(blurred(x[row], None, sigma[row], 2.0, hit[row]), whole[row])


@pytest.mark.parametrize("shape", [(14, 11), (5, 30), (2, 1)])
def test_by_axes_and_by_convolution_are_the_definition(shape: tuple[int, int]) -> None:
    """Of images larger than the kernel, narrower, and of a single column."""
    x = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(3))
    taps = kernels(torch.tensor([0.7, 1.9]), 1.9)
    whole = by_convolution(x, taps)
    for image, kernel, made in zip(x, taps, whole, strict=True):
        want = image.double()
        for axis, length in enumerate(shape, start=1):
            reach = min(len(kernel) // 2, length - 1)
            kept = kernel.double()[len(kernel) // 2 - reach : len(kernel) // 2 + reach + 1]
            mirrored = np.pad(
                want.numpy(),
                [(reach, reach) if i == axis else (0, 0) for i in range(3)],
                mode="reflect",
            )
            want = torch.from_numpy(
                np.apply_along_axis(np.convolve, axis, mirrored, kept / kept.sum(), "valid")
            )
        assert (made - want).abs().max() < 1e-6
        assert (by_axes(image, kernel) - want).abs().max() < 1e-6
