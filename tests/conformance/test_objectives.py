"""What every objective must hold: additive losses, known weights, nothing from a global generator.

T numbers are those of the conformance list; each docstring names the published defect it catches.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fm.errors import UsageError
from fm.models import Inputs
from pretrain.engine.batches import MicroBatch
from pretrain.engine.engine import check_passes
from pretrain.objective import Objective
from pretrain.objectives.mae import MAE, normalise_target
from tests.conformance.objectives import (
    ALONE,
    MASKED,
    OBJECTIVES,
    SUPERVISED,
    TAUGHT,
    ObjectiveCase,
)

Built = tuple[ObjectiveCase, Objective]
ADDITIVE = MASKED | SUPERVISED | TAUGHT


@pytest.fixture(params=OBJECTIVES, ids=str)
def built(request: pytest.FixtureRequest) -> Built:
    case = OBJECTIVES[request.param]
    return case, case.build()


def gradients(objective: Objective, batch: MicroBatch) -> tuple[float, dict[str, Tensor]]:
    """Return the loss and the gradient of each parameter."""
    objective.zero_grad()
    loss = objective(batch, batch.rng).loss_sum
    loss.backward()
    found = {n: p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None}
    return loss.item(), found


def test_weight_is_known_before_the_forward_pass(built: Built) -> None:
    case, objective = built
    batch = case.batch(objective, 3)
    batch.weight[0] = 0
    assert objective(batch, batch.rng).weight.item() == objective.weight(batch).item() > 0


def test_t6_same_samples_same_loss(built: Built) -> None:
    """T6. Defect: masks drawn from the process's generator, so a resumed run sees others."""
    case, objective = built
    batch = case.batch(objective, 3)
    torch.manual_seed(1)
    first = objective(batch, batch.rng).loss_sum
    torch.manual_seed(2)
    assert torch.equal(objective(batch, batch.rng).loss_sum, first)
    other = replace(batch, rng=replace(batch.rng, seed=8))
    assert torch.equal(objective(other, other.rng).loss_sum, first) != case.drawn


@pytest.mark.parametrize("name", ADDITIVE)
def test_t10_losses_and_gradients_add_up_over_any_split(name: str) -> None:
    """T10. Defect: a mean of means, or a draw for the batch: ranks change what is learned."""
    case, objective = ADDITIVE[name], ADDITIVE[name].build()
    whole = case.batch(objective)
    whole.weight[3] = 0.5
    loss, gradient = gradients(objective, whole)
    parts = [gradients(objective, whole.select(rows)) for rows in (slice(0, 3), slice(3, 4))]
    assert sum(part[0] for part in parts) == pytest.approx(loss, rel=1e-5)
    for name, want in gradient.items():
        got = torch.as_tensor(sum(part[1][name] for part in parts))
        # float32 sums that cancel are off by what they are made of, not by what is left
        atol = 1e-5 * max(1.0, float(want.abs().max()))
        assert torch.allclose(got, want, rtol=1e-3, atol=atol), name


@pytest.mark.parametrize("name", ALONE)
def test_norms_of_maps_do_with_a_batch_of_one_sample(name: str) -> None:
    """Defect: a run on large images, one at a time, is refused as if samples were compared."""
    case, objective = ALONE[name], ALONE[name].build()
    check_passes(objective, 1, 1, 1)
    with pytest.raises(UsageError, match=r"leave engine\.micro_batch out"):
        check_passes(objective, 1, 2, 1)
    loss, gradient = gradients(objective, case.batch(objective, 2).select(slice(0, 1)))
    assert loss > 0
    first = gradient[next(n for n, _ in objective.named_parameters() if n in gradient)]
    assert first.isfinite().all()
    assert first.any()


def test_a_sample_that_could_not_be_read_counts_nothing(built: Built) -> None:
    case, objective = built
    batch = case.batch(objective)
    batch.weight[2] = 0
    loss = objective(batch, batch.rng).loss_sum
    for x in batch.pixels.values():
        x[2] = 5.0
    assert torch.allclose(objective(batch, batch.rng).loss_sum, loss, rtol=1e-5)
    batch.weight[2] = 1
    assert not torch.allclose(objective(batch, batch.rng).loss_sum, loss, rtol=1e-2)


def test_t7_what_is_invalid_is_neither_seen_nor_a_target(built: Built) -> None:
    """T7. Defect: no data told by a value, after clipping: dark pixels are lost (LESS ViT v2)."""
    case, objective = built
    batch = case.batch(objective)
    torch.manual_seed(3)
    valid = {m: torch.rand_like(x) > 0.3 for m, x in batch.pixels.items()}
    spoiled = {m: torch.where(valid[m], x, 9.0) for m, x in batch.pixels.items()}
    told = replace(batch, valid=valid)
    loss, gradient = gradients(objective, told)
    again, other = gradients(objective, replace(told, pixels=spoiled))
    assert again == loss
    assert all(torch.equal(other[name], gradient[name]) for name in gradient)
    assert objective(batch, batch.rng).loss_sum.item() != pytest.approx(loss, rel=1e-4)


