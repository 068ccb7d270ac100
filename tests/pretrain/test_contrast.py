"""InfoNCE: closed forms, a float64 reference, masks, queues and several positives."""

import math

import pytest
import torch
from torch import Tensor

from pretrain.losses import cosines, info_nce, normalised

TEMPERATURE = 0.2


def reference(logits: Tensor, positives: Tensor, weights: Tensor | None = None) -> list[float]:
    """Compute the cross-entropy of each row in double, number by number."""
    found = []
    for row, (line, wanted) in enumerate(zip(logits.double(), positives.double(), strict=True)):
        counts = torch.ones_like(line) if weights is None else weights[row].double()
        whole = sum(w * math.exp(x) for x, w in zip(line.tolist(), counts.tolist(), strict=True))
        shares = (wanted / wanted.sum()).tolist()
        terms = zip(line.tolist(), counts.tolist(), shares, strict=True)
        found.append(-sum(p * math.log(w * math.exp(x) / whole) for x, w, p in terms if p > 0))
    return found


def test_two_samples_in_closed_form() -> None:
    """Keys equal to orthogonal queries: log(1 + exp(-1 / T)); exchanged: log(1 + exp(1 / T))."""
    queries = torch.eye(2) * torch.tensor([[3.0], [0.1]])  # lengths do not matter
    for keys, sign in ((torch.eye(2), -1), (torch.eye(2).flip(0), 1)):
        loss = info_nce(queries, keys, temperature=TEMPERATURE, own=0)
        want = math.log1p(math.exp(sign / TEMPERATURE))
        assert loss.tolist() == pytest.approx([want, want], rel=1e-6)


def test_gradient_of_two_samples_in_closed_form() -> None:
    """Softmax minus target, over the temperature, times the keys, less what lies along the row."""
    queries = torch.eye(2, dtype=torch.float64).requires_grad_()
    info_nce(queries, torch.eye(2).double(), temperature=TEMPERATURE, own=0)[0].backward()
    wrong = 1 / (1 + math.exp(1 / TEMPERATURE))
    assert queries.grad is not None
    assert queries.grad[0].tolist() == pytest.approx([0.0, wrong / TEMPERATURE], abs=1e-12)
    assert not queries.grad[1].any()


def test_against_float64_with_several_positives_a_mask_and_a_queue() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys, queue = (torch.randn(n, 7, generator=generator) for n in (4, 5, 6))
    positives = torch.rand(4, 5, generator=generator) * (
        torch.rand(4, 5, generator=generator) > 0.4
    )
    positives[:, 1] = 0.3
    times = torch.tensor([1.0, 2.0, 0.5, 0.0, 1.0])  # a column counts so many times
    held = torch.tensor([True, True, False, True, False, True])
    found = info_nce(
        queries,
        keys,
        temperature=TEMPERATURE,
        positives=positives,
        allowed=times.log(),
        queue=queue,
        queue_allowed=held,
    )
    logits = normalised(queries.double()) @ normalised(torch.cat([keys, queue]).double()).T
    weights = torch.cat([times, held.float()]).expand(4, -1)
    positives = torch.where(times > 0, positives, 0.0)
    wanted = torch.cat([positives, torch.zeros(4, 6)], dim=1)
    assert found.dtype is torch.float32
    want = reference(logits / TEMPERATURE, wanted, weights)
    assert found.tolist() == pytest.approx(want, rel=1e-5)
    exact = info_nce(
        queries.double(), keys.double(), temperature=TEMPERATURE, positives=positives.double(),
        allowed=times.double().log(), queue=queue.double(), queue_allowed=held,
    )  # fmt: skip
    assert exact.dtype is torch.float64
    assert exact.tolist() == pytest.approx(want, rel=1e-12)


def test_a_mask_is_added_after_the_temperature() -> None:
    """Defect: a mask that is divided too (CACo): half a negative would count (1/2)^(1/T) times."""
    queries, keys = torch.eye(2), torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    half = torch.tensor([[0.0, math.log(0.5)], [0.0, 0.0]])
    loss = info_nce(queries, keys, temperature=TEMPERATURE, own=0, allowed=half)
    want = math.log(1 + 0.5 * math.exp((0.8 - 1.0) / TEMPERATURE))
    assert loss[0].item() == pytest.approx(want, rel=1e-6)


