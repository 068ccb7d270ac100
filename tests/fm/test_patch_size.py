"""Weights at another number of pixels: FlexiViT's property, sums, timm's numbers."""

import numpy as np
import pytest
import torch

from fm.errors import UsageError
from fm.models.embed.patch_size import HOWS, resize_matrix, resized_kernel, resized_linear

PAIRS = [(12, 16), (4, 12), (8, 9), (2, 7), (5, 5), (16, 8), (12, 4), (7, 3), (16, 14)]


def image_resized(x: torch.Tensor, new: int, how: str) -> torch.Tensor:
    matrix = torch.from_numpy(resize_matrix(x.shape[-1], new, how))
    return matrix @ x @ matrix.T


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(("old", "new"), [pair for pair in PAIRS if pair[1] >= pair[0]])
def test_the_token_of_a_larger_image_is_that_of_the_original(how: str, old: int, new: int) -> None:
    generator = torch.Generator().manual_seed(0)
    w, x = (torch.randn(6, old, old, generator=generator, dtype=torch.float64) for _ in range(2))
    found = (resized_kernel(w, new, how) * image_resized(x, new, how)).sum(dim=(1, 2))
    torch.testing.assert_close(found, (w * x).sum(dim=(1, 2)), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(("old", "new"), [pair for pair in PAIRS if pair[1] < pair[0]])
def test_fewer_pixels_are_the_least_squares_answer(how: str, old: int, new: int) -> None:
    """Over white x, E (<x, w> - <B x, v>)^2 = |w - B^T v|^2, least by the normal equations."""
    w = torch.randn(old, old, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = np.kron(resize_matrix(old, new, how), resize_matrix(old, new, how))
    want = np.linalg.solve(whole @ whole.T, whole @ w.numpy().ravel())
    np.testing.assert_allclose(resized_kernel(w, new, how).ravel(), want, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_area_keeps_the_sum_of_the_weights(old: int, new: int) -> None:
    w = torch.randn(4, old, old, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(
        resized_kernel(w, new, "area").sum(dim=(1, 2)), w.sum(dim=(1, 2)), rtol=1e-10, atol=1e-10
    )


def test_area_of_whole_multiples_is_means_and_copies() -> None:
    np.testing.assert_allclose(resize_matrix(4, 2), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    np.testing.assert_allclose(resize_matrix(2, 4), [[1, 0], [1, 0], [0, 1], [0, 1]])
    np.testing.assert_allclose(resize_matrix(3, 2), np.array([[2, 1, 0], [0, 1, 2]]) / 3)
    for how in HOWS:
        for old, new in PAIRS:
            np.testing.assert_allclose(resize_matrix(old, new, how).sum(axis=1), 1, atol=1e-12)


@pytest.mark.parametrize("how", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_timm_gives_the_same(how: str, old: int, new: int) -> None:
    from timm.layers import resample_patch_embed  # after fm.models, which mends torchvision

    weight = torch.randn(5, 3, old, old, generator=torch.Generator().manual_seed(0))
    theirs = resample_patch_embed(weight, [new, new], interpolation=how, antialias=True)
    # of the largest weight, as timm's matrix is of float32
    assert (resized_kernel(weight, new, how) - theirs).abs().max() < 1e-5 * theirs.abs().max()


def test_a_layer_keeps_its_bias_and_type() -> None:
    layer = torch.nn.Linear(3 * 16, 5).to(torch.float64)
    other = resized_linear(layer, 4, 8)
    assert other.weight.shape == (5, 3 * 64)
    assert other.weight.dtype == torch.float64
    assert torch.equal(other.bias, layer.bias)
    x = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    large = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(other(large.flatten(1)), layer(x.flatten(1)))


def test_refusals() -> None:
    with pytest.raises(UsageError, match="no resize 'bilnear'; did you mean 'bilinear'"):
        resize_matrix(4, 8, "bilnear")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a token of 0 px"):
        resize_matrix(4, 0)