def test_t7_targets_are_the_physical_values_again(built: Built) -> None:
    """T7. Defect: targets quantised to 8 bits on the way (SatMAE, SatMAE++)."""
    case, objective = built
    batch = case.batch(objective, 2)
    mixing = {member.modality: basis for member, basis in objective.backbone.bases()}
    for sample, panels in enumerate(objective.eval().panels(batch, batch.rng)):
        for panel in panels:
            modality = panel.modality.rpartition(" of ")[2]
            basis = mixing.get(modality)
            image = torch.from_numpy(panel.image).double()
            if basis is not None:  # all components are kept, so bands follow from them
                image = torch.einsum("ck,khw->chw", basis.matrix.double().inverse(), image)
            normalisation = objective.backbone.normalisation[modality]
            shift = torch.tensor(normalisation.shift)[:, None, None]
            scale = torch.tensor(normalisation.scale)[:, None, None]
            physical = image * scale + shift
            stored = batch.pixels[modality][sample].double()
            if stored.ndim == 4:  # a series: its images one below the other
                stored = torch.cat(list(stored), dim=-2)
            given = torch.nn.functional.avg_pool2d(stored, case.factor)
            assert torch.allclose(physical, given, atol=1e-6 if basis is None else 1e-5)


@pytest.mark.parametrize(
    "name", [n for n, c in OBJECTIVES.items() if c.backbone.options.get("metadata")]
)
def test_t11_missing_metadata_touch_their_own_sample_only(name: str) -> None:
    """T11. Defect: one NaN switches metadata off for the whole batch (Copernicus-FM)."""
    objective = OBJECTIVES[name].build()
    batch = OBJECTIVES[name].batch(objective)
    lonlat = torch.tensor([[7.0, 50.0], [8.0, 51.0], [-120.0, 3.0], [0.0, 0.0]])
    time = torch.full((4,), 1.6e9, dtype=torch.float64)
    holed = lonlat.clone()
    holed[1] = float("nan")
    complete = replace(batch, lonlat=lonlat, time=time)
    some = replace(complete, lonlat=holed)
    assert objective(some, some.rng).loss_sum != objective(complete, batch.rng).loss_sum
    batch.weight[1] = 0
    assert objective(some, some.rng).loss_sum == objective(complete, batch.rng).loss_sum
    assert objective(some, some.rng).loss_sum != objective(batch, batch.rng).loss_sum


def test_every_parameter_learns(built: Built) -> None:
    case, objective = built
    batch = case.batch(objective)
    told = replace(
        batch,
        lonlat=torch.tensor([[7.0, 50.0], [float("nan")] * 2, [9.0, 1.0], [1.0, 2.0]]),
        time=torch.tensor([1.6e9, 1.5e9, float("nan"), 1.4e9], dtype=torch.float64),
    )
    gradients(objective, told)
    still = [n for n, p in objective.named_parameters() if p.grad is None or not p.grad.any()]
    frozen = [n for n, p in objective.named_parameters() if not p.requires_grad]
    assert sorted(still) == sorted(frozen)


def test_exports_its_backbone_or_that_of_its_teacher(built: Built) -> None:
    _, objective = built
    model = objective.exported()["backbone"]
    followed = {id(teacher) for student, teacher, _ in objective.momentum_pairs()}
    assert model is objective.backbone or id(model) in followed
    assert objective.get_submodule(objective.model_place) is model


@pytest.mark.parametrize("name", [n for n, c in OBJECTIVES.items() if c.config["kind"] == "mae"])
def test_a_perfect_prediction_has_no_loss(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions cut from the image at the predicted tokens meet their own targets."""
    objective = OBJECTIVES[name].build()
    assert isinstance(objective, MAE)

    def perfect(_: Tensor, inputs: Inputs, numbers: dict[str, Tensor], chosen: object) -> dict:
        made = {}
        for group, index in numbers.items():
            truth = objective.backbone.embedding(group).patches(inputs, None)
            rows = torch.arange(len(index))[:, None]
            cut = {m: x[rows, index] for m, x in truth.items()}
            kind = objective.config.target
            made[group] = {m: normalise_target(x, kind=kind) for m, x in cut.items()}
        return made

    monkeypatch.setattr(objective, "_read", perfect)
    batch = OBJECTIVES[name].batch(objective, 3)
    assert objective(batch, batch.rng).loss_sum.item() < 1e-6
