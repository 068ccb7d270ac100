"""Which images of a series the views are of."""

import torch

from fm.rng import CounterRng
from pretrain.augment import repeated, seasons
from pretrain.augment.season import there
from pretrain.engine.batches import MicroBatch

COUNT, IMAGES = 600, 4


def series(usable: torch.Tensor | None = None) -> MicroBatch:
    pixels = {"s1grd_10": torch.ones(COUNT, IMAGES, 2, 2, 2)}
    valid = None
    if usable is not None:
        valid = {"s1grd_10": usable[:, :, None, None, None].expand(-1, -1, 2, 2, 2).clone()}
    rng = CounterRng(3, torch.zeros(COUNT, dtype=torch.int64), torch.arange(COUNT))
    return MicroBatch(pixels, torch.ones(COUNT), {}, rng, valid=valid)


def test_seasons_differ_and_every_ordered_pair_is_as_frequent() -> None:
    batch = series()
    first, second = seasons(batch, batch.rng, 2)
    assert not (first == second).any()
    counts = torch.bincount(first * IMAGES + second, minlength=IMAGES**2)
    pairs = counts.reshape(IMAGES, IMAGES)[~torch.eye(IMAGES, dtype=torch.bool)]
    # 12 pairs of 50 +- 6.8
    assert pairs.min() > 50 - 4 * 6.8
    assert pairs.max() < 50 + 4 * 6.8
    assert repeated([first, second]).sum() == 0


def test_only_images_with_a_valid_pixel_and_repeats_are_counted() -> None:
    usable = torch.ones(COUNT, IMAGES, dtype=torch.bool)
    usable[0] = torch.tensor([False, True, False, True])
    usable[1] = torch.tensor([False, False, True, False])
    usable[2] = False
    batch = series(usable)
    assert torch.equal(there(batch), usable)
    chosen = seasons(batch, batch.rng, 3)
    drawn = torch.stack(chosen, dim=1)
    assert set(drawn[0].tolist()) == {1, 3}
    assert drawn[0, 0] == drawn[0, 2] != drawn[0, 1]
    assert drawn[1].tolist() == [2, 2, 2]
    assert repeated(chosen)[:4].tolist() == [1, 2, 2, 0]
    # an image is there where any modality has a valid pixel
    batch.pixels["s2"] = torch.ones(COUNT, IMAGES, 1, 1, 1)
    batch.valid = {**(batch.valid or {}), "s2": torch.zeros(COUNT, IMAGES, 1, 1, 1).bool()}
    batch.valid["s2"][2, 1] = True
    assert torch.stack(seasons(batch, batch.rng, 3), dim=1)[2].tolist() == [1, 1, 1]


def test_with_replacement_a_quarter_of_pairs_is_one_image() -> None:
    usable = torch.ones(COUNT, IMAGES, dtype=torch.bool)
    usable[0] = torch.tensor([False, True, False, False])
    batch = series(usable)
    first, second = seasons(batch, batch.rng, 2, replace=True)
    same = (first == second).float().mean().item()
    assert abs(same - 1 / IMAGES) < 4 * (3 / 16 / COUNT) ** 0.5
    assert first[0] == second[0] == 1


def test_a_sample_draws_the_same_in_any_batch_and_single_images_are_number_0() -> None:
    batch = series()
    whole = torch.stack(seasons(batch, batch.rng, 2), dim=1)
    part = batch.select(slice(17, 40))
    assert torch.equal(torch.stack(seasons(part, part.rng, 2), dim=1), whole[17:40])
    batch.pixels = {name: x[:, 0] for name, x in batch.pixels.items()}
    assert torch.stack(seasons(batch, batch.rng, 2)).abs().sum() == 0


def test_views_of_labelled_seasons_are_of_different_ones_by_any_image_of_each() -> None:
    batch = series()
    of = torch.tensor([2, 0, 0, -1]).expand(COUNT, -1)
    first, second, third = seasons(batch, batch.rng, 3, of=of)
    pair = torch.stack([first, second], dim=1)
    assert set(of.gather(1, pair).sort(dim=1).values.flatten().tolist()) == {0, 2}
    assert (of.gather(1, pair).sum(dim=1) == 2).all()
    assert torch.equal(third, first)
    counts = torch.bincount(pair.flatten(), minlength=4)
    assert counts[3] == 0
    assert counts[0] == COUNT
    assert abs(int(counts[1]) - COUNT // 2) < 4 * (COUNT / 4) ** 0.5
    among = torch.tensor([True, False, True, True]).expand(COUNT, -1)
    one, other = seasons(batch, batch.rng, 2, of=of, among=among)
    assert (torch.stack([one, other]).sort(dim=0).values == torch.tensor([[0], [2]])).all()
