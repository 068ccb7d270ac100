"""CLOSP: images of sensors that are never paired, aligned with the captions of their labels."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from fm.errors import UsageError
from fm.models import create_model
from fm.normalize import Normalisation
from fm.rng import CounterRng
from fm.sensors import sensor
from pretrain.engine.batches import MicroBatch
from pretrain.objectives import ObjectiveConfig, build_objective
from pretrain.objectives.contrast.closp import CLOSP

NAN = float("nan")
TEXT = {"width": 16, "depth": 1, "heads": 2, "words": 64}
WORDS = ("Water", "Trees", "Built")
RADAR, OPTICAL = "sentinel1_grd", "sentinel2_l2a"


def closp(**changes: Any) -> CLOSP:
    """Towers of Sentinel-1 and the 10 m bands of Sentinel-2."""
    bands = {
        "s1grd_10": sensor("sentinel1-grd").modalities["s1grd_10"],
        "s2l2a_10": sensor("sentinel2-l2a").modalities["s2l2a_10"],
    }
    zscore = {
        m: Normalisation("zscore", (0.5,) * len(b), (0.3,) * len(b)) for m, b in bands.items()
    }
    torch.manual_seed(0)
    model = create_model(
        "towers_vit_nano",
        bands=bands,
        token_m=120,
        normalisation=zscore,
        tower_options={"width": 32, "depth": 1, "heads": 2},
    )
    config: Any = TypeAdapter(ObjectiveConfig).validate_python(
        {"kind": "closp", "label": "cover", "classes": 3, "text": TEXT, **changes}
    )
    made = build_objective(config, model)
    assert isinstance(made, CLOSP)
    made.take_classes({"cover": WORDS})
    return made


def batch(labels: list[list[float]], *sensors: str) -> MicroBatch:
    count = len(labels)
    generator = torch.Generator().manual_seed(1)
    bands = {"s1grd_10": 2, "s2l2a_10": 4}
    made = {m: torch.rand(count, n, 24, 24, generator=generator) for m, n in bands.items()}
    pixels = {m: made[m] for m in sensors or made}
    rng = CounterRng(7, torch.zeros(count, dtype=torch.int64), torch.arange(count))
    return MicroBatch(pixels, torch.ones(count), {}, rng, labels={"cover": torch.tensor(labels)})


DIFFERENT = [[1.0, 0, 0], [0, 1, 0], [0, 1, 1], [NAN, NAN, NAN]]


def unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=1)


def rows(objective: CLOSP, given: MicroBatch, name: str) -> tuple[Tensor, Tensor]:
    present, told = objective._told(given)
    images = objective._images(objective.inputs(given), given.weight)[name]
    return images, objective._texts(present, told)


def test_two_pairs_by_hand() -> None:
    made, given = closp(), batch(DIFFERENT[:2], "s1grd_10")
    v, t = (unit(x) for x in rows(made, given, RADAR))
    logits = v @ t.T / 0.07
    own = torch.arange(2)
    wanted = sum(torch.nn.functional.cross_entropy(x, own) for x in (logits, logits.T)) / 2
    found = made(given, given.rng)
    assert (found.loss_sum / found.weight).item() == pytest.approx(wanted.item(), rel=1e-5)
    assert found.metrics[f"loss_{RADAR}"].item() == pytest.approx(found.loss_sum.item())
    assert (found.metrics["scale"] / found.weight).item() == pytest.approx(1 / 0.07)


def test_the_same_set_of_labels_is_a_positive_whoever_has_it() -> None:
    made, given = closp(), batch([[1.0, 0, 0], [1, 0, 0], [0, 1, 0]], "s1grd_10")
    v, t = (unit(x) for x in rows(made, given, RADAR))
    assert torch.allclose(t[0], t[1], atol=1e-6)
    target = torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])
    logits = v @ t.T / 0.07
    both = [x.log_softmax(dim=1) for x in (logits, logits.T)]
    shared = sum(-(target * x).sum(dim=1) for x in both) / 2
    own = sum(-x.diagonal() for x in both) / 2
    published = closp(legacy_one_positive=True)
    # rows of one caption share what each would have alone: only their weights tell them apart
    assert shared.sum().item() == pytest.approx(own.sum().item(), rel=1e-5)
    given.weight = torch.tensor([1.0, 0.25, 1.0])
    assert made(given, given.rng).loss_sum.item() == pytest.approx(
        (shared * given.weight).sum().item(), rel=1e-5
    )
    assert published(given, given.rng).loss_sum.item() == pytest.approx(
        (own * given.weight).sum().item(), rel=1e-5
    )
    assert abs((shared - own)[0].item()) > 1e-3


def test_samples_without_a_label_are_no_negatives() -> None:
    made = closp()
    with_, without = batch(DIFFERENT), batch(DIFFERENT[:3])
    for name, x in without.pixels.items():
        x.copy_(with_.pixels[name][:3])
    found, wanted = made(with_, with_.rng), made(without, without.rng)
    assert found.loss_sum.item() == pytest.approx(wanted.loss_sum.item(), rel=1e-5)
    assert found.weight.item() == made.weight(with_).item() == 3.0
    with_.weight[2] = 0
    assert made.weight(with_).item() == 2.0
    nothing = batch([[0.0, 0, 0], [0, 1, 0]])  # no class, no caption
    assert made.weight(nothing).item() == 1.0


def test_sensors_meet_through_text_alone() -> None:
    """A step of one sensor moves its tower and the text, not the other's."""
    made = closp()
    for modality, other in (("s1grd_10", "s2l2a_10"), ("s2l2a_10", "s1grd_10")):
        made.zero_grad()
        given = batch(DIFFERENT, modality)
        made(given, given.rng).loss_sum.backward()
        moved = {n for n, p in made.named_parameters() if p.grad is not None and p.grad.any()}
        assert any(n.startswith("text.") for n in moved)
        assert any(f"towers.{_tower(modality)}" in n for n in moved)
        assert not any(f"towers.{_tower(other)}" in n for n in moved)
    both = batch(DIFFERENT)
    alone = [batch(DIFFERENT, m) for m in both.pixels]
    for part in alone:
        for name in part.pixels:
            part.pixels[name] = both.pixels[name]
    mean = sum(made(part, part.rng).loss_sum.item() for part in alone) / 2
    assert made(both, both.rng).loss_sum.item() == pytest.approx(mean, rel=1e-5)