def test_rows_of_one_caption_share_the_mass() -> None:
    """Defect: identical captions of a batch are negatives of each other (CLOSP)."""
    texts = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    same = (cosines(texts, texts) > 0.99).float()
    images = texts.clone().requires_grad_()
    loss = info_nce(images, texts, temperature=TEMPERATURE, positives=same)
    apart = math.exp(-1 / TEMPERATURE)
    want = [math.log(2 + apart), math.log(2 + apart), math.log(1 + 2 * apart)]
    assert loss.tolist() == pytest.approx(want, rel=1e-5)
    alone = info_nce(images, texts, temperature=TEMPERATURE, own=0)
    assert alone[0].item() == pytest.approx(want[0], rel=1e-5)  # the two are told apart by nothing
    pulled = torch.tensor([[0.9, 0.1], [0.7, -0.3], [0.0, 1.0]])
    first, second = texts[:1], pulled[:2]
    both = info_nce(first, second, temperature=TEMPERATURE, positives=torch.ones(1, 2))
    sums = cosines(first, second)[0] / TEMPERATURE
    want_both = (sums.logsumexp(0) - sums.mean()).item()
    # float32 of numbers up to 1 / TEMPERATURE, which cancel
    assert both.item() == pytest.approx(want_both, abs=1e-6 / TEMPERATURE)


def test_a_row_without_a_positive_learns_nothing() -> None:
    queries = torch.randn(3, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    keys = torch.randn(3, 4, generator=torch.Generator().manual_seed(2)).requires_grad_()
    allowed = torch.tensor([True, False, True])
    loss = info_nce(queries, keys, temperature=0.1, own=0, allowed=allowed)
    assert loss[1] == 0
    loss.sum().backward()
    assert queries.grad is not None
    assert keys.grad is not None
    assert not queries.grad[1].any()
    assert not keys.grad[1].any()
    assert queries.grad[0].any()
    nothing = info_nce(queries, keys, temperature=0.1, own=0, allowed=torch.zeros(3).bool())
    nothing.sum().backward()
    assert not nothing.any()
    assert queries.grad.isfinite().all()


def test_a_queue_that_is_filling_gives_what_it_holds_only() -> None:
    """Defect: rows of zeros in a fresh queue are negatives at cosine 0."""
    queries, keys = torch.randn(2, 4), torch.randn(2, 4)
    queue = torch.zeros(6, 4)
    loss = info_nce(
        queries, keys, temperature=0.1, own=0, queue=queue, queue_allowed=torch.zeros(6).bool()
    )
    # sums of other lengths: float32 rounding; such a row would count exp(0) and more
    assert torch.allclose(loss, info_nce(queries, keys, temperature=0.1, own=0), atol=1e-5)


def test_own_columns_of_a_later_rank() -> None:
    queries, keys = torch.randn(2, 4), torch.randn(4, 4)
    loss = info_nce(queries, keys, temperature=0.1, own=2)
    same = info_nce(queries, keys, temperature=0.1, own=torch.tensor([2, 3]))
    first = info_nce(queries, keys[[2, 3, 0, 1]], temperature=0.1, own=0)
    assert torch.equal(loss, same)
    assert torch.allclose(loss, first, rtol=1e-5, atol=1e-6)


def test_a_learned_temperature_gets_a_gradient() -> None:
    scale = torch.tensor(2.0, requires_grad=True)
    info_nce(torch.eye(2), torch.eye(2), temperature=1 / scale.exp(), own=0).sum().backward()
    assert scale.grad is not None
    assert scale.grad < 0


def test_one_way_to_say_what_is_positive() -> None:
    rows = torch.eye(2)
    with pytest.raises(ValueError, match="own or positives"):
        info_nce(rows, rows, temperature=0.1)
    with pytest.raises(ValueError, match="own or positives"):
        info_nce(rows, rows, temperature=0.1, own=0, positives=rows)
