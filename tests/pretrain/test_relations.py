"""Relational distillation against the paper's sums, written out."""

from itertools import combinations, permutations

import pytest
import torch
from torch import Tensor

from pretrain.losses import angle_relations, distance_relations

DOUBLE = torch.float64


def huber(x: float) -> float:
    return 0.5 * x * x if abs(x) <= 1 else abs(x) - 0.5


def drawn(count: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(count, 3, generator=generator, dtype=DOUBLE)
    return student, 40.0 * torch.randn(count, 7, generator=generator, dtype=DOUBLE).exp()


def everyone(x: Tensor) -> dict[str, Tensor]:
    return {"rows": torch.arange(len(x)), "counted": torch.ones(len(x), dtype=torch.bool)}


def test_distances_are_the_papers() -> None:
    """Equations 4 to 7, with the mean over the pairs of different samples."""
    student, teacher = drawn()
    scaled = []
    for x in (student, teacher):
        far = {frozenset(p): float((x[p[0]] - x[p[1]]).norm()) for p in combinations(range(5), 2)}
        mean = sum(far.values()) / len(far)
        scaled.append({pair: value / mean for pair, value in far.items()})
    want = [
        sum(huber(scaled[0][frozenset((i, j))] - scaled[1][frozenset((i, j))]) for j in rest) / 4
        for i in range(5)
        for rest in [[j for j in range(5) if j != i]]
    ]
    found = distance_relations(student, teacher, **everyone(student))
    assert found.tolist() == pytest.approx(want, rel=1e-12)


def test_angles_are_the_papers() -> None:
    """Equations 8 to 10, with the mean over the triplets of different samples."""
    student, teacher = drawn()

    def cosine(x: Tensor, i: int, j: int, k: int) -> float:
        a, b = x[i] - x[j], x[k] - x[j]
        return float(a @ b / (a.norm() * b.norm()))

    want = [0.0] * 5
    for i, j, k in permutations(range(5), 3):
        want[j] += huber(cosine(student, i, j, k) - cosine(teacher, i, j, k)) / 12
    found = angle_relations(student, teacher, **everyone(student))
    assert found.tolist() == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("loss", [distance_relations, angle_relations])
def test_what_only_scales_turns_and_moves_is_no_difference(loss) -> None:
    student, _ = drawn()
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=DOUBLE))
    moved = 7.0 * student @ turn + 2.0
    assert loss(student, moved, **everyone(student)).abs().max() < 1e-14


@pytest.mark.parametrize("loss", [distance_relations, angle_relations])
def test_samples_that_do_not_count_are_in_no_relation(loss) -> None:
    student, teacher = drawn(7)
    student.requires_grad_()
    counted = torch.ones(7, dtype=torch.bool)
    counted[[1, 6]] = False
    found = loss(student, teacher, rows=torch.arange(7), counted=counted)
    alone = loss(student[counted], teacher[counted], **everyone(teacher[counted]))
    assert torch.allclose(found[counted], alone, atol=1e-14)
    assert not found[~counted].any()
    found.sum().backward()
    assert student.grad is not None
    assert not student.grad[~counted].any()
    some = loss(student, teacher, rows=torch.tensor([4, 2]), counted=counted)
    assert torch.allclose(some, found[[4, 2]], atol=1e-14)


@pytest.mark.parametrize("loss", [distance_relations, angle_relations])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_samples_that_are_alike_and_batches_that_are_small_have_gradients(loss, count) -> None:
    """Defect: the square root's slope at a distance of 0, or a mean over nothing."""
    student = torch.ones(count, 3, requires_grad=True)
    teacher = torch.arange(4.0 * count).reshape(count, 4).square()
    loss(student, teacher, **everyone(student)).sum().backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("loss", [distance_relations, angle_relations])
def test_gradients(loss) -> None:
    student, teacher = drawn()
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher, **everyone(x)), (student,))
