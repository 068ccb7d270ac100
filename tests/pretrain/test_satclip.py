"""SatCLIP: the published loss in closed form, chunks, jitter, distances, frozen encoders."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

import fm.geo
from fm import location
from fm.errors import UsageError
from fm.location.checkpoint import describe
from fm.rng import CounterRng
from pretrain.augment import draw_view
from pretrain.config import RunConfig
from pretrain.engine.batches import MicroBatch
from pretrain.engine.files import ModelFiles
from pretrain.objectives.contrast.whole import whole_view
from pretrain.objectives.place.places import distances_km, jittered
from pretrain.objectives.place.satclip import LocationConfig, SatCLIP, SatCLIPConfig
from pretrain.objectives.place.view import PlaceView
from pretrain.runs.folder import TAG, RunFolder
from pretrain.trainer import load_config, run
from probes.location.encoders import get_encoder
from tests.conformance.objectives import OBJECTIVES, ObjectiveCase
from tests.pretrain.double_ranks import doubled


def built(**changes: object) -> tuple[SatCLIP, MicroBatch, ObjectiveCase]:
    case = OBJECTIVES["satclip-tuned"]
    case = replace(case, config={**case.config, **changes})
    objective = case.build()
    assert isinstance(objective, SatCLIP)
    return objective, case.batch(objective, 6), case


def gradients(objective: SatCLIP, batch: MicroBatch) -> tuple[float, dict[str, Tensor]]:
    objective.zero_grad()
    loss = objective(batch, batch.rng).loss_sum
    loss.backward()
    return loss.item(), {
        n: p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None
    }


def rng(count: int) -> CounterRng:
    return CounterRng(3, torch.zeros(count, dtype=torch.int64), torch.arange(count))


def test_the_loss_is_the_mean_of_both_cross_entropies() -> None:
    """CLIP's loss (SatCLIP, equation 2), written out in float64."""
    objective, batch, _ = built(soft_km=None, chunk=None, jitter_degrees=0.0)
    seen: dict[str, Tensor] = {}
    objective.projector.register_forward_hook(lambda m, a, out: seen.update(image=out))
    objective.location.register_forward_hook(lambda m, a, out: seen.update(place=out))
    out = objective(batch, batch.rng)
    image, place = (
        functional.normalize(seen[k].detach().double(), dim=1) for k in ("image", "place")
    )
    logits = image @ place.T / 0.07
    right = torch.arange(6)
    want = (functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)) / 2
    assert out.loss_sum.item() / 6 == pytest.approx(want.item(), rel=1e-5)


EARLIER = torch.tensor([[9.5, 49.0], [100.0, -30.0], [10.2, 50.1]])
"""Places of the step before, of which the second was not known."""


def filled(objective: SatCLIP) -> SatCLIP:
    """Have the queue, if there is one, hold two earlier places."""
    if objective.queue is not None:
        objective.queue.add(EARLIER, torch.tensor([True, False, True]))
        objective.queue.take(lambda rows: rows)
    return objective


@pytest.mark.parametrize("soft_km", [None, 300.0])
def test_a_queue_and_one_way_in_closed_form(soft_km: float | None) -> None:
    """GeoCLIP's loss, two images and the places of earlier steps, written out in float64.

    In float32 the gradients of the first layer, up to 330, are off by 7e-7 of that, which is more
    than 1e-5 of many a small one.
    """
    objective, batch, _ = built(
        queue=5, one_way=True, soft_km=soft_km, jitter_degrees=0.0, chunk=None
    )
    batch = batch.select(slice(0, 2))
    batch.weight = batch.weight.double()
    assert batch.lonlat is not None
    own = batch.lonlat.double()
    doubled(objective).train()
    seen: dict[str, Tensor] = {}
    objective.projector.register_forward_hook(lambda m, a, out: seen.update(image=out))

    def want(earlier: Tensor) -> Tensor:
        lonlat = torch.cat([own, earlier])
        image = functional.normalize(seen["image"].detach(), dim=1)
        place = functional.normalize(objective.location(lonlat), dim=1)
        shares = (objective.scale.log.exp() * image @ place.T).log_softmax(1)
        if soft_km is None:
            return -shares.diagonal().sum()
        weights = torch.exp(-distances_km(own, lonlat) / soft_km)
        return -(weights / weights.sum(dim=1, keepdim=True) * shares).sum()

    # weights of soft targets are float32
    near = 1e-12 if soft_km is None else 1e-6
    out = objective(batch, batch.rng)  # nothing is held yet
    assert out.loss_sum.item() == pytest.approx(want(own[:0]).item(), rel=near)
    assert {"found_image", "loss_place"}.isdisjoint(out.metrics)
    assert objective.queue is not None
    objective.queue.drop()
    loss, got = gradients(filled(objective), batch)
    wanted = want(EARLIER[[0, 2]].double())
    assert loss == pytest.approx(wanted.item(), rel=near)
    objective.zero_grad()
    wanted.backward()
    learned = 0
    for name, parameter in objective.named_parameters():
        if name.startswith(("location.", "scale.")):
            assert parameter.grad is not None
            apart = (parameter.grad - got[name]).abs().max()
            assert apart <= near * parameter.grad.abs().max(), name
            learned += 1
    assert learned == 1 + len(list(objective.location.parameters()))
    # places of this step are taken in after it, in the order of the batch
    rows, there = objective.queue.read()
    assert there.tolist() == [True] * 2 + [False] * 3
    objective.queue.take(lambda rows: rows)
    rows, there = objective.queue.read()
    assert there.tolist() == [True] * 4 + [False]
    assert torch.equal(rows[2:4], own)


