"""DeCUR: what is correlated with what, and the views of two sensors."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fm.checkpoint import load, save
from fm.errors import UsageError
from pretrain.augment import seasons
from pretrain.engine.batches import MicroBatch
from pretrain.objectives.contrast import decur
from pretrain.objectives.contrast.decur import DeCUR
from tests.conformance.backbones import BACKBONES
from tests.conformance.objectives import CONTRASTS, ObjectiveCase

CASE = CONTRASTS["decur"]


def made(case: ObjectiveCase = CASE, **changes: object) -> tuple[DeCUR, MicroBatch]:
    """Build the objective with other settings, and a batch of four."""
    objective = replace(case, config={**case.config, **changes}).build()
    assert isinstance(objective, DeCUR)
    return objective, case.batch(objective)


def correlated(a: Tensor, b: Tensor) -> Tensor:
    """Correlate columns in double."""
    x, y = (
        (z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt() for z in (a.double(), b.double())
    )
    return x.T @ y / len(a)


def test_the_loss_is_the_published_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """(L1 + L2 + (Lc + Lu) / 2) / 3, the cross-modal term between the first views only."""
    objective, batch = made(off_diagonal=0.2, common=0.75)
    generator = torch.Generator().manual_seed(2)
    views = {
        name: (torch.randn(4, 16, generator=generator), torch.randn(4, 16, generator=generator))
        for name in ("ten", "coarser")
    }
    every = torch.ones(4, dtype=torch.bool)
    monkeypatch.setattr(objective, "_embedded", lambda name, *_: (*views[name], every))
    out = objective(batch, batch.rng)
    eye, beside = torch.eye(16).double(), 1 - torch.eye(16).double()
    within = 0.0
    for one, other in views.values():
        c = correlated(one, other)
        within += ((c - eye) * eye).square().sum() + 0.2 * (c * beside).square().sum()
    c = correlated(views["ten"][0], views["coarser"][0])
    shared, unique = c[:12, :12], c[12:, 12:]
    common = ((shared - eye[:12, :12]) * eye[:12, :12]).square().sum()
    common = common + 0.2 * (shared * beside[:12, :12]).square().sum()
    own = unique.diagonal().square().sum() + 0.2 * (unique * beside[12:, 12:]).square().sum()
    want = (within + (common + own) / 2) / 3
    assert (out.loss_sum / out.weight).item() == pytest.approx(want.item(), rel=1e-5)
    assert out.metrics["unique"].item() == pytest.approx(4 * own.item(), rel=1e-5)


def test_each_sensor_has_a_projector_of_its_own() -> None:
    """Defect: projector 1 and 2 made of the same layers."""
    objective, _ = made()
    ten, coarser = (objective.projectors[name] for name in ("ten", "coarser"))
    assert not {id(p) for p in ten.parameters()} & {id(p) for p in coarser.parameters()}
    layers = [type(part).__name__ for part in ten]
    assert layers == ["Linear", "BatchNorm", "ReLU"] * 2 + ["Linear"]
    assert all(part.bias is None for part in ten if isinstance(part, torch.nn.Linear))


def test_views_of_the_sensors_are_drawn_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect: crops or seasons shared, where the sensors should share the place alone."""
    case = CONTRASTS["decur-times"]
    chosen: list[list[Tensor]] = []

    def note(*args: object, **options: object) -> list[Tensor]:
        chosen.append(seasons(*args, **options))  # type: ignore[arg-type]
        return chosen[-1]

    monkeypatch.setattr(decur, "seasons", note)
    objective, batch = made(case)
    objective(batch, batch.rng)
    for first, second in chosen:
        assert (first != second).all()
    assert not torch.equal(chosen[0][0], chosen[1][0])
    chosen.clear()
    together, _ = made(case, same_season=True)
    together(batch, batch.rng)
    assert torch.equal(chosen[0][0], chosen[1][0])
    # an image that one sensor lacks is shown by neither, or their views would be of two seasons
    chosen.clear()
    valid = {m: torch.ones_like(x, dtype=torch.bool) for m, x in batch.pixels.items()}
    for modality in ("s2l1c_20", "s2l1c_60"):
        valid[modality][1:3, 0] = False
        valid[modality][3] = False
    together(replace(batch, valid=valid), batch.rng)
    ten, coarser = (torch.stack(images, dim=1) for images in chosen)
    assert torch.equal(ten[:3], coarser[:3])
    assert (ten[1:3] == 1).all()
    assert ten[3].tolist() in ([0, 1], [1, 0])  # what one sensor alone has it shows


