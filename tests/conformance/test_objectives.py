"""What every objective must hold: aligned targets, identifiable masks, additive losses."""

from dataclasses import replace

import pytest
import torch

from fm.models import Inputs
from pretrain.objective import Objective
from pretrain.objectives.mae import MAE, normalise_target
from tests.pretrain.batches import mae, s2_batch

OBJECTIVES = {
    "mae-cross": lambda: mae(),
    "mae-joint": lambda: mae(decoder={"kind": "joint"}),
    "mae-pixel-partial": lambda: mae(target="pixel", decoder={"predict": 0.4}),
}


@pytest.fixture(params=OBJECTIVES, ids=str)
def objective(request: pytest.FixtureRequest) -> Objective:
    return OBJECTIVES[request.param]()


def test_weight_is_known_before_the_forward_pass(objective: Objective) -> None:
    batch = s2_batch(3)
    batch.weight[0] = 0
    assert objective(batch, batch.rng).weight.item() == objective.weight(batch).item() > 0


def test_same_samples_same_loss(objective: Objective) -> None:
    batch = s2_batch(3)
    torch.manual_seed(1)
    first = objective(batch, batch.rng).loss_sum
    torch.manual_seed(2)
    assert torch.equal(objective(batch, batch.rng).loss_sum, first)


def test_losses_add_up_over_any_split(objective: Objective) -> None:
    whole = s2_batch(4)
    total = objective(whole, whole.rng).loss_sum.item()
    parts = 0.0
    for rows in (slice(0, 3), slice(3, 4)):
        pixels = {m: x[rows] for m, x in whole.pixels.items()}
        part = replace(whole, pixels=pixels, weight=whole.weight[rows])
        parts += objective(part, whole.rng.select(rows)).loss_sum.item()
    assert parts == pytest.approx(total, rel=1e-5)


def test_a_perfect_prediction_has_no_loss(
    objective: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Predictions cut from the image at the predicted tokens meet their own targets."""
    assert isinstance(objective, MAE)

    def perfect(inputs: Inputs, keep: dict, predict: dict) -> dict:
        made = {}
        for name, index in predict.items():
            truth = objective.backbone.embedding(name).patches(inputs, None)
            rows = torch.arange(len(index))[:, None]
            cut = {m: x[rows, index] for m, x in truth.items()}
            if objective.config.target == "token":
                cut = {m: normalise_target(x) for m, x in cut.items()}
            made[name] = cut
        return made

    monkeypatch.setattr(objective, "_predict", perfect)
    batch = s2_batch(3)
    assert objective(batch, batch.rng).loss_sum.item() < 1e-6


def test_every_parameter_learns(objective: Objective) -> None:
    batch = s2_batch(4)
    objective(batch, batch.rng).loss_sum.backward()
    still = [n for n, p in objective.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_exports_its_backbone(objective: Objective) -> None:
    assert objective.exported()["backbone"] is objective.backbone