@pytest.mark.parametrize("apart", [None, 50.0])
def test_the_own_place_of_an_earlier_epoch_is_left_out_if_asked(apart: float | None) -> None:
    """Two images; in the queue wait the place of one, one 33 km from the other's, one far away.

    Written out in float64: each row's softmax is over the two of the batch and those it is
    compared with, all three as published.
    """
    objective, batch, _ = built(
        queue=5, queue_apart_km=apart, one_way=True, soft_km=None, jitter_degrees=0.0, chunk=None
    )
    batch = batch.select(slice(0, 2))
    batch.weight = batch.weight.double()
    batch.lonlat = torch.tensor([[10.0, 50.0], [179.9, -20.0]], dtype=torch.float64)
    earlier = torch.tensor([[10.0, 50.0], [-179.8, -19.9], [100.0, -30.0]], dtype=torch.float64)
    doubled(objective).train()
    assert objective.queue is not None
    objective.queue.add(earlier, torch.ones(3, dtype=torch.bool))
    objective.queue.take(lambda rows: rows)
    seen: dict[str, Tensor] = {}
    objective.projector.register_forward_hook(lambda m, a, out: seen.update(image=out))
    out = objective(batch, batch.rng)
    image = functional.normalize(seen["image"].detach(), dim=1)
    place = functional.normalize(objective.location(torch.cat([batch.lonlat, earlier])), dim=1)
    logits = objective.scale.log.exp() * image @ place.T
    columns = [[0, 1, 3, 4], [0, 1, 2, 4]] if apart else [list(range(5))] * 2
    wanted = -sum(logits[row, its].log_softmax(0)[row] for row, its in enumerate(columns))
    assert isinstance(wanted, Tensor)
    assert out.loss_sum.item() == pytest.approx(wanted.item(), rel=1e-12)
    assert out.metrics["queue_compared"].item() / 2 == pytest.approx(0.4 if apart else 0.6)


def test_validation_of_one_way_is_that_of_the_images() -> None:
    figures = []
    for one_way in (False, True):
        objective, batch, _ = built(soft_km=None, one_way=one_way, queue=5)
        objective.eval()
        filled(objective)
        with torch.no_grad():
            figures.append(objective.judged(objective.compared(batch)).figures)
        objective(batch, batch.rng)
        assert objective.queue is not None
        assert not objective.queue._waiting  # only training takes places in
    both, images = figures
    assert images.pop("loss") == images["loss_image"]
    assert both.pop("loss") == pytest.approx((both["loss_image"] + both["loss_place"]) / 2)
    assert images == both


@pytest.mark.parametrize("queue", [None, 5])
def test_chunks_give_the_gradient_of_the_whole_batch(queue: int | None) -> None:
    """Defect: accumulation that compares with the samples of a chunk alone."""
    whole, batch, _ = built(chunk=None, queue=queue)
    loss, want = gradients(filled(whole), batch)
    for chunk in (1, 4):
        cut, _, _ = built(chunk=chunk, queue=queue)
        found, got = gradients(filled(cut), batch)
        assert found == pytest.approx(loss, rel=1e-6)
        assert want.keys() == got.keys()
        # a single number of a small gradient shows the order of additions
        size = torch.cat([x.flatten() for x in want.values()]).norm()
        apart = torch.cat([(got[name] - want[name]).flatten() for name in want]).norm()
        assert apart <= 1e-5 * size


