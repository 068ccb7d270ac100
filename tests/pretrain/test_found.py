"""Retrieval over a whole set: ranks, ties, distances, the loss, against what a loop finds."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fm.errors import FMError
from fm.geo import great_circle_m
from pretrain.objectives.place import found as module
from pretrain.objectives.place.found import WITHIN_KM, found

LONLAT = torch.tensor(
    [[0.0, 0.0], [0.1, 0.0], [0.0, 1.0], [5.0, 0.0], [20.0, 0.0], [-170.0, 60.0], [170.0, 60.0]],
    dtype=torch.float64,
)


def embeddings(count: int = 7, width: int = 4, noise: float = 0.8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(count, width, generator=generator)
    return images, 2 * images + noise * torch.randn(count, width, generator=generator)


def test_figures_are_those_of_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, a question at a time; blocks of three and the rest."""
    monkeypatch.setattr(module, "ROWS", 3)
    images, places = embeddings()
    made = found(images, places, LONLAT, scale=9.0)
    unit = [x.double() / x.double().norm(dim=1, keepdim=True) for x in (images, places)]
    table = (unit[0] @ unit[1].T).numpy()
    want: dict[str, float] = {}
    away = []
    for name, loss, alike in (("place", "loss_image", table), ("image", "loss_place", table.T)):
        ranks, losses = [], []
        for i, row in enumerate(alike):
            ranks.append(sorted(row, reverse=True).index(row[i]) + 1)
            losses.append(math.log(sum(math.exp(9 * x) for x in row)) - 9 * row[i])
            if name == "place":
                best = int(np.argmax(row))
                away.append(float(great_circle_m(LONLAT[i].numpy(), LONLAT[best].numpy())) / 1000)
        want[f"found/{name}"] = np.mean(np.array(ranks) == 1)
        want[f"median_rank/{name}"] = np.median(ranks)
        want[loss] = np.mean(losses)
    want["loss"] = (want["loss_image"] + want["loss_place"]) / 2
    want["km/median"] = np.median(away)
    want |= {f"within_km/{r}": np.mean(np.array(away) <= r) for r in WITHIN_KM}
    assert 0 < want["found/place"] < 1
    assert made.figures.keys() == want.keys()
    for name, value in want.items():
        assert made.figures[name] == pytest.approx(value, rel=1e-5, abs=1e-9), name
    assert made.about["count"] == 7
    # of the 49 pairs: 7 themselves; 2 of 11 km; 4 of 111; 6 of 545 to 567; the two over the
    # date line are 1,111 km apart
    assert made.about["chance_within_km/1"] == pytest.approx(7 / 49)
    assert made.about["chance_within_km/25"] == pytest.approx(9 / 49)
    assert made.about["chance_within_km/200"] == pytest.approx(13 / 49)
    assert made.about["chance_within_km/750"] == pytest.approx(19 / 49)


def test_embeddings_that_are_all_the_same_find_what_chance_finds() -> None:
    """Defect: the first of equal answers is taken, so a collapsed model finds one of N for sure."""
    same = torch.ones(7, 4)
    made = found(same, same, LONLAT, scale=9.0).figures
    about = found(same, same, LONLAT, scale=9.0).about
    assert made["found/place"] == made["found/image"] == pytest.approx(1 / 7)
    assert made["median_rank/place"] == 4.0
    assert made["loss"] == pytest.approx(math.log(7), rel=1e-6)
    for limit in WITHIN_KM:
        assert made[f"within_km/{limit}"] == pytest.approx(about[f"chance_within_km/{limit}"])


def test_soft_targets_count_in_the_loss_as_in_training() -> None:
    images, places = embeddings()
    soft = found(images, places, LONLAT, scale=9.0, soft_km=50.0).figures
    unit = [x.double() / x.double().norm(dim=1, keepdim=True) for x in (images, places)]
    far = great_circle_m(LONLAT[:, None].numpy(), LONLAT[None].numpy()) / 1000
    weights = np.exp(-far / 50)
    weights = torch.from_numpy(weights / weights.sum(axis=1, keepdims=True))
    shares = (9 * unit[0] @ unit[1].T).log_softmax(dim=1)
    assert soft["loss_image"] == pytest.approx(float(-(weights * shares).sum(1).mean()), rel=1e-4)
    hard = found(images, places, LONLAT, scale=9.0).figures
    assert hard["loss_image"] != pytest.approx(soft["loss_image"], rel=1e-2)
    assert {n: v for n, v in hard.items() if "loss" not in n} == {
        n: v for n, v in soft.items() if "loss" not in n
    }


def test_what_says_nothing_is_refused() -> None:
    images, places = embeddings()
    with pytest.raises(FMError, match="1 of the held-out samples have a place"):
        found(images[:1], places[:1], LONLAT[:1], scale=1.0)
    with pytest.raises(FMError, match="not finite"):
        found(images * float("inf"), places, LONLAT, scale=1.0)
