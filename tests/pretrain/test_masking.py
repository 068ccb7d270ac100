"""Token masks: exact in number, disjoint, and a function of the sample alone."""

import pytest
import torch

from fm.errors import UsageError
from fm.rng import CounterRng
from pretrain.masking import counts, draw, kept_count, spread, take

GRIDS = {"g0": (12, 12), "g1": (12, 12), "g2": (6, 6)}
KINDS = ["group", "flat", "consistent"]


def rng(count: int, start: int = 0) -> CounterRng:
    return CounterRng(3, torch.zeros(count, dtype=torch.int64), torch.arange(start, start + count))


@pytest.mark.parametrize(
    ("tokens", "ratio", "kept"),
    [(64, 0.75, 16), (432, 0.75, 108), (1024, 0.9, 102), (1, 0.75, 1), (2, 0.99, 1), (4, 0.1, 3)],
)
def test_kept_count(tokens: int, ratio: float, kept: int) -> None:
    assert kept_count(tokens, ratio) == kept


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_is_seen_or_predicted_once(kind: str) -> None:
    masks = draw(GRIDS, rng(5), kind, 0.75, 1.0)
    kept, counted = masks.kept(), masks.counted()
    for b in range(5):
        total = 0
        for name, (rows, columns) in GRIDS.items():
            seen = masks.keep[name][b][kept[name][b]].tolist()
            hidden = masks.predict[name][b][counted[name][b]].tolist()
            assert sorted(seen + hidden) == list(range(rows * columns))
            total += len(seen)
            if kind != "flat":
                assert len(seen) == rows * columns / 4
        assert total == 81


def test_a_part_of_the_hidden_tokens_is_asked_for() -> None:
    for kind in KINDS:
        masks = draw(GRIDS, rng(3), kind, 0.75, 1 / 3)
        asked = torch.cat(list(masks.counted().values()), dim=1).sum(dim=1)
        assert asked.tolist() == [81] * 3
        nominal = counts(GRIDS, kind, 0.75, 1 / 3)
        assert sum(nominal.values()) == pytest.approx(81)
        assert [nominal[name] for name in GRIDS] == pytest.approx([36, 36, 9])


def test_flat_shares_one_budget_between_groups() -> None:
    """The share of a group differs by sample; over many samples it is the ratio."""
    kept = draw(GRIDS, rng(400), "flat", 0.75, 1.0).kept()
    for name, (rows, columns) in GRIDS.items():
        numbers = kept[name].sum(dim=1).double()
        assert numbers.std() > 1
        # hypergeometric: mean N/4, variance of one draw below N * 3/16
        error = (rows * columns * 3 / 16 / 400) ** 0.5
        assert abs(numbers.mean() - rows * columns / 4) < 4 * error


def test_flat_is_the_smallest_of_one_noise_over_all_tokens() -> None:
    masks = draw(GRIDS, rng(4), "flat", 0.75, 1.0)
    order = rng(4).permutation("mask:flat", 324)
    starts = {"g0": 0, "g1": 144, "g2": 288}
    every = torch.cat([masks.keep[n] + s for n, s in starts.items()], dim=1)
    seen = take(every, masks.seen)
    assert torch.equal(seen.sort(dim=1).values, order[:, :81].sort(dim=1).values)


def test_consistent_groups_of_one_grid_are_masked_alike() -> None:
    masks = draw(GRIDS, rng(4), "consistent", 0.75, 1.0)
    assert torch.equal(masks.keep["g0"], masks.keep["g1"])
    alone = draw(GRIDS, rng(4), "group", 0.75, 1.0)
    assert not torch.equal(alone.keep["g0"], alone.keep["g1"])


@pytest.mark.parametrize("kind", KINDS)
def test_masks_do_not_depend_on_the_batch(kind: str) -> None:
    whole = draw(GRIDS, rng(6), kind, 0.75, 0.5)
    torch.manual_seed(99)
    part = draw(GRIDS, rng(2, start=3), kind, 0.75, 0.5)
    for name in GRIDS:
        assert torch.equal(whole.keep[name][3:5], part.keep[name])
        assert torch.equal(whole.predict[name][3:5], part.predict[name])
    if kind == "flat":
        assert torch.equal(whole.seen[3:5], part.seen)
        assert torch.equal(whole.asked[3:5], part.asked)


def test_spread_undoes_take() -> None:
    x = torch.randn(2, 5, 3)
    index = torch.tensor([[4, 0], [1, 2]])
    back = spread(take(x, index), index, 5)
    for b in range(2):
        assert torch.equal(back[b, index[b]], x[b, index[b]])
    assert (back != 0).any(dim=2).sum().item() == 4


def test_one_token_leaves_nothing_to_predict() -> None:
    with pytest.raises(UsageError, match="token_m"):
        draw({"g": (1, 1)}, rng(1), "group", 0.75, 1.0)


SAME = {"g0": (12, 9), "g1": (12, 9), "g2": (12, 9)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_is_one_rectangle_and_all_that_is_hidden_in_it(kind: str) -> None:
    masks = draw(SAME, rng(40), kind, 0.75, 1 / 3, "window")
    assert masks.window is not None
    assert masks.window.size == (7, 5)
    kept, counted = masks.kept(), masks.counted()
    nominal = counts(SAME, kind, 0.75, 1 / 3, "window")
    asked = torch.cat(list(counted.values()), dim=1).sum(dim=1)
    assert asked.tolist() == [round(sum(nominal.values()))] * 40
    seen = torch.cat(list(kept.values()), dim=1).sum(dim=1)
    assert len(set(seen.tolist())) == 1
    assert seen[0].item() == pytest.approx(81, abs=3)
    starts = set()
    for b in range(40):
        row, column = masks.window.start[b].tolist()
        starts.add((row, column))
        inside = {r * 9 + c for r in range(row, row + 7) for c in range(column, column + 5)}
        assert max(inside) < 108
        for name in SAME:
            hidden = set(masks.predict[name][b][counted[name][b]].tolist())
            shown = set(masks.keep[name][b][kept[name][b]].tolist())
            assert hidden == inside - shown
            assert shown - inside
            if kind != "flat":
                assert len(hidden) == nominal[name]
    assert len(starts) > 10


def test_windows_need_one_grid_and_two_tokens() -> None:
    for grids, problem in (
        (GRIDS, "one token grid; g0 has 12x12, g2 6x6: make their token_m equal"),
        ({"a": (2, 2)}, "is a window of one token; make predict larger"),
    ):
        with pytest.raises(UsageError, match=problem):
            draw(grids, rng(2), "group", 0.75, 0.2, "window")
        with pytest.raises(UsageError, match=problem):
            counts(grids, "group", 0.75, 0.2, "window")
    whole = draw(GRIDS, rng(2), "group", 0.75, 1.0, "window")
    assert whole.window is None


def test_windows_reach_the_borders() -> None:
    masks = draw({"a": (12, 12)}, rng(4000), "group", 0.75, 1 / 3, "window")
    assert masks.window is not None
    share = masks.window.inside().double().mean(dim=0).reshape(12, 12)
    # 18 places of a window of 7 along a side of 12; those that stick out are moved in
    expected = torch.tensor([7, 8, 9, 10, 11, 18, 18, 11, 10, 9, 8, 7]) / 18
    assert torch.allclose(share, (expected[:, None] * expected).double(), atol=0.035)
