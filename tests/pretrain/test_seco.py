"""Seasonal contrasts: which views answer in which space, seasons, eras and their masks."""

from typing import Any

import pytest
import torch
from torch import Tensor

from fm.errors import UsageError
from fm.rng import CounterRng
from pretrain.engine.batches import MicroBatch
from pretrain.losses import normalised
from pretrain.objectives import build_objective
from pretrain.objectives.contrast.caco import (
    YEAR,
    CACo,
    CACoConfig,
    change_ratio,
    eras_of,
    repelled,
)
from pretrain.objectives.contrast.places import place_ids
from pretrain.objectives.contrast.seco import SeCo, SeCoConfig
from tests.pretrain.batches import backbone

COUNT, IMAGES = 4, 6
SMALL: dict[str, Any] = {"view": {"size": 24}, "queue": 8, "width": 8, "hidden": 16}


def seco(**options: Any) -> SeCo:
    torch.manual_seed(2)
    made = build_objective(SeCoConfig.model_validate(SMALL | options), backbone())
    assert isinstance(made, SeCo)
    return made


def caco(**options: Any) -> CACo:
    torch.manual_seed(2)
    config = CACoConfig.model_validate(SMALL | {"places": 64} | options)
    made = build_objective(config, backbone())
    assert isinstance(made, CACo)
    return made


