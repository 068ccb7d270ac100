"""Contrast in subspaces: what each is compared with, in closed form and against float64."""

import math

import pytest
import torch
from torch import Tensor

from pretrain.losses import normalised, subspace_contrast

T = 0.1


def made(count: int, views: int, seed: int = 0) -> tuple[list[Tensor], list[list[Tensor]]]:
    """Make queries and keys of as many subspaces as views."""
    g = torch.Generator().manual_seed(seed)
    queries = [torch.randn(count, 5, generator=g) for _ in range(views)]
    return queries, [[torch.randn(count, 5, generator=g) for _ in range(views)] for _ in queries]


def reference(queries: list[Tensor], keys: list[list[Tensor]], queues: list[Tensor]) -> Tensor:
    """SeCo's loss in double, row by row."""
    found = torch.zeros(len(queries[0]), len(queries), dtype=torch.float64)
    for s, query in enumerate(queries):
        for row, x in enumerate(normalised(query.double())):
            positive = normalised(keys[s][s].double())[row] @ x
            negatives = [*(normalised(queues[s].double()) @ x)]
            if s > 0:
                for v, view in enumerate(keys[s]):
                    if v != s:
                        negatives += [*(normalised(view.double()) @ x)]
            logits = torch.stack([positive, *negatives]) / T
            found[row, s] = logits.logsumexp(0) - logits[0]
    return found


def test_two_samples_in_closed_form() -> None:
    """One query, all keys of one view equal: log(1 + queue + others) at cosines 1, 0 and 0."""
    x = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    away = torch.tensor([[0.0, 0.0, 1.0]] * 2)
    far = math.exp(-1 / T)
    found = subspace_contrast(
        [x, x], [[x, away], [away, x]], temperature=T, own=0, queues=[away] * 2
    )
    want = [math.log(1 + 2 * far), math.log(1 + 4 * far)]
    # float32 knows 1 + x to 1e-7
    assert found.tolist() == [pytest.approx(want, rel=1e-3, abs=3e-7)] * 2


def test_against_float64() -> None:
    queries, keys = made(4, 3)
    queues = [torch.randn(6, 5, generator=torch.Generator().manual_seed(s)) for s in range(3)]
    found = subspace_contrast(queries, keys, temperature=T, own=0, queues=queues)
    assert torch.allclose(found.double(), reference(queries, keys, queues), rtol=1e-5)


def test_other_views_are_negatives_of_all_samples_and_in_the_later_subspaces_only() -> None:
    """Defect: the extra negatives of the own sample only, or in the subspace invariant to all."""
    queries, keys = made(3, 3)
    before = subspace_contrast(queries, keys, temperature=T, own=0)
    assert torch.allclose(before[:, 0], torch.zeros(3), atol=1e-6)  # nothing to be told from
    keys[1][2] = keys[1][2].clone()
    keys[1][2][2] = queries[1][0]  # the other sample's other view looks like this query
    after = subspace_contrast(queries, keys, temperature=T, own=0)
    assert (after - before)[0, 1] > 0.5
    assert torch.equal(after[:, [0, 2]], before[:, [0, 2]])
    keys[1][1] = keys[1][1].clone()
    keys[1][1][2] = queries[1][0]  # other samples' keys of the own view are not looked at
    assert torch.equal(subspace_contrast(queries, keys, temperature=T, own=0)[0], after[0])


def test_keys_years_apart_repel_in_every_subspace_where_they_are_allowed() -> None:
    """Defect: CACo's mask before the temperature, or in one subspace, or on all places."""
    queries, keys = made(2, 3)
    others = [torch.randn(2, 5, generator=torch.Generator().manual_seed(s)) for s in range(3)]
    without = subspace_contrast(queries, keys, temperature=T, own=0)
    changed = torch.tensor([True, False])  # the first place has changed
    allowed = changed[:, None] | ~torch.eye(2, dtype=torch.bool)
    found = subspace_contrast(
        queries, keys, temperature=T, own=0, others=others, others_allowed=allowed
    )
    for s in range(3):
        for row in range(2):
            q = normalised(queries[s].double())[row]
            all_others = normalised(others[s].double()) @ q / T
            own = normalised(keys[s][s].double())[row] @ q / T
            total = torch.exp(without[row, s].double() + own)
            total = total + all_others.exp()[allowed[row]].sum()
            assert found[row, s].item() == pytest.approx((total.log() - own).item(), rel=1e-4)
    softer = torch.where(allowed, math.log(0.5), float("-inf"))
    halved = subspace_contrast(
        queries, keys, temperature=T, own=0, others=others, others_allowed=softer
    )
    gain = (found.double().exp() - without.double().exp()).tolist()
    half = (halved.double().exp() - without.double().exp()).tolist()
    for whole_row, half_row in zip(gain, half, strict=True):
        assert half_row == pytest.approx([x / 2 for x in whole_row], rel=1e-3, abs=1e-4)


def test_a_place_with_a_key_of_the_other_era_alone_still_repels() -> None:
    queries, keys = made(2, 3)
    others = [torch.randn(2, 5, generator=torch.Generator().manual_seed(s)) for s in range(3)]
    here = torch.tensor([True, False])  # the second place has no key of this era
    allowed = torch.tensor([[False, True], [True, False]])
    without = subspace_contrast(queries, keys, temperature=T, own=0, readable=here)
    found = subspace_contrast(
        queries, keys, temperature=T, own=0, readable=here, others=others, others_allowed=allowed
    )
    for s in range(3):
        q = normalised(queries[s][0].double())
        gap = (normalised(others[s][1].double()) - normalised(keys[s][s][0].double())) @ q / T
        wanted = without[0, s].double().exp() + gap.exp()
        assert found[0, s].exp().item() == pytest.approx(wanted.item(), rel=1e-4)


def test_rows_of_a_later_rank_and_samples_that_could_not_be_read() -> None:
    queries, keys = made(4, 2)
    readable = torch.tensor([True, False, True, True])
    whole = subspace_contrast(queries, keys, temperature=T, own=0, readable=readable)
    late = subspace_contrast(
        [q[2:] for q in queries], keys, temperature=T, own=2, readable=readable
    )
    assert torch.allclose(late, whole[2:], rtol=1e-5)  # products of other shapes
    assert not whole[1].any()
    kept = [0, 2, 3]
    alone = subspace_contrast(
        [q[kept] for q in queries], [[x[kept] for x in views] for views in keys],
        temperature=T, own=0,
    )  # fmt: skip
    assert torch.allclose(whole[kept], alone, rtol=1e-5)


def test_a_queue_of_each_row() -> None:
    """CACo: the queries of each era see half of the queue's columns."""
    queries, keys = made(2, 2)
    queue = torch.randn(4, 5, generator=torch.Generator().manual_seed(9))
    halves = torch.tensor([[True, False, True, False], [False, True, False, True]])
    found = subspace_contrast(
        queries, keys, temperature=T, own=0, queues=[queue] * 2, queue_allowed=[halves] * 2
    )
    for row in range(2):
        want = reference(queries, keys, [queue[halves[row]]] * 2)
        assert torch.allclose(found[row].double(), want[row], rtol=1e-5)