def test_chunks_keep_less() -> None:
    kept = []
    for chunk in (None, 2):
        objective, batch, _ = built(chunk=chunk)
        number = 0

        def count(x: Tensor) -> Tensor:
            nonlocal number
            number += x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
            objective(batch, batch.rng)
        kept.append(number)
    assert kept[1] < kept[0]


def test_a_place_that_is_not_known_counts_nothing() -> None:
    objective, batch, _ = built(soft_km=None, chunk=None)
    assert batch.lonlat is not None
    lonlat = batch.lonlat.clone()
    lonlat[2] = float("nan")
    some = objective(replace(batch, lonlat=lonlat), batch.rng)
    rows = [0, 1, 3, 4, 5]
    fewer = MicroBatch(
        {m: x[rows] for m, x in batch.pixels.items()},
        batch.weight[rows],
        {},
        batch.rng.select(torch.tensor(rows)),
        lonlat=batch.lonlat[rows],
    )
    alone = objective(fewer, fewer.rng)
    assert some.weight.item() == alone.weight.item() == 5
    assert some.loss_sum.item() == pytest.approx(alone.loss_sum.item(), rel=1e-5)
    nowhere = objective(replace(batch, lonlat=None), batch.rng)
    assert nowhere.weight.item() == 0
    assert nowhere.loss_sum.item() == 0


def test_what_is_found_is_told_beside_samples_without_a_place() -> None:
    """Defect: a key without a place has no cosine, and every search stops at it."""
    objective, batch, _ = built(soft_km=None, chunk=None)
    assert batch.lonlat is not None
    lonlat = batch.lonlat.clone()
    lonlat[2] = float("nan")
    seen: list[Tensor] = []
    objective.projector.register_forward_hook(lambda m, a, out: seen.append(out))
    objective.location.register_forward_hook(lambda m, a, out: seen[-1])  # all find their own
    found = objective(replace(batch, lonlat=lonlat), batch.rng).metrics
    assert found["found_place"] == found["found_image"] == 5


def test_places_that_stand_twice_are_counted() -> None:
    """Without soft targets they are each other's wrong answers."""
    objective, batch, _ = built(soft_km=None, chunk=None)
    assert batch.lonlat is not None
    assert objective(batch, batch.rng).metrics["same_place"] == 0
    lonlat = batch.lonlat.double()
    lonlat[1] = torch.tensor([9.5, 50.25])
    lonlat[3] = lonlat[1] + 2e-6  # the same metre
    lonlat[4] = lonlat[5] = float("nan")
    twice = replace(batch, lonlat=lonlat)
    assert objective(twice, batch.rng).metrics["same_place"] == 2
    twice.weight = torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0, 1.0])  # the other could not be read
    assert objective(twice, batch.rng).metrics["same_place"] == 0


def test_a_frozen_encoder_stays_as_it_is() -> None:
    """Defect: frozen weights whose batch norms go on counting (SatCLIP's own code)."""
    case = OBJECTIVES["satclip"]
    objective = case.build()
    objective.train()
    batch = case.batch(objective)
    before = {n: x.clone() for n, x in objective.backbone.state_dict().items()}
    objective(batch, batch.rng).loss_sum.backward()
    after = objective.backbone.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(p.grad is None for p in objective.backbone.parameters())
    assert objective.location.first.weight.grad is not None


def test_a_tuned_encoder_learns() -> None:
    """Defect: frozen whatever is asked for (GeoCLOSP asks a method whether it is true)."""
    objective, batch, _ = built()
    _, found = gradients(objective, batch)
    trained = {name for name in found if name.startswith("backbone.")}
    assert trained == {f"backbone.{name}" for name, _ in objective.backbone.named_parameters()}


