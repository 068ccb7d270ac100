"""The soft term of SoftCon: closed forms, unlabelled images, reductions, the floor."""

import math

import pytest
import torch

from pretrain.losses import cosines, label_similarity, pairwise_sigmoid, soft_bce

TEMPERATURE = 0.2


def entropy(p: float) -> float:
    return -sum(x * math.log(x) for x in (p, 1 - p) if x > 0)


def test_similarity_of_label_sets() -> None:
    sets = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 1]])
    found, known = label_similarity(sets, sets)
    half, root = 0.5, 1 / math.sqrt(2)
    want = torch.tensor([[1, root, 0], [root, 1, half], [0, half, 1]])
    assert torch.allclose(found, want, atol=1e-6)
    assert known.all()
    assert found.max() <= 1


def test_images_without_labels_are_not_known_and_divide_nothing() -> None:
    """Defect: an empty label list has length 0, and its cosine is not a number."""
    labels = torch.tensor([[0.0, 0, 0], [1, 1, 0], [float("nan")] * 3, [0, 1, 0]])
    found, known = label_similarity(labels, labels)
    assert found.isfinite().all()
    assert known.tolist() == [[False] * 4, [False, True, False, True]] * 2
    rows = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    keys = torch.randn(4, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
    result = soft_bce(cosines(rows, keys), found, known, temperature=TEMPERATURE)
    assert result.rows.tolist() == [False, True, False, True]
    assert result.loss[[0, 2]].tolist() == result.floor[[0, 2]].tolist() == [0.0, 0.0]
    result.loss.sum().backward()
    for x in (rows.grad, keys.grad):
        assert x is not None
        assert not x[[0, 2]].any()
        assert x[[1, 3]].abs().sum(dim=1).min() > 0
    only = [1, 3]
    alone, everything = label_similarity(labels[only], labels[only])
    want = soft_bce(cosines(rows[only], keys[only]), alone, everything, temperature=TEMPERATURE)
    assert torch.allclose(result.loss[only], want.loss)


def test_two_samples_in_closed_form() -> None:
    """Orthogonal embeddings, labels (1, 0) and (1, 1): cosines 1 and 0 against 1 and 0.7."""
    target, _ = label_similarity(torch.tensor([[1.0, 0], [1, 1]]), torch.tensor([[1.0, 0], [1, 1]]))
    cosine = torch.eye(2)
    known = torch.ones(2, 2, dtype=torch.bool)
    own, other = math.log1p(math.exp(-1 / TEMPERATURE)), math.log(2.0)
    floor = entropy(1 / math.sqrt(2))
    for reduction, factor in (("mean", 0.5), ("row", 1.0), ("sum", 2.0)):
        found = soft_bce(
            cosine, target, known, temperature=TEMPERATURE, reduction=reduction, total_rows=2
        )
        assert found.loss.tolist() == pytest.approx([factor * (own + other)] * 2, rel=1e-5)
        assert found.floor.tolist() == pytest.approx([factor * floor] * 2, rel=1e-5)


def test_disjoint_labels_are_the_sigmoid_loss_of_pairs() -> None:
    rows, keys = torch.randn(5, 6), torch.randn(5, 6)
    targets, known = label_similarity(torch.eye(5), torch.eye(5))
    found = soft_bce(
        cosines(rows, keys), targets, known, temperature=0.1, bias=-1.0, reduction="row"
    )
    want = pairwise_sigmoid(rows, keys, temperature=0.1, bias=-1.0, own=0)
    assert torch.allclose(found.loss, want, rtol=1e-6)
    assert not found.floor.any()


def test_against_float64() -> None:
    generator = torch.Generator().manual_seed(3)
    cosine = torch.rand(4, 6, generator=generator) * 2 - 1
    target = torch.rand(4, 6, generator=generator)
    known = torch.rand(4, 6, generator=generator) > 0.3
    known[2] = False
    found = soft_bce(cosine, target, known, temperature=0.1, bias=0.3)
    for row in range(4):
        terms, floors = [], []
        for x, y, counts in zip(cosine[row], target[row], known[row], strict=True):
            p = 1 / (1 + math.exp(-(x.item() / 0.1 + 0.3)))
            if counts:
                terms.append(-y.item() * math.log(p) - (1 - y.item()) * math.log(1 - p))
                floors.append(entropy(y.item()))
        want = sum(terms) / max(len(terms), 1), sum(floors) / max(len(floors), 1)
        assert found.loss[row].item() == pytest.approx(want[0], rel=1e-4)
        assert found.floor[row].item() == pytest.approx(want[1], rel=1e-5)


def test_the_floor_is_reached_by_the_right_logits_and_by_no_others() -> None:
    targets = torch.tensor([[0.2, 0.5, 0.9, 0.0]])
    known = torch.ones(1, 4, dtype=torch.bool)
    right = torch.logit(targets, eps=1e-7)
    found = soft_bce(right, targets, known)
    assert (found.loss - found.floor).item() == pytest.approx(0.0, abs=1e-6)
    other = soft_bce(right + 0.5, targets, known)
    assert (other.loss - other.floor).item() > 0.01


def test_the_default_is_small_beside_the_instance_loss() -> None:
    """Defect: the double sum as it is, 3,000 times the instance loss at 256 samples."""
    generator = torch.Generator().manual_seed(5)
    rows, keys = (torch.randn(256, 128, generator=generator) for _ in range(2))
    often = torch.tensor([0.3, 0.6, 0.5, 0.1, 0.4, 0.5, 0.2, 0.2, 0.02])
    labels = (torch.rand(256, 9, generator=generator) < often).float()
    labels[:, 1] = torch.where(labels.sum(dim=1) == 0, 1.0, labels[:, 1])
    targets, known = label_similarity(labels, labels)
    pairs = {"cosines": cosines(rows, keys), "targets": targets, "known": known}
    mean = soft_bce(**pairs, temperature=TEMPERATURE).loss.mean().item()
    row = soft_bce(**pairs, temperature=TEMPERATURE, reduction="row").loss.mean().item()
    whole = soft_bce(**pairs, temperature=TEMPERATURE, reduction="sum", total_rows=256)
    assert 0.4 < mean < 1.0
    assert row == pytest.approx(256 * mean, rel=1e-5)
    assert whole.loss.mean().item() == pytest.approx(256**2 * mean, rel=1e-5)
    with pytest.raises(ValueError, match="total_rows"):
        soft_bce(**pairs, reduction="sum")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_logits_far_out_keep_a_finite_loss_and_a_gradient(dtype: torch.dtype) -> None:
    """Defect: sigmoid, then log: at cosine -1 and a small temperature 1 - sigmoid is 1, log 0."""
    cosine = torch.tensor([[-1.0, 1.0]], dtype=dtype).requires_grad_()
    targets = torch.tensor([[1.0, 0.0]], dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = soft_bce(cosine, targets, torch.ones(1, 2).bool(), temperature=0.005)
    assert found.loss.item() == pytest.approx(200.0, rel=1e-6)
    found.loss.sum().backward()
    assert cosine.grad is not None
    assert cosine.grad[0].tolist() == pytest.approx([-100.0, 100.0])
