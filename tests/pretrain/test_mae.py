"""The MAE objective against a float64 reference written from the formulas."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fm.errors import UsageError
from fm.models import create_model
from fm.models.positions import sincos_1d, sincos_2d
from fm.rng import CounterRng
from fm.sensors import sensor
from pretrain.masking import TokenMasks
from pretrain.objectives.mae import MAE
from pretrain.objectives.masked import MAEConfig
from tests.pretrain.batches import backbone, mae, s2_batch
from tests.pretrain.satmae import DECODER, MODALITY, batch, grouped, satmae


def test_masks_are_disjoint_exact_in_number_and_per_sample() -> None:
    objective = mae(mask_ratio=0.75)
    batch = s2_batch(6)
    masks = objective.masks(batch.pixels, batch.rng, 1.0)
    keep, predict = masks.keep, masks.predict
    assert keep["s2l1c"].shape == (6, 4)
    assert predict["s2l1c"].shape == (6, 12)
    together = torch.cat([keep["s2l1c"], predict["s2l1c"]], dim=1).sort(dim=1).values
    assert torch.equal(together, torch.arange(16).expand(6, 16))
    assert len({tuple(row.tolist()) for row in keep["s2l1c"].sort(dim=1).values}) > 1


@pytest.mark.parametrize("decoder", ["cross", "joint"])
def test_loss_depends_on_visible_input_and_on_masked_targets_only(decoder: str) -> None:
    """Gradient of the loss with respect to the pixels of visible and of masked tokens."""
    objective = mae(target="pixel", decoder={"kind": decoder})
    batch = s2_batch(2)
    pixels = {m: (x.float() * 1e-4).requires_grad_() for m, x in batch.pixels.items()}
    masks = objective.masks(pixels, batch.rng, 1.0)
    predicted = objective._predict(objective.inputs(replace(batch, pixels=pixels)), masks)
    sum(p.sum() for p in predicted["s2l1c"].values()).backward()
    gradient = pixels["s2l1c_10"].grad
    touched = gradient.abs().amax(dim=1).reshape(2, 4, 12, 4, 12).amax(dim=(2, 4)).flatten(1) > 0
    for b in range(2):
        assert touched[b].nonzero()[:, 0].tolist() == sorted(masks.keep["s2l1c"][b].tolist())


def test_visible_tokens_are_no_target() -> None:
    objective = mae(target="pixel").eval()
    batch = s2_batch(1)
    keep = objective.masks(batch.pixels, batch.rng, 1.0).keep
    predicted = objective._predict(objective.inputs(batch), TokenMasks(keep, keep))
    base = objective(batch, batch.rng).loss_sum
    # moving the bias of a head changes the loss through masked tokens only
    assert base.requires_grad
    assert predicted["s2l1c"]["s2l1c_10"].shape[1] == keep["s2l1c"].shape[1]
    assert objective.weight(batch).item() == 12


def test_micro_batches_sum_to_the_whole() -> None:
    objective = mae()
    whole = s2_batch(4)
    out = objective(whole, whole.rng)
    parts = []
    for rows in (slice(0, 1), slice(1, 4)):
        rng = whole.rng.select(rows)
        part = replace(
            whole, pixels={m: x[rows] for m, x in whole.pixels.items()}, weight=whole.weight[rows]
        )
        parts.append(objective(part, rng))
    assert torch.allclose(sum(p.loss_sum for p in parts), out.loss_sum, rtol=1e-6)
    assert sum(p.weight.item() for p in parts) == out.weight.item() == 4 * 12


def test_quarantined_samples_count_nothing() -> None:
    objective = mae()
    batch = s2_batch(3)
    alone = replace(batch, pixels={m: x[:2] for m, x in batch.pixels.items()}, weight=torch.ones(2))
    spoiled = {m: x.clone() for m, x in batch.pixels.items()}
    for x in spoiled.values():
        x.view(torch.int16)[2] = 0
    masked = replace(batch, pixels=spoiled, weight=torch.tensor([1.0, 1.0, 0.0]))
    a = objective(alone, batch.rng.select(slice(0, 2)))
    b = objective(masked, batch.rng)
    assert a.weight.item() == b.weight.item()
    assert torch.allclose(a.loss_sum, b.loss_sum, rtol=1e-6)


@pytest.mark.parametrize("decoder", ["cross", "joint"])
def test_decoder_tells_positions_apart(decoder: str) -> None:
    """Predictions at different masked positions differ: the decoder is not position-blind."""
    objective = mae(decoder={"kind": decoder}).eval()
    batch = s2_batch(1)
    masks = objective.masks(batch.pixels, batch.rng, 1.0)
    made = objective._predict(objective.inputs(batch), masks)["s2l1c"]["s2l1c_10"][0].flatten(1)
    distance = torch.cdist(made, made) + torch.eye(len(made))
    assert distance.min() > 1e-4


def test_cross_decoder_predictions_do_not_depend_on_each_other() -> None:
    objective = mae().eval()
    batch = s2_batch(1)
    masks = objective.masks(batch.pixels, batch.rng, 1.0)
    whole = objective._predict(objective.inputs(batch), masks)["s2l1c"]["s2l1c_20"]
    some = TokenMasks(masks.keep, {"s2l1c": masks.predict["s2l1c"][:, :3]})
    few = objective._predict(objective.inputs(batch), some)["s2l1c"]["s2l1c_20"]
    assert torch.allclose(whole[:, :3], few, atol=1e-5)  # products of other shapes
    with pytest.raises(UsageError, match="kind=cross"):
        mae(decoder={"kind": "joint", "predict": 0.5})


def test_two_sensors_are_masked_on_their_own_and_reported() -> None:
    model = backbone(("sentinel2-l1c", "sentinel1-grd"))
    objective = MAE(model, MAEConfig())
    batch = s2_batch(2)
    radar = -14 + torch.randn(2, 2, 48, 48)
    batch.pixels["s1grd_10"] = radar
    keep = objective.masks(batch.pixels, batch.rng, 1.0).keep
    assert not torch.equal(keep["s2l1c"], keep["s1grd"])
    out = objective(batch, batch.rng)
    assert set(out.metrics) == {"loss_s2l1c", "loss_s1grd"}
    parts = [out.metrics[m].item() / out.weight.item() for m in out.metrics]
    assert np.isclose(np.mean(parts), out.loss_sum.item() / out.weight.item(), rtol=1e-5)


def test_panels_show_visible_pixels_unchanged() -> None:
    objective = mae().eval()
    batch = s2_batch(2)
    panels = objective.panels(batch, batch.rng)
    assert [p.modality for p in panels[0]] == ["s2l1c_10", "s2l1c_20", "s2l1c_60"]
    for panel in panels[1]:
        assert panel.shown.mean() == 0.25
        assert np.array_equal(panel.image[:, panel.shown], panel.predicted[:, panel.shown])
        assert not np.allclose(panel.image[:, ~panel.shown], panel.predicted[:, ~panel.shown])


def test_panels_leave_out_what_is_not_known() -> None:
    objective = mae().eval()
    batch = s2_batch(2)
    known = torch.ones(2, 48, 48, dtype=torch.bool)
    known[:, 5:20, 7] = False
    batch = replace(batch, valid={"s2l1c_10": known})
    for sample, want in zip(objective.panels(batch, batch.rng), known.numpy(), strict=True):
        first = sample[0]
        assert (np.isfinite(first.image) == want).all()
        assert np.isfinite(first.predicted[:, ~first.shown]).all()
        assert all(np.isfinite(other.image).all() for other in sample[1:])


def test_adapter_reads_only_kept_pixels() -> None:
    """A hyperspectral model's adapter sees K tokens, not the image (counted in the first layer)."""
    model = create_model(
        "vit_nano",
        bands=sensor("aviris-indian-pines"),
        token_m=20,
        tokenizer="spectral_adapter",
        depth=1,
    )
    objective = MAE(model, MAEConfig(mask_ratio=0.75, target="pixel"))
    rows = []
    first = model.patch_embed["aviris"].embed["aviris_20"].spectral[0]
    first.register_forward_hook(lambda _m, inputs, _o: rows.append(len(inputs[0])))
    pixels = {"aviris_20": torch.randn(2, 200, 8, 8)}
    rng = CounterRng(0, torch.zeros(2, dtype=torch.int64), torch.arange(2))
    from pretrain.engine.batches import MicroBatch

    objective(MicroBatch(pixels, torch.ones(2), {}, rng), rng)
    assert rows == [2 * 16]


