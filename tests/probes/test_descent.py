import numpy as np
import pytest
import torch

from probes.families.descent import AdamW, Best, Goal, Sgd, stream
from tests.probes import vectors


@pytest.mark.parametrize(("count", "size"), [(10, 4), (3, 8), (311_667, 256)])
def test_every_sample_comes_once_a_pass(count, size):
    """The BigEarthNet training split of SSL4EO-S12 has 311 667 samples, not a round number."""
    steps = -(-2 * count // min(size, count))
    seen = np.concatenate(list(stream(count, size, steps, seed=1)))
    assert np.array_equal(np.sort(seen[:count]), np.arange(count))
    assert np.array_equal(np.sort(seen[count : 2 * count]), np.arange(count))
    assert not np.array_equal(seen[:count], seen[count : 2 * count])


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_heads_side_by_side_are_torchs_optimiser_one_by_one(kind):
    torch.manual_seed(0)
    x, y = torch.randn(20, 5), torch.randint(0, 3, (20,))
    rates = [0.3, 0.01]
    weight, bias = torch.randn(2, 3, 5), torch.randn(2, 3)
    alone = []
    for head, rate in enumerate(rates):
        w, b = (torch.nn.Parameter(p[head].clone()) for p in (weight, bias))
        if kind == "sgd":
            optimizer = torch.optim.SGD([w, b], lr=rate, momentum=0.9, weight_decay=0.02)
        else:
            groups = [{"params": [w], "weight_decay": 0.02}, {"params": [b], "weight_decay": 0.0}]
            optimizer = torch.optim.AdamW(groups, lr=rate)
        for _ in range(15):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(x @ w.T + b, y).backward()
            optimizer.step()
        alone.append((w, b))
    goal = Goal.of("class", vectors.data(y.numpy(), ["train"] * 20), np.arange(20))
    together = [p.clone().requires_grad_() for p in (weight, bias)]
    ours = Sgd(together, 0.9, 0.02) if kind == "sgd" else AdamW(together, 0.02)
    for _ in range(15):
        scores = torch.einsum("nd,hkd->hnk", x, together[0]) + together[1][:, None]
        loss = goal.loss(scores, torch.arange(20))
        ours.step(torch.autograd.grad(loss.sum(), together), torch.tensor(rates))
    for head, (w, b) in enumerate(alone):
        torch.testing.assert_close(together[0][head], w.data, atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(together[1][head], b.data, atol=2e-6, rtol=1e-5)


def test_losses_are_torchs():
    torch.manual_seed(1)
    scores, rows = torch.randn(2, 6, 4), torch.arange(6)
    split = ["train"] * 6
    y = np.array([0, 3, 2, 1, 0, 2])
    found = Goal.of("class", vectors.data(y, split), rows.numpy()).loss(scores, rows)
    labels = np.random.default_rng(0).random((6, 4)) < 0.4
    many = Goal.of("multilabel", vectors.data(labels, split), rows.numpy()).loss(scores, rows)
    for head in range(2):
        want = torch.nn.functional.cross_entropy(scores[head], torch.from_numpy(y))
        torch.testing.assert_close(found[head], want)
        want = torch.nn.MultiLabelSoftMarginLoss()(scores[head], torch.from_numpy(labels).float())
        torch.testing.assert_close(many[head], want)


def test_a_regression_learns_known_targets_in_units_of_the_training_set():
    y = np.random.default_rng(0).normal([10.0, -3.0], [4.0, 0.1], (9, 2))
    y[2, 0] = np.nan
    data = vectors.data(y, ["train"] * 6 + ["val"] * 3)
    goal = Goal.of("regression", data, np.arange(6))
    standard = (y - np.nanmean(y[:6], 0)) / np.nanstd(y[:6], 0)
    np.testing.assert_allclose(goal.targets.numpy(), standard, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(goal.predictions(torch.from_numpy(standard)), y)
    scores, rows = torch.randn(1, 6, 2), torch.arange(6)
    errors = (scores[0].numpy() - standard[:6]) ** 2
    np.testing.assert_allclose(goal.loss(scores, rows).item(), np.nanmean(errors), rtol=1e-5)


def test_the_best_weights_are_kept_and_not_the_last():
    best = Best(patience=2)
    for score in (0.1, 0.5, 0.5, 0.4, 0.9):
        best.offer(score, [torch.tensor([score])])
    assert not best.alive
    assert (best.score, best.at, best.seen) == (0.5, 2, 4)
    assert best.state[0].item() == pytest.approx(0.5)
    lost = Best(patience=2)
    lost.offer(np.nan, [torch.zeros(1)])
    assert lost.state is None