def test_soft_targets_follow_great_circles() -> None:
    objective, _, _ = built(soft_km=100.0, jitter_degrees=0.0)
    lonlat = torch.tensor([[0.0, 60.0], [1.0, 60.0], [180.0, 60.0]])
    far = fm.geo.great_circle_m(lonlat[:1].numpy(), lonlat[1:2].numpy())
    right = objective._right(lonlat)
    assert right.diagonal().tolist() == [1.0, 1.0, 1.0]
    assert right[0, 1].item() == pytest.approx(np.exp(-float(far.item()) / 1e5), rel=1e-3)
    assert right[0, 2].item() < 1e-12


def test_distances_are_great_circles() -> None:
    a = torch.tensor([[0.0, 0.0], [10.0, 89.9], [179.99, 0.0], [5.0, 45.0]], dtype=torch.float64)
    b = torch.tensor([[180.0, 0.0], [-170.0, 89.9], [-179.99, 0.0], [5.0, 45.0001]])
    found = distances_km(a, b).diagonal()
    want = fm.geo.great_circle_m(a.numpy(), b.double().numpy()) / 1000
    np.testing.assert_allclose(found.numpy(), want, rtol=1e-5)


def test_jitter_goes_to_all_sides_by_the_same_way_on_the_ground() -> None:
    """Defect: SatCLIP adds to both coordinates, whatever the latitude."""
    count = 4000
    for lat in (0.0, 60.0, 89.0):
        lonlat = torch.tensor([[20.0, lat]], dtype=torch.float64).expand(count, 2)
        moved = jittered(lonlat, rng(count), 0.5)
        north = (moved - lonlat)[:, 1]
        east = (moved - lonlat)[:, 0] * np.cos(np.deg2rad(lat))
        for way in (north, east):
            assert way.abs().max() <= 0.5 + 1e-9
            assert abs(float(way.mean())) < 0.03
            assert float(way.std()) == pytest.approx(0.5 / np.sqrt(3), rel=0.05)


def test_jitter_stays_on_the_sphere() -> None:
    lonlat = torch.tensor([[-179.999, 89.999], [179.999, -89.999], [float("nan")] * 2])
    for seed in range(20):
        draws = CounterRng(seed, torch.zeros(3, dtype=torch.int64), torch.arange(3))
        moved = jittered(lonlat, draws, 0.01)
        assert moved[2].isnan().all()
        assert (moved[:2, 1].abs() <= 90).all()
        assert ((moved[:2, 0] >= -180) & (moved[:2, 0] < 180)).all()


def test_views_are_as_published_unless_more_is_asked_for() -> None:
    """Defect: the colour effects of other contrasts by default, which change what a place is."""

    def view(**given: object) -> PlaceView:
        return SatCLIPConfig.model_validate({"view": given} if given else {}).view

    kinds = ("optical", "hyperspectral", "radar", "other")
    changing = {"colour_chance", "grey", "noise_chance", "speckle_chance", "solarise", "gain_db"}
    some: dict[str, object] = {
        "size": 12,
        "optical": {"blur": [0.1, 1.0]},
        "radar": {"blur": [1, 2]},
    }
    for made in (view(), view(size=12), view(**some)):
        for effects in (made.effects(kind) for kind in kinds):
            asked = {k: getattr(effects, k) for k in changing if hasattr(effects, k)}
            assert asked
            assert not any(asked.values()), asked
            assert effects.blur_chance == 1.0
        assert made.flips == "square"
    assert view().whole
    assert not view(size=12).resize
    assert view(size=12, scale=[0.5, 1.0]).resize
    asked = view(optical={"colour_chance": 0.5}).optical
    assert (asked.colour_chance, asked.brightness, asked.grey) == (0.5, 0.4, 0.0)
    again = SatCLIPConfig.model_validate(SatCLIPConfig(view=view(size=12)).model_dump(mode="json"))
    assert again.view == view(size=12)


def test_no_view_changes_what_a_sample_reflects_on_the_whole() -> None:
    """In physical units: turned, cut and blurred, the mean of a smooth sample stays."""
    objective, batch, _ = built(view={})
    made = draw_view(
        batch, batch.rng, "image", objective.config.view, bands=objective.backbone.bands
    )
    still = draw_view(batch, batch.rng, "image", whole_view(None), bands=objective.backbone.bands)
    for modality, x in made.pixels.items():
        before = still.pixels[modality].mean(dim=(2, 3))
        assert torch.allclose(x.mean(dim=(2, 3)), before, rtol=0.05)
        assert not torch.equal(x, still.pixels[modality])