def test_joint_decoder_equals_decoding_all_tokens_in_image_order() -> None:
    """The paper puts mask tokens in place and decodes the whole sequence; ours, in any order."""
    objective = satmae(decoder={"kind": "joint", "width": 32, "depth": 2, "heads": 2}).eval()
    given = batch(24)
    inputs = objective.inputs(given)
    masks = objective.masks(inputs.pixels, given.rng, 1.0)
    backbone = objective.backbone
    tokens, _ = backbone.embed(inputs, keep=masks.keep)
    encoded = objective.decoder_embed(backbone.trunk(backbone.prefix(inputs), tokens)[0])
    codes = torch.cat(list(backbone.position_codes(inputs, 32).values()))
    for b in range(2):
        place = torch.cat([masks.keep[f"g{g}"][b] + 9 * g for g in range(3)])
        whole = objective.mask_token[0].expand(27, -1).clone()
        whole[place] = encoded[b, 1:]
        first = encoded[b, :1] + backbone.prefix_code(torch.device("cpu"), 32)
        x = torch.cat([first, whole + codes])[None]
        for block in objective.decoder.blocks:
            x = block(x)
        want = objective.decoder.norm(x)[0, 1:]
        ours = objective._predict(inputs, masks)
        for g in range(3):
            index = masks.predict[f"g{g}"][b] + 9 * g
            made = objective.heads[f"g{g}"][MODALITY](want[index])
            assert torch.allclose(ours[f"g{g}"][MODALITY][b].flatten(1), made, atol=1e-5)


