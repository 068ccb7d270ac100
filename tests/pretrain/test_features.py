"""A student's features against its teacher's, in closed form and against float64."""

import math

import pytest
import torch
from torch import Tensor

from pretrain.losses import (
    cosine_distance,
    mean_of_valid,
    smooth_l1,
    squared_error,
    whitened,
)

DOUBLE = torch.float64


def drawn(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(*shape, generator=generator, dtype=DOUBLE) for _ in range(2))
    return first, 3.0 * second + 2.0


def test_closed_forms() -> None:
    student = torch.tensor([[1.0, 0.0, 4.0], [0.0, 0.0, 0.0]], dtype=DOUBLE)
    teacher = torch.tensor([[0.0, 2.0, 4.0], [3.0, 0.0, 0.0]], dtype=DOUBLE)
    assert squared_error(student, teacher).tolist() == pytest.approx([5 / 3, 3.0], rel=1e-15)
    cosine = 16 / math.sqrt(17 * 20)
    assert cosine_distance(student, teacher).tolist() == pytest.approx([1 - cosine, 1.0], rel=1e-15)
    # beta 2: differences 1 and 2 lie on the parabola's side and at its end, 3 on the line
    want = [(1 / 4 + 2 - 1 + 0) / 3, (3 - 1) / 3]
    assert smooth_l1(student, teacher, beta=2.0).tolist() == pytest.approx(want, rel=1e-15)
    assert smooth_l1(student, teacher, beta=0.5).tolist() == pytest.approx(
        [(1 - 0.25 + 2 - 0.25) / 3, (3 - 0.25) / 3], rel=1e-15
    )


def test_targets_are_whitened_over_their_channels() -> None:
    """Each vector on its own: mean 0, variance 1 over D, whatever the other tokens are.

    Defect: a normaliser over the tokens, so that what tokens have in common is not learned.
    """
    _, teacher = drawn(2, 5, 8)
    found = whitened(teacher)
    mean = teacher.mean(dim=-1, keepdim=True)
    variance = (teacher - mean).square().mean(dim=-1, keepdim=True)
    assert torch.allclose(found, (teacher - mean) / (variance + 1e-5).sqrt(), atol=1e-13)
    assert torch.allclose(found.mean(dim=-1), torch.zeros(2, 5, dtype=DOUBLE), atol=1e-13)
    assert torch.allclose(whitened(teacher[:1, :1]), found[:1, :1], atol=1e-13)
    assert not whitened(torch.zeros(1, 4)).any()
    teacher.requires_grad_()
    assert not whitened(teacher).requires_grad


@pytest.mark.parametrize("loss", [squared_error, cosine_distance, smooth_l1])
def test_gradients_and_float32_against_float64(loss) -> None:
    student, teacher = drawn(3, 4, 6)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher), (student,))
    want = loss(student, teacher)
    assert want.shape == (3, 4)
    found = loss(student.float(), teacher.float())
    assert found.dtype is torch.float32
    assert torch.allclose(found.double(), want, rtol=1e-5, atol=1e-6)


def test_a_mean_over_tokens_is_over_the_valid_ones() -> None:
    """Defect: a sum over valid tokens that is divided by all of them."""
    values = torch.tensor([[1.0, 2.0, 9.0], [5.0, 7.0, 7.0], [float("nan"), 3.0, 5.0]])
    valid = torch.tensor([[True, True, False], [False, False, False], [False, True, True]])
    assert mean_of_valid(values, valid).tolist() == [1.5, 0.0, 4.0]
    assert mean_of_valid(values[:1], None).tolist() == [4.0]