def _tower(modality: str) -> str:
    return modality.partition("_")[0]


def test_a_sensor_without_a_valid_pixel_is_not_compared() -> None:
    made, given = closp(), batch(DIFFERENT[:3])
    valid = {m: torch.ones_like(x, dtype=torch.bool) for m, x in given.pixels.items()}
    valid["s1grd_10"][0] = False
    holed = replace(given, valid=valid)
    found = made(holed, holed.rng)
    few = replace(batch(DIFFERENT[1:3], "s1grd_10"))
    few.pixels["s1grd_10"] = given.pixels["s1grd_10"][1:]
    v, t = (unit(x) for x in rows(made, few, RADAR))
    _, every = rows(made, given, RADAR)
    every = unit(every)
    to_text = -(v @ every.T / 0.07).log_softmax(dim=1)[[0, 1], [1, 2]]
    to_image = -(t @ v.T / 0.07).log_softmax(dim=1).diagonal()
    wanted = ((to_text + to_image) / 2).sum() / 2  # half: they have the other sensor too
    assert found.metrics[f"loss_{RADAR}"].item() == pytest.approx(wanted.item(), rel=1e-4)


def holed(given: MicroBatch, rows: object, *modalities: str) -> MicroBatch:
    """Say that some samples have no valid pixel of some modalities."""
    valid = {m: torch.ones_like(x, dtype=torch.bool) for m, x in given.pixels.items()}
    for modality in modalities:
        valid[modality][rows] = False  # type: ignore[index]
    return replace(given, valid=valid)


def test_what_has_no_valid_pixel_is_not_encoded_and_counts_nothing() -> None:
    """Defect: a sensor's zeros enter its batch norms, and a sample of nothing divides the loss."""
    made = closp()
    given = holed(batch(DIFFERENT[:3]), [1], "s1grd_10")
    seen: dict[str, int] = {}
    for name, projector in made.projectors.items():
        projector.register_forward_hook(lambda _, x, out, n=name: seen.update({n: len(x[0])}))
    made(given, given.rng)
    assert seen == {RADAR: 2, OPTICAL: 3}
    nothing = holed(batch(DIFFERENT[:3]), [1], "s1grd_10", "s2l2a_10")
    fewer = batch([DIFFERENT[0], DIFFERENT[2]])
    for m, x in fewer.pixels.items():
        x.copy_(nothing.pixels[m][[0, 2]])
    found, wanted = made(nothing, nothing.rng), made(fewer, fewer.rng)
    assert made.weight(nothing).item() == found.weight.item() == 2
    assert found.loss_sum.item() == pytest.approx(wanted.loss_sum.item(), rel=1e-5)