def test_satmae_decoder_codes_are_concatenated_and_cls_has_a_row_of_its_own() -> None:
    """arXiv 2207.08051: 384 channels tell the place, 128 the group; cls has zeros and row G."""
    backbone = grouped("vit_large", width=1024, depth=1, heads=16, group_code_width=256)
    inputs = backbone.inputs(batch(24).pixels)
    assert [c.shape for c in backbone.position_codes(inputs).values()] == [(9, 1024)] * 3
    place = sincos_2d(384, 3, 3)
    for number, code in enumerate(backbone.position_codes(inputs, 512).values()):
        row = sincos_1d(128, torch.tensor([float(number)]))
        assert torch.equal(code, torch.cat([place, row.expand(9, -1)], dim=1))
    alone = backbone.prefix_code(torch.device("cpu"), 512)
    assert torch.equal(alone[:384], torch.zeros(384))
    assert torch.equal(alone[384:], sincos_1d(128, torch.tensor([3.0]))[0])
    base = grouped("vit_base", width=768, depth=1, heads=12, group_code_width=256)
    wide = base.position_codes(base.inputs(batch(24).pixels), 512, 128)["g1"]
    assert torch.equal(wide, list(backbone.position_codes(inputs, 512).values())[1])


def test_tokens_without_valid_values_weigh_nothing() -> None:
    """The left column of tokens has no data in any band, single values lack elsewhere."""
    objective = satmae(mask="flat")
    given = batch(24, count=3)
    valid = torch.rand(3, 10, 24, 24, generator=torch.Generator().manual_seed(5)) > 0.2
    valid[..., :8] = False
    told = replace(given, valid={MODALITY: valid})
    told.weight[2] = 0.5
    out = objective(told, told.rng)
    assert out.weight.item() == objective.weight(told).item()
    masks = objective.masks(given.pixels, given.rng, 1.0)
    counted = masks.counted()
    number = [
        sum((masks.predict[g][b][counted[g][b]] % 3 > 0).sum().item() for g in counted)
        for b in range(3)
    ]
    assert out.weight.item() == number[0] + number[1] + 0.5 * number[2]
    assert out.weight.item() < objective.weight(replace(told, valid=None)).item()
    holed = torch.where(valid, given.pixels[MODALITY], float("nan"))
    again = objective(replace(told, pixels={MODALITY: holed}), told.rng)
    assert torch.equal(again.loss_sum, out.loss_sum)
    again.loss_sum.backward()
    assert all(torch.isfinite(p.grad).all() for p in objective.parameters())


@pytest.mark.parametrize("kind", ["joint", "cross"])
def test_decoder_does_not_see_visible_tokens_without_data(kind: str) -> None:
    objective = satmae(decoder={**DECODER, "kind": kind}).eval()
    given = batch(24, count=1)
    masks = objective.masks(given.pixels, given.rng, 1.0)
    row, column = divmod(masks.keep["g0"][0, 0].item(), 3)
    valid = torch.ones(1, 10, 24, 24, dtype=torch.bool)
    valid[:, [0, 1, 2, 6], row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = False
    inputs = objective.inputs(replace(given, valid={MODALITY: valid}))
    base = objective._predict(inputs, masks)["g1"][MODALITY]
    # what stands in for such a token comes from the first weights; other groups do not change
    with torch.no_grad():
        objective.backbone.embedding("g0").member_tokenizer(MODALITY).proj.bias += 1.0
    alone = TokenMasks({**masks.keep, "g0": masks.keep["g0"][:, :1]}, masks.predict)
    first = objective._predict(inputs, alone)["g1"][MODALITY]
    with torch.no_grad():
        objective.backbone.embedding("g0").member_tokenizer(MODALITY).proj.bias += 1.0
    assert torch.equal(objective._predict(inputs, alone)["g1"][MODALITY], first)
    assert not torch.equal(objective._predict(inputs, masks)["g1"][MODALITY], base)


@pytest.mark.parametrize("mask", ["group", "flat", "consistent"])
def test_panels_of_groups_show_what_was_seen(mask: str) -> None:
    objective = satmae(mask=mask).eval()
    given = batch(24)
    for panels in objective.panels(given, given.rng):
        assert [p.image.shape[0] for p in panels] == [4, 4, 2]
        assert sum(p.shown.mean() for p in panels) == pytest.approx(
            7 / 9 if mask == "flat" else 6 / 9
        )
        for panel in panels:
            assert np.array_equal(panel.image[:, panel.shown], panel.predicted[:, panel.shown])
            assert (panel.image[:, ~panel.shown] != panel.predicted[:, ~panel.shown]).all()