def test_wrong_settings_are_one_line() -> None:
    case = OBJECTIVES["satclip-times"]
    with pytest.raises(UsageError, match=r"objective\.chunk: the batch norms"):
        replace(case, config={**case.config, "chunk": 2}).build()
    with pytest.raises(UsageError, match="above largest_scale"):
        built(scale=200.0)
    with pytest.raises(UsageError, match=r"objective\.location: there is no location encoding"):
        built(location={"encoding": "harmonics"})
    with pytest.raises(UsageError, match=r"objective\.location\.options\.dim: "):
        built(location={"options": {"dim": 3}})
    with pytest.raises(UsageError, match=r"objective\.location: sh: L='x'"):
        built(location={"options": {"L": "x"}})
    with pytest.raises(UsageError, match=r"give objective\.queue too"):
        built(queue_apart_km=5.0)
    with pytest.raises(UsageError, match="with soft_km a place nearby"):
        built(queue_apart_km=5.0, queue=5, soft_km=100.0)
    with pytest.raises(UsageError, match=r"may wait 3\.16 km from"):
        built(queue_apart_km=3.0, queue=5, soft_km=None, jitter_degrees=0.01)
    with pytest.raises(UsageError, match="a frozen image encoder has to know something"):
        load_config("satclip_tiny", ["objective.image=frozen"])


def test_options_of_harmonics_are_not_given_to_other_encodings() -> None:
    wrap, _, _ = built(location={"encoding": "wrap", "width": 16})
    assert wrap.location.encoding.dim == 4
    learned = {"encoding": "rff", "width": 16, "options": {"count": 3, "learnable": True}}
    rff, _, _ = built(location=learned)
    assert "location.first.encoding.frequencies" in dict(rff.named_parameters())
    assert LocationConfig().options == {"L": 10}


def test_a_run_leaves_a_location_encoder_behind(tmp_path: Path, tiny_dataset: Path) -> None:
    """Tuned, then frozen from its export: what is in `RUN/location` is what was learned."""

    def trained(name: str, **changes: object) -> Path:
        values = {
            "name": name,
            "out": str(tmp_path / name),
            "data": {"path": str(tiny_dataset), "batch_size": 8, "modalities": ["s2l1c_10"]},
            "model": {"name": "vit_nano", "token_m": 60, "options": {"depth": 1, "width": 32}},
            "objective": {"kind": "satclip", "width": 8, "view": {"size": 24}, **changes},
            "augment": {"dihedral": False},
            "engine": {"precision": "fp32"},
            "schedule": {"steps": 2, "warmup": 0},
            "monitor": {"pictures": 0, "tensorboard": False},
        }
        if name == "frozen":
            values["init_from"] = str(tmp_path / "tuned" / "export")
        run(RunConfig.model_validate(values))
        return tmp_path / name

    small = {"width": 16, "options": {"L": 4}}
    tuned = trained("tuned", image="tuned", location=small)
    frozen = trained("frozen", location=small, chunk=4, soft_km=20.0)
    learned = []
    for folder in (tuned, frozen):
        state = location.load(folder / "location").state_dict()
        found = RunFolder(folder).latest()
        assert found is not None
        checkpoint, position = found
        stored = ModelFiles(checkpoint / TAG, position.zero_stage).weights("objective.location.")
        values = dict(stored.values(stored.order()))
        assert values.keys() == state.keys()
        pair = location.pair(folder)
        head, files = pair.head, ModelFiles(checkpoint / TAG, position.zero_stage)
        assert torch.equal(head.weight, files.tensor("objective.projector.weight"))
        assert torch.equal(head.bias, files.tensor("objective.projector.bias"))
        assert head.scale == pytest.approx(float(files.tensor("objective.scale.log").exp()))
        assert (head.size, head.resize) == (24, False)
        assert all(torch.equal(values[name], state[name]) for name in state)
        learned.append(state["first.weight"])
    assert not torch.equal(*learned)
    told = describe(frozen / "location")
    assert told["name"] == "frozen"
    assert told["data"]["samples"] == 24
    assert told["training"]["steps"] == 2
    before, after = (load_file(f / "export" / "model.safetensors") for f in (tuned, frozen))
    assert all(torch.equal(before[name], after[name]) for name in before)
    encoder = get_encoder(f"location:{frozen / 'location'}", None)
    assert encoder.name == "frozen"
    assert encoder(np.array([[10.0, 50.0]])).shape == (1, 8)
