"""Hyper-MAE: masks, channels of a step, targets, and a loss that counts each hidden cell once."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from fm.errors import UsageError
from fm.models import create_model
from fm.normalize import Normalisation
from fm.rng import CounterRng
from fm.sensors import Band, sensor
from pretrain.engine.batches import MicroBatch
from pretrain.engine.groups import parameter_groups
from pretrain.objectives import build_objective
from pretrain.objectives.hyper_mae import HyperMAE, HyperMAEConfig, sampled_range, seen_channels
from tests.pretrain.batches import backbone

S1 = sensor("sentinel1-grd").bands
DECODER = {"width": 32, "depth": 1, "heads": 2}


def optical(count: int) -> tuple[Band, ...]:
    step = 1900 / max(count - 1, 1)
    return tuple(
        Band(f"x{i}", 450 + i * step, 20.0, 10.0, "reflectance", None, "s2l1c_10")
        for i in range(count)
    )


def hyper(
    bands: dict[str, Sequence[Band]] | None = None,
    model: dict[str, object] | None = None,
    **config: object,
) -> HyperMAE:
    given = {"s2l1c_10": optical(8)} if bands is None else bands
    torch.manual_seed(0)
    made = create_model(
        "less_nano",
        bands=given,
        token_m=40,
        normalisation={m: Normalisation("zscore", (0.5,) * len(b), (0.3,) * len(b))
                       for m, b in given.items()},
        **{"width": 32, "depth": 1, "heads": 2, "finer_frequencies": True, **(model or {})},
    )  # fmt: skip
    settings = HyperMAEConfig.model_validate({"decoder": DECODER, **config})
    objective = build_objective(settings, made)
    assert isinstance(objective, HyperMAE)
    return objective


def batch_of(objective: HyperMAE, count: int = 3, side: int = 16, step: int = 0) -> MicroBatch:
    generator = torch.Generator().manual_seed(3)
    pixels = {
        m: torch.rand((count, len(b), side, side), generator=generator)
        for m, b in objective.backbone.bands.items()
    }
    rng = CounterRng(7, torch.zeros(count, dtype=torch.int64), torch.arange(count))
    return MicroBatch(pixels, torch.ones(count), {}, rng, step=step)


def masks_of(objective: HyperMAE, batch: MicroBatch):
    inputs = objective.inputs(batch)
    return objective.masks(objective.axis(inputs, batch.rng, batch.step), batch.rng)


def hidden_of(objective: HyperMAE, batch: MicroBatch) -> tuple[Tensor, Tensor]:
    masks = masks_of(objective, batch)
    return masks.hidden_channels[:, :, None], masks.hidden_positions[:, None]


def test_it_needs_a_less_vit() -> None:
    with pytest.raises(UsageError, match="hyper_mae needs a LESS ViT, the model is vit_nano"):
        build_objective(HyperMAEConfig(), backbone())


def test_numbers_of_channels() -> None:
    assert sampled_range(120, (0.7, 0.8)) == (24, 36)
    assert sampled_range(13, (0.7, 0.8)) == (3, 3)
    assert sampled_range(4, (0.7, 0.8)) == (2, 2)
    assert sampled_range(1, (0.7, 0.8)) == (1, 1)
    assert sampled_range(10, (0.0, 0.5)) == (5, 10)
    assert [seen_channels(n, 0.75) for n in (1, 2, 3, 8, 36, 120)] == [1, 2, 2, 2, 9, 30]


@pytest.mark.parametrize("shares", [(0.8, 0.7), (-0.1, 0.5), (0.5, 1.0)])
def test_impossible_shares_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match="0 <= LEAST <= LARGEST < 1"):
        HyperMAEConfig(channel_sampling=shares)
    with pytest.raises(ValidationError, match="takes no position_weight"):
        HyperMAEConfig(legacy_double_count=True, channel_weight=2.0)


def test_a_step_has_one_set_of_channels_whatever_the_micro_batch_or_rank() -> None:
    objective = hyper({"s2l1c_10": optical(40)}, channel_sampling=(0.5, 0.8))
    batch = batch_of(objective, 4, step=5)
    inputs = objective.inputs(batch)
    whole = objective.axis(inputs, batch.rng, batch.step)
    for part in batch.split(1):
        assert part.step == 5
        own = objective.inputs(part)
        assert objective.axis(own, part.rng, part.step) == whole
    steps = [objective.axis(inputs, batch.rng, step).bands for step in range(30)]
    assert len(set(steps)) == 30
    counts = {len(bands) for bands in steps}
    assert min(counts) >= 8
    assert max(counts) <= 20
    assert len(counts) > 5
    other = CounterRng(8, batch.rng.epochs, batch.rng.positions)
    assert objective.axis(inputs, other, 5).bands != whole.bands


def test_masks_are_of_the_sample_and_not_of_its_batch() -> None:
    objective = hyper()
    batch = batch_of(objective, 4)
    channel, position = hidden_of(objective, batch)
    assert channel.sum(dim=1).flatten().tolist() == [6] * 4
    assert position.sum(dim=2).flatten().tolist() == [12] * 4
    assert len({tuple(row.flatten().tolist()) for row in channel}) > 1
    assert len({tuple(row.flatten().tolist()) for row in position}) > 1
    alone = hidden_of(objective, batch.split(1)[2])
    assert torch.equal(alone[0][0], channel[2])
    assert torch.equal(alone[1][0], position[2])


@pytest.mark.parametrize("model", [{}, {"codes": "sum"}, {"perception_m": 50.0}])
def test_the_encoder_sees_kept_cells_only(model: dict[str, object]) -> None:
    objective = hyper(model=model)
    batch = batch_of(objective)
    channel, position = hidden_of(objective, batch)
    hidden = (channel | position).unflatten(2, (4, 4))
    hidden = hidden.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    inputs = objective.inputs(batch)
    masks = masks_of(objective, batch)
    want = torch.cat([x.flatten() for x in objective.predict(inputs, masks)])
    for cells, same in ((hidden, True), (~hidden, False)):
        pixels = {"s2l1c_10": batch.pixels["s2l1c_10"] + cells.float()}
        made = objective.predict(objective.inputs(replace(batch, pixels=pixels)), masks)
        assert torch.equal(torch.cat([x.flatten() for x in made]), want) == same


def loss_of_predictions(
    objective: HyperMAE, batch: MicroBatch, monkeypatch: pytest.MonkeyPatch, offset: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return the mean loss when predictions are the pixels plus `offset`, and the predictions."""
    axis = objective.axis(objective.inputs(batch), batch.rng, batch.step)
    index = list(axis.parts[0].channels)
    x = (batch.pixels["s2l1c_10"][:, index] - 0.5) / 0.3
    cells = x.unflatten(3, (4, 4)).unflatten(2, (4, 4)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    leaf = (cells + offset).requires_grad_()
    monkeypatch.setattr(objective, "predict", lambda inputs, masks: [leaf])
    out = objective(batch, batch.rng)
    return out.loss_sum / out.weight, leaf


def test_gradients_reach_exactly_the_hidden_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = hyper({"s2l1c_10": optical(20)}, channel_sampling=(0.4, 0.5))
    batch = batch_of(objective, step=2)
    channel, position = hidden_of(objective, batch)
    loss, leaf = loss_of_predictions(objective, batch, monkeypatch, offset=0.5)
    loss.backward()
    moved = leaf.grad.ne(0).all(dim=(-2, -1)).transpose(1, 2)
    assert torch.equal(moved, channel | position)
    assert torch.equal(leaf.grad.ne(0).any(dim=(-2, -1)).transpose(1, 2), moved)


def test_a_perfect_prediction_has_no_loss_and_each_hidden_cell_counts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objective = hyper()
    batch = batch_of(objective)
    loss, leaf = loss_of_predictions(objective, batch, monkeypatch)
    assert loss.item() < 1e-9
    errors = torch.rand(3, 16, 8, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(
        objective, "predict", lambda inputs, masks: [leaf + errors[..., None, None].sqrt()]
    )
    out = objective(batch, batch.rng)
    channel, position = hidden_of(objective, batch)
    hidden = (channel | position).transpose(1, 2)
    assert out.weight.item() == hidden.sum().item() == 3 * (8 * 12 + 6 * 4)
    assert out.weight.item() == objective.weight(batch).item()
    assert out.loss_sum.item() == pytest.approx(errors[hidden].sum().item(), rel=1e-5)
    means = {
        "loss_position": errors[position.transpose(1, 2).expand_as(hidden)].mean(),
        "loss_channel": errors[(channel & ~position).transpose(1, 2)].mean(),
    }
    for name, want in means.items():
        got = out.metrics[name] / out.weight
        assert got.item() == pytest.approx(want.item(), rel=1e-5)


def test_weights_of_the_two_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = hyper(position_weight=0.5, channel_weight=2.0)
    batch = batch_of(objective)
    loss_of_predictions(objective, batch, monkeypatch, offset=1.0)
    out = objective(batch, batch.rng)
    want = 3 * (8 * 12 * 0.5 + 6 * 4 * 2.0)
    assert out.weight.item() == objective.weight(batch).item() == want
    assert out.loss_sum.item() == pytest.approx(want, rel=1e-5)


def test_the_published_loss_counts_twice_and_is_an_option(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objective = hyper(legacy_double_count=True)
    batch = batch_of(objective)
    _, leaf = loss_of_predictions(objective, batch, monkeypatch)
    errors = torch.rand(3, 16, 8, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(
        objective, "predict", lambda inputs, masks: [leaf + errors[..., None, None].sqrt()]
    )
    channel, position = hidden_of(objective, batch)
    want = 0.0
    for b in range(3):
        by_position = errors[b].mean(dim=1)[position[b, 0]].mean()
        by_channel = errors[b].mean(dim=0)[channel[b, :, 0]].mean()
        want += float(by_position + by_channel)
    out = objective(batch, batch.rng)
    assert out.loss_sum.item() == pytest.approx(want, rel=1e-5)
    assert out.weight.item() == objective.weight(batch).item() == 3


def test_the_published_loss_averages_optical_and_radar() -> None:
    objective = hyper({"s2l1c_10": optical(8), "s1grd_10": S1}, legacy_double_count=True)
    batch = batch_of(objective, 1)
    masks = masks_of(objective, batch)
    errors = torch.rand(1, 10, 16, generator=torch.Generator().manual_seed(1))
    channel, position = masks.hidden_channels[0], masks.hidden_positions[0]
    terms: dict[str, list[Tensor]] = {"position": [], "channel": []}
    for own in (slice(0, 8), slice(8, 10)):
        terms["position"].append(errors[0, own][:, position].mean())
        if channel[own].any():
            terms["channel"].append(errors[0, own][channel[own]].mean())
    want = sum(float(torch.stack(x).mean()) for x in terms.values())
    assert objective._double(errors, masks, None).item() == pytest.approx(want, rel=1e-5)


def test_zero_is_a_value_and_invalid_pixels_are_no_target(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objective = hyper()
    batch = batch_of(objective)
    batch.pixels["s2l1c_10"].zero_()
    loss, _ = loss_of_predictions(objective, batch, monkeypatch, offset=1.0)
    assert loss.item() == pytest.approx(1.0)
    valid = torch.ones(3, 8, 16, 16, dtype=torch.bool)
    valid[:, :, :4] = False  # a row of positions
    valid[:, :, 5] = False  # a line of pixels in the next
    batch = replace(batch, valid={"s2l1c_10": valid})
    spoilt = batch.pixels["s2l1c_10"].masked_fill(~valid, float("nan"))
    _, leaf = loss_of_predictions(objective, batch, monkeypatch, offset=1.0)
    batch = replace(batch, pixels={"s2l1c_10": spoilt})
    out = objective(batch, batch.rng)
    channel, position = hidden_of(objective, batch)
    hidden = channel | position
    hidden[:, :, :4] = False
    assert out.weight.item() == objective.weight(batch).item() == hidden.sum().item()
    assert (out.loss_sum / out.weight).item() == pytest.approx(1.0)
    out.loss_sum.backward()
    assert not leaf.grad[:, :4].any()


def test_losses_add_up_over_micro_batches() -> None:
    objective = hyper({"s2l1c_10": optical(20)}, channel_sampling=(0.4, 0.7))
    batch = batch_of(objective, 4, step=3)
    valid = torch.rand(batch.pixels["s2l1c_10"].shape, generator=torch.Generator().manual_seed(4))
    batch = replace(batch, valid={"s2l1c_10": valid > 0.3})
    batch.weight[1] = 0
    whole = objective(batch, batch.rng)
    parts = [objective(part, part.rng) for part in batch.split(1)]
    assert sum(p.loss_sum.item() for p in parts) == pytest.approx(whole.loss_sum.item(), rel=1e-4)
    assert sum(p.weight.item() for p in parts) == pytest.approx(whole.weight.item())
    assert whole.weight.item() == pytest.approx(objective.weight(batch).item())


@torch.no_grad()
@pytest.mark.parametrize("model", [{}, {"codes": "sum"}, {"perception_m": 50.0}])
def test_masked_positions_and_wavelengths_are_told_apart(model: dict[str, object]) -> None:
    """The published v2 decoder predicted all masked positions, and all masked channels, alike."""
    objective = hyper(model=model)
    batch = batch_of(objective, 1)
    inputs, masks = objective.inputs(batch), masks_of(objective, batch)
    made = objective.predict(inputs, masks)[0][0].flatten(2)
    made = made[masks.hidden_positions[0]][:, masks.hidden_channels[0]]
    for cells in (made[:, 0], made[0]):
        assert (torch.cdist(cells, cells) + torch.eye(len(cells))).min() > 1e-4


@torch.no_grad()
def test_permuted_bands_with_their_metadata_permute_the_predictions() -> None:
    bands = optical(6)
    order = [4, 0, 5, 2, 1, 3]
    objective = hyper({"s2l1c_10": bands})
    other = hyper({"s2l1c_10": tuple(bands[i] for i in order)})
    other.load_state_dict(objective.state_dict())
    batch = batch_of(objective, 1)
    masks = masks_of(objective, batch)
    moved = replace(batch, pixels={"s2l1c_10": batch.pixels["s2l1c_10"][:, order]})
    inputs = other.inputs(moved)
    place = torch.tensor([[order.index(int(c)) for c in masks.channels[0]]])
    same = replace(masks, axis=other.backbone.axis(inputs), channels=place)
    want = objective.predict(objective.inputs(batch), masks)[0][:, :, order]
    assert torch.allclose(other.predict(inputs, same)[0], want, atol=1e-5)
    blind = other.predict(objective.inputs(moved), masks)[0]
    assert not torch.allclose(blind, want, atol=1e-4)


def test_every_parameter_learns_on_optical_and_radar() -> None:
    objective = hyper({"s2l1c_10": optical(8), "s1grd_10": S1}, channel_mask=0.5)
    batch = batch_of(objective, 4)
    objective(batch, batch.rng).loss_sum.backward()
    still = [n for n, p in objective.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
    for modality in ("s2l1c_10", "s1grd_10"):  # what a step of a mixture may bring
        alone = replace(batch, pixels={modality: batch.pixels[modality]})
        assert torch.isfinite(objective(alone, alone.rng).loss_sum)


@pytest.mark.parametrize("count", [1, 2, 13, 235])
def test_any_number_of_bands_is_trained_on(count: int) -> None:
    objective = hyper({"s2l1c_10": optical(count)}, channel_sampling=(0.7, 0.8))
    batch = batch_of(objective, 2)
    out = objective(batch, batch.rng)
    assert torch.isfinite(out.loss_sum)
    assert out.weight.item() == objective.weight(batch).item() > 0


def test_pictures_show_predictions_at_hidden_cells_only() -> None:
    objective = hyper(target="band", channel_sampling=(0.5, 0.6))
    batch = batch_of(objective, 2)
    panel = objective.panels(batch, batch.rng)[1][0]
    masks = objective.masks(objective.backbone.axis(objective.inputs(batch)), batch.rng)
    changed = torch.from_numpy(panel.predicted != panel.image)
    cells = changed.unflatten(2, (4, 4)).unflatten(1, (4, 4)).any(dim=(2, 4)).flatten(1)
    hidden = masks.hidden_channels[1][:, None] | masks.hidden_positions[1]
    assert torch.equal(cells, hidden)
    assert panel.shown.mean() == 0.25


def test_tokens_and_codes_are_not_decayed() -> None:
    objective = hyper({"s2l1c_10": optical(8), "s1grd_10": S1})
    decayed = {id(p) for p in parameter_groups(objective, 0.05)[0]["params"]}
    for name, parameter in objective.named_parameters():
        assert (id(parameter) in decayed) == (name.endswith("weight") and parameter.ndim == 2), name
