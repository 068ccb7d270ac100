"""Correlations of a batch and what they are compared with."""

import pytest
import torch

from pretrain.losses import correlation, decoupled, redundancy
from pretrain.losses.barlow import EPSILON


def test_two_samples_in_closed_form() -> None:
    """Two samples have columns of +-1: every correlation is +-1, but for EPSILON."""
    a = torch.tensor([[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0]])
    found = correlation(a, a)
    signs = torch.tensor([[1.0, -1, 1], [-1, 1, -1], [1, -1, 1]])
    assert torch.allclose(found, signs / (1 + EPSILON), rtol=1e-6)
    assert redundancy(signs, off_diagonal=0.1).item() == pytest.approx(0.6)
    assert redundancy(torch.eye(3), off_diagonal=0.1).item() == 0
    assert redundancy(torch.eye(3), off_diagonal=0.1, diagonal=0.0).item() == pytest.approx(3.0)
    assert redundancy(torch.full((1, 1), 0.5), off_diagonal=0.1).item() == pytest.approx(0.25)


def test_against_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(6, 4, generator=generator) * 5 + 100 for _ in range(2))
    found = correlation(a, b)
    x, y = a.double(), b.double()
    x, y = ((z - z.mean(0)) / (z.var(0, unbiased=False) + EPSILON).sqrt() for z in (x, y))
    want = torch.zeros(4, 4, dtype=torch.float64)
    for i in range(4):
        for j in range(4):
            want[i, j] = (x[:, i] * y[:, j]).sum() / 6
    assert torch.allclose(found.double(), want, atol=1e-5)
    loss = sum(
        (1 - want[i, j]) ** 2 if i == j else 0.3 * want[i, j] ** 2
        for i in range(4)
        for j in range(4)
    )
    assert redundancy(want, off_diagonal=0.3).item() == pytest.approx(float(loss), rel=1e-12)


def test_common_dimensions_agree_and_unique_ones_do_not() -> None:
    """Defect: blocks of common against unique dimensions that count, or unique ones that agree."""
    matrix = torch.eye(5)
    matrix[3, 3] = matrix[4, 4] = 0.0
    matrix[:3, 3:], matrix[3:, :3] = 7.0, -7.0
    assert [x.item() for x in decoupled(matrix, common=3, off_diagonal=0.5)] == [0.0, 0.0]
    matrix[4, 4], matrix[3, 4], matrix[0, 0], matrix[0, 1] = 0.5, 2.0, 0.0, 3.0
    common, unique = decoupled(matrix, common=3, off_diagonal=0.5)
    assert common.item() == pytest.approx(1.0 + 0.5 * 9.0)
    assert unique.item() == pytest.approx(0.25 + 0.5 * 4.0)
    for wrong in (0, 5):
        with pytest.raises(ValueError, match="between 1 and 4"):
            decoupled(matrix, common=wrong, off_diagonal=0.5)


def test_samples_that_do_not_count_move_neither_means_nor_sums() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(5, 3, generator=generator) for _ in range(2))
    want = correlation(a[1:], b[1:])
    a[0], b[0] = float("nan"), 1e6
    weight = torch.tensor([0.0, 1.0, 0.5, 1.0, 1.0])  # what counts at all counts alike
    assert torch.allclose(correlation(a, b, weight=weight), want, atol=1e-6)
    nothing = correlation(a, b, weight=torch.zeros(5))
    assert not nothing.any()


def test_small_disturbances_beside_the_diagonal_are_not_rounded_away() -> None:
    """Defect: the sum of all squares less those of the diagonal, in float32."""
    matrix = torch.eye(512)
    matrix[0, 1] = 1e-4
    assert redundancy(matrix, off_diagonal=1.0).item() == pytest.approx(1e-8, rel=1e-5)
