"""Self-distillation: cross-entropy, the centre's state and Sinkhorn's shares."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pretrain.losses import Centre, distillation, sinkhorn


def alone(x: Tensor) -> Tensor:
    return x


def test_two_outputs_in_closed_form() -> None:
    student = torch.tensor([[0.3, 0.0], [0.0, 0.3]])
    targets = torch.tensor([[1.0, 0.0], [0.75, 0.25]])
    found = distillation(student, targets, temperature=0.1)
    low, high = math.log1p(math.exp(-3.0)), math.log1p(math.exp(3.0))
    assert found.tolist() == pytest.approx([low, 0.75 * high + 0.25 * low], rel=1e-5)


def test_against_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(3, 7, generator=generator) for _ in range(2))
    targets = Centre(7)(teacher, temperature=0.04)
    want = torch.softmax(teacher.double() / 0.04, dim=1)
    assert torch.allclose(targets.double(), want, atol=1e-6)
    wanted = -(want * torch.log_softmax(student.double() / 0.3, dim=1)).sum(dim=1)
    assert torch.allclose(
        distillation(student, targets, temperature=0.3).double(), wanted, rtol=1e-5, atol=1e-6
    )


def test_the_centre_is_a_running_mean_of_steps() -> None:
    """Momentum 0.9 of the mean over the samples that could be read, of all passes of a step."""
    centre = Centre(2, momentum=0.9)
    keep = torch.tensor([True, True, False])
    centre.add(torch.tensor([[1.0, 2.0], [3.0, 4.0], [float("nan"), 9.0]]), keep)
    centre.add(torch.tensor([[5.0, 0.0]]), torch.tensor([True]))
    assert not centre.centre.any()  # passes of a step all see the same
    centre.take(alone)
    assert centre.centre.tolist() == pytest.approx([0.3, 0.2])
    centre.take(alone)
    assert centre.centre.tolist() == pytest.approx([0.3, 0.2])
    centre.add(torch.tensor([[1e3, 1e3]]), torch.tensor([True]))
    centre.drop()
    centre.take(alone)
    assert centre.centre.tolist() == pytest.approx([0.3, 0.2])
    shares = centre(torch.tensor([[0.3, 0.2]]), temperature=0.04)
    assert shares.tolist() == [pytest.approx([0.5, 0.5])]
    other = Centre(2)
    other.load_state_dict(centre.state_dict())
    assert torch.equal(other.centre, centre.centre)


def test_the_centre_is_that_of_all_ranks() -> None:
    """Defect: the mean of one rank, or the mean of means of unequal numbers."""
    centre = Centre(1, momentum=0.0)
    centre.add(torch.tensor([[1.0], [2.0]]), torch.tensor([True, True]))
    others = torch.tensor([[6.0, 1.0]])  # one sample of another rank: its sum and number

    def gather(x: Tensor) -> Tensor:
        return torch.cat([x, others])

    centre.take(gather)
    assert centre.centre.tolist() == [3.0]


def test_sinkhorn_of_two_samples_in_closed_form() -> None:
    """[[a, b], [c, d]] becomes doubly stochastic with sqrt(ad) : sqrt(bc) in each row."""
    logits = torch.tensor([[2.0, 0.5], [1.0, 0.7]])
    a, b, c, d = torch.exp(logits / 0.5).flatten().tolist()
    share = math.sqrt(a * d) / (math.sqrt(a * d) + math.sqrt(b * c))
    found = sinkhorn(logits, temperature=0.5, iterations=50)
    want = torch.tensor([[share, 1 - share], [1 - share, share]])
    assert torch.allclose(found, want, atol=1e-6)


def test_sinkhorn_of_three_rounds_in_float64() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(2))
    made = torch.exp(logits.double() / 0.1)
    for _ in range(3):
        made = made / made.sum(dim=0)
        made = made / made.sum(dim=1, keepdim=True)
    assert torch.allclose(sinkhorn(logits, temperature=0.1).double(), made, atol=1e-6)
    high = sinkhorn(logits + 400.0, temperature=0.1)  # exp(4000) is no float
    assert torch.allclose(high.double(), made, atol=1e-3)


def test_sinkhorn_spreads_and_leaves_out_what_could_not_be_read() -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(3))
    logits[:, 0] += 5.0  # all would choose output 0
    keep = torch.tensor([True] * 5 + [False])
    found = sinkhorn(logits, temperature=0.5, keep=keep, iterations=100)
    assert found[:5].sum(dim=0).tolist() == pytest.approx([5 / 3] * 3, rel=1e-3)
    assert found[:5].sum(dim=1).tolist() == pytest.approx([1.0] * 5)
    assert not found[5].any()
    assert torch.allclose(found[:5], sinkhorn(logits[:5], temperature=0.5, iterations=100))
    nothing = sinkhorn(logits, temperature=0.5, keep=torch.zeros(6).bool())
    assert not nothing.any()
    assert sinkhorn(logits[:0], temperature=0.5).shape == (0, 3)  # a rank may have read none


@pytest.mark.parametrize("make", [lambda x: Centre(3)(x, temperature=0.1),
                                  lambda x: sinkhorn(x, temperature=0.1)])  # fmt: skip
def test_the_teacher_is_told_nothing(make: Callable[[Tensor], Tensor]) -> None:
    """Defect: a gradient through the targets, with which both agree on anything."""
    teacher = torch.randn(4, 3, requires_grad=True)
    assert not make(teacher).requires_grad
    student = torch.randn(4, 3, requires_grad=True)
    distillation(student, torch.softmax(teacher, dim=1), temperature=0.1).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None