def test_what_is_left_behind_holds_both_sensors(tmp_path: Path) -> None:
    objective, batch = made()
    save(tmp_path / "m", objective.model)
    again = load(tmp_path / "m")
    for name, tower in objective.backbone.towers.items():
        own = {m: x for m, x in batch.pixels.items() if m in tower.bands}  # type: ignore[operator]
        alone = again.encode(own)
        assert list(alone.grid) == [name]
        assert alone.pooled.shape == (4, 32)
        assert torch.allclose(alone.pooled, objective.backbone.eval().encode(own).pooled)


def without_coarser(batch: MicroBatch, rows: object) -> MicroBatch:
    """Say that some samples have no valid pixel of the second sensor."""
    valid = {m: torch.ones_like(x, dtype=torch.bool) for m, x in batch.pixels.items()}
    for modality in ("s2l1c_20", "s2l1c_60"):
        valid[modality][rows] = False  # type: ignore[index]
    return replace(batch, valid=valid)


def test_a_sensor_without_a_valid_pixel_counts_nothing() -> None:
    """Defect: its views are zeros, which are learned from, here and in the batch norms."""
    objective, _ = made()
    batch = without_coarser(CASE.batch(objective, 6), [1, 4])
    seen: dict[str, Tensor] = {}
    for name, projector in objective.projectors.items():
        projector.register_forward_hook(lambda _, given, out, n=name: seen.update({n: out}))
    out = objective(batch, batch.rng)
    ten, coarser = (seen[name].detach().chunk(2) for name in ("ten", "coarser"))
    assert [len(x) for x in (*ten, *coarser)] == [6, 6, 4, 4]
    both = [0, 2, 3, 5]
    size, by = objective.config.width, objective.config.off_diagonal
    eye = torch.eye(size).double()
    weights = eye + by * (1 - eye)
    within = sum((weights * (correlated(*views) - eye).square()).sum() for views in (ten, coarser))
    between = correlated(ten[0][both], coarser[0])
    wanted = torch.diag((torch.arange(size) < objective.common).double())
    kind = torch.arange(size) < objective.common
    alike = kind[:, None] == kind[None, :]
    across = (alike * weights * (between - wanted).square()).sum()
    assert out.loss_sum.item() / 6 == pytest.approx(float(within + across / 2) / 3, rel=1e-4)
    assert out.metrics["one_sensor"].item() == 2


def test_a_sensor_that_no_sample_has_is_not_learned() -> None:
    objective, whole = made()
    for rows in (slice(None), [0, 1, 2]):  # one sample makes no correlation either
        objective.zero_grad()
        batch = without_coarser(whole, rows)
        out = objective(batch, batch.rng)
        assert out.loss_sum.item() == pytest.approx(out.metrics["within_ten"].item() / 3)
        assert out.metrics["within_coarser"] == out.metrics["common"] == out.metrics["unique"] == 0
        out.loss_sum.backward()
        tower = objective.backbone.tower("coarser")
        assert all(p.grad is None or not p.grad.any() for p in tower.parameters())
        grads = [p.grad for p in objective.projectors["coarser"].parameters()]
        assert all(g is None or not g.any() for g in grads)
        tower = objective.backbone.tower("ten")
        assert any(p.grad is not None and p.grad.any() for p in tower.parameters())
    few = without_coarser(whole, [0, 1])
    objective(few, few.rng).loss_sum.backward()
    tower = objective.backbone.tower("coarser")
    assert any(p.grad is not None and p.grad.any() for p in tower.parameters())


def test_two_sensors_with_a_tower_each_are_needed() -> None:
    with pytest.raises(UsageError, match=r"objective\.kind=decur needs a backbone for each"):
        made(replace(CASE, backbone=BACKBONES["vit-linear"]))
    with pytest.raises(UsageError, match=r"got towers_vit_nano of ten, twenty, sixty"):
        made(replace(CASE, backbone=BACKBONES["towers"]))
    with pytest.raises(UsageError, match="no common or no unique"):
        made(common=0.999)
    objective, batch = made()
    with pytest.raises(UsageError, match="no coarser given"):
        objective.grids({"s2l1c_10": batch.pixels["s2l1c_10"]})