def test_a_sensor_that_no_sample_has_is_not_learned() -> None:
    made, given = closp(), batch(DIFFERENT[:3])
    found = made(holed(given, slice(None), "s1grd_10"), given.rng)
    alone = replace(given, pixels={"s2l2a_10": given.pixels["s2l2a_10"]})
    assert found.loss_sum.item() == pytest.approx(made(alone, given.rng).loss_sum.item(), rel=1e-6)
    assert found.metrics[f"loss_{RADAR}"] == 0
    found.loss_sum.backward()
    moved = {n for n, p in made.named_parameters() if p.grad is not None and p.grad.any()}
    assert not any("towers.s1grd" in n or RADAR in n for n in moved)
    empty = holed(given, slice(None), "s1grd_10", "s2l2a_10")
    nothing = made(empty, given.rng)
    assert nothing.weight == nothing.loss_sum == 0
    nothing.loss_sum.backward()


def test_the_scale_is_learned_and_held_and_comes_back() -> None:
    made = closp(scale=50.0)
    with torch.no_grad():
        made.scale.log.fill_(math.log(300.0))
    assert made.scale().item() == pytest.approx(100.0, rel=1e-5)
    made.scale().backward()
    assert made.scale.log.grad is not None
    assert made.scale.log.grad.item() > 0  # so it can go down again
    fixed = closp(scale=1.0, legacy_fixed_scale=True)
    assert not fixed.scale.log.requires_grad
    assert fixed.scale().item() == 1.0
    with pytest.raises(UsageError, match="above largest_scale"):
        closp(scale=101.0)


def test_at_scale_one_the_loss_of_64_pairs_cannot_fall_below_three() -> None:
    """The published scale: unit vectors of a simplex are as far apart as 64 can be."""
    cosine = torch.full((64, 64), -1 / 63).fill_diagonal_(1.0)
    least = -cosine.log_softmax(dim=1).diagonal().mean()
    assert least.item() == pytest.approx(3.17, abs=0.01)
    assert -(cosine / 0.07).log_softmax(dim=1).diagonal().mean().item() < 1e-3


def test_places_add_two_terms_where_they_are_known() -> None:
    plain, made = closp(), closp(place={"width": 8, "options": {"L": 4}})
    plain.load_state_dict({k: v for k, v in made.state_dict().items() if "place" not in k})
    given = batch(DIFFERENT[:3], "s2l2a_10")
    without = made(given, given.rng).loss_sum.item()
    assert without == pytest.approx(plain(given, given.rng).loss_sum.item(), rel=1e-6)
    lonlat = torch.tensor([[7.0, 50.0], [8.0, 51.0], [NAN, NAN]], dtype=torch.float64)
    placed = replace(given, lonlat=lonlat)
    v, _ = rows(made, placed, OPTICAL)
    assert made.place is not None
    g = made.place(lonlat[:2])
    cosines = unit(g) @ unit(v[:2]).T
    both = [-(x / 0.07).log_softmax(dim=1).diagonal() for x in (cosines, cosines.T)]
    single = plain(given, given.rng)
    present, told = plain._told(given)
    t = plain._texts(present, told)
    logits = unit(v) @ unit(t).T / 0.07
    base = sum(-x.log_softmax(dim=1).diagonal() for x in (logits, logits.T)) / 2
    assert base.sum().item() == pytest.approx(single.loss_sum.item(), rel=1e-5)
    wanted = (base[:2] / 2 + (both[0] + both[1]) / 4).sum() + base[2]
    assert made(placed, placed.rng).loss_sum.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_captions_do_not_depend_on_how_often_a_label_stands_in_a_batch() -> None:
    made = closp()
    given = batch(DIFFERENT)
    present, told = made._told(given)
    texts = made._texts(present, told)
    assert not texts[3].any()
    for row in range(3):
        alone = made._texts(present[row : row + 1], told[row : row + 1])
        assert torch.allclose(alone[0], texts[row], atol=1e-6)


def test_it_learns_to_find_the_caption() -> None:
    made, given = closp(), batch(DIFFERENT)
    optimizer = torch.optim.Adam(made.parameters(), 2e-3)
    found = []
    for _ in range(60):
        optimizer.zero_grad()
        output = made(given, given.rng)
        output.loss_sum.backward()
        optimizer.step()
        found.append(output.loss_sum.item())
    assert found[-1] < 0.3 * found[0]