def series(count: int = COUNT, **options: Any) -> MicroBatch:
    generator = torch.Generator().manual_seed(0)
    bands = backbone().bands
    pixels = {
        name: torch.rand(
            count, IMAGES, len(own), *(2 * [48 // int(own[0].gsd_m / 10)]), generator=generator
        )
        for name, own in bands.items()
    }
    rng = CounterRng(7, torch.zeros(count, dtype=torch.int64), torch.arange(count))
    years = torch.tensor([2016.0, 2016.3, 2016.6, 2021.0, 2021.3, 2021.6])
    times = ((years - 1970) * YEAR).double().repeat(count, 1)
    lonlat = torch.stack([torch.arange(count) * 1.0, torch.arange(count) * 2.0], dim=1).double()
    return MicroBatch(pixels, torch.ones(count), {}, rng, times=times, lonlat=lonlat, **options)


def test_the_views_of_each_space() -> None:
    """The asking view and that of another season are plain, the two others are augmented."""
    objective, batch = seco(), series()
    drawn: list[tuple[str, bool, Tensor]] = []
    from pretrain.objectives.contrast import seco as module

    true = module.draw_view

    def noted(batch: Any, rng: Any, name: str, how: Any, image: Tensor, **options: Any) -> Any:
        drawn.append((name, how == objective.config.view, image))
        return true(batch, rng, name, how, image, **options)

    module.draw_view = noted  # type: ignore[assignment]
    try:
        objective(batch, batch.rng)
    finally:
        module.draw_view = true
    told = {name: (augmented, image) for name, augmented, image in drawn}
    assert {name: augmented for name, (augmented, _) in told.items()} == {
        "asks": False,
        "both": True,
        "season": False,
        "augmented": True,
    }
    assert torch.equal(told["asks"][1], told["augmented"][1])
    seasons = torch.stack([told[name][1] for name in ("asks", "both", "season")], dim=1)
    assert all(len(set(row)) == 3 for row in seasons.tolist())
    still = objective.plain
    assert still.flips == "none"
    assert still.size == 24
    assert still.optical.colour_chance == still.optical.grey == still.optical.blur_chance == 0


def test_the_loss_is_the_sum_over_spaces_and_the_queues_take_each_its_own_key() -> None:
    objective, batch = seco(), series()
    batch.weight[1] = 0.0
    output = objective(batch, batch.rng)
    spaces = ("loss_both", "loss_season", "loss_augmented")
    total = sum(output.metrics[name] for name in spaces)
    assert output.loss_sum.item() == pytest.approx(float(total), rel=1e-5)
    rows = torch.tensor([0, 2, 3])
    images = objective.chosen(batch, batch.rng)
    views = objective.views(batch, batch.rng, images)
    keys = objective.answered(views[1:], batch, batch.rng)
    for s, queue in enumerate(objective.queues_of()):
        queue.take(lambda x: x)
        assert torch.allclose(queue.rows[:3], normalised(keys[s][s])[rows], atol=1e-5)
        assert queue.place == 3
    output.loss_sum.backward()
    assert all(p.grad is None for p in objective.teacher.parameters())
    assert all(p.grad is not None and p.grad.any() for p in objective.heads.parameters())


def test_seasons_of_a_label_are_all_different() -> None:
    objective = seco(season_label="season")
    assert objective.label_names == ("season",)
    assert objective.label_kinds == {"season": ("class",)}  # of a number all would be one season
    batch = series()
    of = torch.tensor([0, 0, 0, 1, 2, 2])
    batch.labels = {"season": torch.nn.functional.one_hot(of, 4).float().repeat(COUNT, 1, 1)}
    batch.labels["season"][0, 5] = float("nan")
    images = torch.stack(objective.chosen(batch, batch.rng), dim=1)
    assert of[images].sort(dim=1).values.tolist() == [[0, 1, 2]] * COUNT
    assert 5 not in images[0]
    batch.labels = {"season": torch.ones(COUNT, 4)}
    with pytest.raises(UsageError, match="give one of each image"):
        objective.chosen(batch, batch.rng)


def test_single_images_are_refused_before_a_step() -> None:
    pixels = {name: x[:, 0] for name, x in series().pixels.items()}
    with pytest.raises(UsageError, match=r"kind=seco contrasts .* series of a place"):
        seco().grids(pixels)
    with pytest.raises(UsageError, match="kind=caco"):
        caco().grids(pixels)


def test_the_largest_gap_divides_two_eras() -> None:
    nan = float("nan")
    years = torch.tensor(
        [
            [2016.0, 2021.0, 2016.5, 2021.4],
            [2016.0, 2016.4, 2017.0, nan],
            [2010.0, 2013.0, 2020.0, 2021.0],
            [nan, nan, nan, nan],
        ]
    )
    usable = torch.ones(4, 4, dtype=torch.bool)
    usable[2, 3] = False
    era = eras_of(years.double() * YEAR, usable, 2.0)
    assert era.tolist() == [[0, 1, 0, 1], [0, 0, 0, -1], [0, 0, 1, -1], [-1] * 4]
    assert eras_of(years[:, :1].double() * YEAR, usable[:, :1], 2.0)[:, 0].tolist() == [0, 0, 0, -1]


def test_only_the_same_unchanged_place_is_not_repelled() -> None:
    made = repelled(
        torch.tensor([True, False]), torch.tensor([True, True, True, False, True]), first=1
    )
    assert made.tolist() == [[True, True, True, False, True], [True, True, False, False, True]]


def test_the_ratio_compares_eras_with_seasons() -> None:
    def rows(*angles: float) -> Tensor:
        at = torch.tensor(angles)
        return torch.stack([at.cos(), at.sin()], dim=1)

    empty = rows(0.0, 0.0)
    asks = [rows(0.0, 0.0), rows(0.6, 0.0)]
    season = [rows(0.2, 0.1), rows(0.8, 0.1)]
    keys = [
        [[empty] * 4, [a, empty, s, empty], [empty] * 4] for a, s in zip(asks, season, strict=True)
    ]
    ratios = change_ratio(keys)
    chord = [2 * torch.tensor(x / 2).sin() for x in (0.6, 0.2)]
    assert ratios[0].item() == pytest.approx((chord[0] / (chord[1] + 1e-4)).item(), rel=1e-5)
    assert ratios[1].item() == pytest.approx(0.0, abs=1e-6)


def test_changed_places_repel_their_other_era_and_others_do_not() -> None:
    objective, batch = caco(), series()
    ids = place_ids(batch.lonlat, batch.weight)
    before = objective(batch, batch.rng)
    assert before.metrics["changed"] == 0
    assert before.metrics["one_era"] == 0
    for part in objective.queues:
        part.drop()
    objective.places.take(lambda x: x)
    row, found = objective.places._find(ids)
    assert found.all()
    assert (objective.places.ratios[row] > 0).all()
    same = objective(batch, batch.rng)
    assert torch.equal(same.loss_sum, before.loss_sum)
    objective.places.changed[row[2]] = True
    after = objective(batch, batch.rng)
    assert after.metrics["changed"] == 1
    assert after.loss_sum > before.loss_sum


def test_samples_without_a_place_are_counted() -> None:
    """Defect: they never change, which looks like ground that does not."""
    objective, batch = caco(), series()
    assert objective(batch, batch.rng).metrics["unplaced"] == 0
    assert batch.lonlat is not None
    batch.lonlat[1] = float("nan")
    assert objective(batch, batch.rng).metrics["unplaced"] == 1
    batch.lonlat = None
    assert objective(batch, batch.rng).metrics["unplaced"] == 4


def test_a_place_of_one_era_counts_with_that_era_alone() -> None:
    objective, batch = caco(), series()
    assert batch.times is not None
    batch.times[1, 3:] = float("nan")
    output = objective(batch, batch.rng)
    assert output.metrics["one_era"] == 1
    objective.places.take(lambda x: x)
    ids = place_ids(batch.lonlat, batch.weight)
    assert objective.places._find(ids)[1].tolist() == [True, False, True, True]
    sizes = []
    for queue in objective.queues:
        queue.take(lambda x: x)  # type: ignore[operator]
        sizes.append(int(queue.place))  # type: ignore[arg-type]
    assert sizes == [0, 0, 0, 3, 3, 3]  # four keys fill a queue of four
    assert output.loss_sum.isfinite()
    batch.times = None
    with pytest.raises(UsageError, match="needs the times"):
        objective(batch, batch.rng)
    with pytest.raises(UsageError, match="an even number"):
        caco(queue=7)
