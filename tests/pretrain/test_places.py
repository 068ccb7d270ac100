"""The table of places: numbers, smoothing, fits and what is known before them."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fm.errors import FMError
from pretrain.objectives.contrast.places import Places, higher, place_ids


def alone(x: Tensor) -> Tensor:
    return x


def lonlat(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 2, generator=generator, dtype=torch.float64) * 100 - 50


def ids_of(count: int) -> Tensor:
    return place_ids(lonlat(count), torch.zeros(count))


def show(places: Places, ids: Tensor, ratios: Tensor, keep: Tensor | None = None) -> None:
    places.add(ids, ratios, torch.ones(len(ids), dtype=torch.bool) if keep is None else keep)
    places.take(alone)


def ratios_at(places: Places, ids: Tensor) -> Tensor:
    row, found = places._find(ids)
    return torch.where(found, places.ratios[row], torch.nan)


def test_places_are_told_apart_to_a_metre_and_unknown_ones_are_none() -> None:
    told = torch.tensor([[10.0, 50.0], [10.0, 50.00002], [50.0, 10.0], [10.0, 50.0]]).double()
    ids = place_ids(torch.cat([told, torch.tensor([[float("nan"), 1.0]]).double()]), torch.ones(5))
    assert ids[0] == ids[3]
    assert ids[:3].unique().numel() == 3
    assert ids[4] == 0
    assert place_ids(None, torch.ones(2)).tolist() == [0, 0]
    assert ids_of(2000).unique().numel() == 2000


def test_a_ratio_is_smoothed_when_its_place_is_seen_again() -> None:
    places, ids = Places(64), ids_of(3)
    show(places, ids, torch.tensor([1.0, 2.0, 3.0]))
    assert ratios_at(places, ids).tolist() == [1.0, 2.0, 3.0]
    show(places, ids[[1]], torch.tensor([7.0]))
    assert ratios_at(places, ids).tolist() == pytest.approx([1.0, 3.0, 3.0])  # (4 x 2 + 7) / 5
    keep = torch.tensor([False, True])
    show(places, ids[[0, 2]], torch.tensor([9.0, 8.0]), keep)
    assert ratios_at(places, ids).tolist() == pytest.approx([1.0, 3.0, 4.0])


def test_all_places_of_a_full_table_are_found_again_and_more_are_refused() -> None:
    ids = ids_of(400)
    places = Places(640)
    for part, ratios in zip(ids.split(50), torch.arange(400.0).split(50), strict=True):
        show(places, part, ratios)
    assert ratios_at(places, ids).tolist() == list(range(400))
    assert ratios_at(places, place_ids(lonlat(20, seed=1), torch.zeros(20))).isnan().all()
    small = Places(16)
    with pytest.raises(FMError, match=r"objective.places=16 rows do not hold .* twice their"):
        show(small, ids[:40], torch.ones(40))


def test_nothing_has_changed_before_each_place_was_seen_and_some_again() -> None:
    places, ids = Places(256), ids_of(100)
    ratios = torch.where(torch.arange(100) < 20, 5.0, 1.0) + torch.linspace(0, 0.2, 100)
    show(places, ids[:60], ratios[:60])
    show(places, ids[60:], ratios[60:])
    assert not places.changed_at(ids).any()
    show(places, ids[:10], ratios[:10])
    assert places.changed_at(ids).tolist() == [True] * 20 + [False] * 80
    assert places.seen == 0
    unknown = torch.cat([ids_of(101)[100:], torch.zeros(1, dtype=torch.int64)])
    assert not places.changed_at(unknown).any()
    # labels stay until the next fit, whatever ratios become
    show(places, ids[:1], torch.tensor([-90.0]))
    assert places.changed_at(ids[:1]).all()
    again = Places(256)
    again.load_state_dict(places.state_dict())
    assert torch.equal(again.changed_at(ids), places.changed_at(ids))
    assert torch.equal(ratios_at(again, ids), ratios_at(places, ids))


def test_a_step_that_is_not_taken_says_nothing_and_ranks_are_joined() -> None:
    places, ids = Places(64), ids_of(4)
    places.add(ids[:2], torch.ones(2), torch.ones(2, dtype=torch.bool))
    places.drop()
    places.take(alone)
    assert not places.ids.any()
    # two ranks of two samples are one of four, also when they saw one place
    one, two = Places(64), Places(64)
    ids[3] = ids[0]
    ratios = torch.tensor([1.0, 2.0, 3.0, 5.0])
    show(one, ids, ratios)
    parts = [(ids[2:], ratios[2:], torch.ones(2, dtype=torch.uint8))]
    two.add(ids[:2], ratios[:2], torch.ones(2, dtype=torch.bool))
    other = iter(parts[0])
    two.take(lambda x: torch.cat([x, next(other).to(x.dtype)]))
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name])
    assert ratios_at(one, ids).tolist() == [3.0, 2.0, 3.0, 3.0]


def test_the_mixture_is_the_maximum_of_the_likelihood() -> None:
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.normal(1.0, 0.2, 700), generator.normal(2.5, 0.6, 300)])
    made = higher(torch.from_numpy(values))

    # a plain EM of its own, from the true parameters
    weight, mean, variance = np.array([0.7, 0.3]), np.array([1.0, 2.5]), np.array([0.04, 0.36])
    for _ in range(500):
        density = (
            weight / np.sqrt(variance) * np.exp(-((values[:, None] - mean) ** 2) / (2 * variance))
        )
        share = density / density.sum(axis=1, keepdims=True)
        total = share.sum(axis=0)
        weight, mean = total / len(values), (share * values[:, None]).sum(axis=0) / total
        variance = (share * (values[:, None] - mean) ** 2).sum(axis=0) / total
    expected = (share[:, 1] > 0.5) & (values > mean[0])
    assert (made.numpy() != expected).sum() <= 1  # 100 rounds are near 500
    assert abs(made.float().mean() - 0.29) < 0.03


def test_places_that_are_all_alike_have_not_changed() -> None:
    assert not higher(torch.full((5,), 0.7)).any()
    assert higher(torch.tensor([1.0, 1.0, 3.0])).tolist() == [False, False, True]
