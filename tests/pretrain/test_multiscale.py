"""SatMAE++: the head against primitive operations, what is a target, and which band is where."""

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fm.errors import UsageError
from pretrain.masking import TokenMasks, Window
from pretrain.objectives.crop import Crop
from pretrain.objectives.multiscale import halved, normalised
from pretrain.objectives.upsample import MultiScaleHead, reach
from tests.pretrain.batches import backbone, mae, s2_batch
from tests.pretrain.satmae import DECODER, MODALITY, batch, grouped, satmae, satmaepp


def channel_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    mean = x.mean(dim=1, keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=1, keepdim=True)
    return (x - mean) / (variance + 1e-6).sqrt() * weight[:, None, None] + bias[:, None, None]


def convolved(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve by an explicit sum over the kernel's places, zeros around the image."""
    reach = weight.shape[-1] // 2
    padded = functional.pad(x, [reach] * 4)
    height, width = x.shape[-2:]
    total = bias[:, None, None].expand(len(x), -1, height, width).clone()
    for i in range(weight.shape[-2]):
        for j in range(weight.shape[-1]):
            part = padded[..., i : i + height, j : j + width]
            total += torch.einsum("bchw,dc->bdhw", part, weight[:, :, i, j])
    return total


def doubled(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Spread each pixel over 4 x 4 places of an image of twice the size, cut by one all around."""
    count, _, height, width = x.shape
    wide = x.new_zeros(count, weight.shape[1], 2 * height + 2, 2 * width + 2)
    for i in range(4):
        for j in range(4):
            part = torch.einsum("bchw,cd->bdhw", x, weight[:, :, i, j])
            wide[:, :, i : i + 2 * height : 2, j : j + 2 * width : 2] += part
    return wide[..., 1:-1, 1:-1] + bias[:, None, None]


@torch.no_grad()
def test_head_equals_primitive_operations_in_float64() -> None:
    torch.manual_seed(0)
    head = MultiScaleHead(3, 2).double()
    for parameter in head.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    w = head.state_dict()
    image = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    x = convolved(image, w["enter.weight"], w["enter.bias"])
    x = x * 0.5 * (1 + torch.erf(x / 2**0.5))
    x = channel_norm(x, w["norm.norm.weight"], w["norm.norm.bias"])
    for i, made in enumerate(head(image)):
        p = {k.removeprefix(f"blocks.{i}."): v for k, v in w.items()}
        x = doubled(x, p["up.weight"], p["up.bias"])
        x = channel_norm(x, p["up_norm.norm.weight"], p["up_norm.norm.bias"])
        x = torch.where(x > 0, x, 0.01 * x)
        inner = convolved(x, p["first.weight"], p["first.bias"]).clamp(min=0)
        x = x + 0.5 * convolved(inner, p["second.weight"], p["second.bias"])
        x = channel_norm(x, p["norm.norm.weight"], p["norm.norm.bias"])
        want = convolved(x, p["image.weight"], p["image.bias"])
        assert made.shape[-2:] == (5 * 2 ** (i + 1), 4 * 2 ** (i + 1))
        assert torch.allclose(made, want, atol=1e-12)


def test_head_of_the_sentinel_configuration_has_the_published_size() -> None:
    assert sum(p.numel() for p in MultiScaleHead(10, 2).parameters()) == 117_100


def test_halving_is_bilinear_and_leaves_out_invalid_values() -> None:
    objective = satmaepp()
    given = batch(64)
    whole = objective.backbone.inputs(given.pixels)
    half = halved(whole)
    want = functional.interpolate(
        given.pixels[MODALITY], scale_factor=0.5, mode="bilinear", align_corners=False
    )
    assert torch.allclose(half.pixels[MODALITY], want, atol=1e-6)
    assert halved(half).gsd == {MODALITY: 40.0}
    x = torch.tensor([[1.0, 3.0], [100.0, float("nan")]]).expand(1, 10, 2, 2)
    mask = torch.tensor([[True, True], [False, False]]).expand(1, 10, 2, 2)
    none = torch.zeros_like(mask)
    pixels = {MODALITY: torch.cat([x, x])}
    holed = halved(objective.backbone.inputs(pixels, valid={MODALITY: torch.cat([mask, none])}))
    assert (holed.pixels[MODALITY][0] == 2).all()
    assert holed.valid[MODALITY].flatten(1).all(dim=1).tolist() == [True, False]
    with pytest.raises(UsageError, match="33x33 px cannot"):
        halved(objective.backbone.inputs(batch(33).pixels))
    with pytest.raises(UsageError, match="by 4"):
        objective.grids(batch(34).pixels)


def test_tokens_are_counted_on_what_the_encoder_takes() -> None:
    objective = satmaepp()
    assert objective.grids(batch(96).pixels) == dict.fromkeys(("g0", "g1", "g2"), (3, 3))
    assert objective.weight(batch(96)).item() == 2 * 3 * 7


def ramp(side: int) -> tuple:
    """A batch whose band k is k everywhere, and what the heads must say for it."""
    given = batch(side)
    given.pixels[MODALITY][:] = torch.arange(10.0)[:, None, None]
    return given, {"g0": [0, 1, 2, 6], "g1": [3, 4, 5, 7], "g2": [8, 9]}


@torch.no_grad()
def test_t1_outputs_stand_for_the_bands_of_their_own_group() -> None:
    """Heads that give their own group's bands have no loss, and the image its bands in order."""
    given, truth = ramp(96)
    for objective, size in ((satmae(), 24), (satmaepp(), 96)):
        for name, values in truth.items():
            head = objective.heads[name][MODALITY]
            head.weight.zero_()
            head.bias.copy_(torch.tensor(values).float().repeat_interleave(64))
        one = replace(given, pixels={MODALITY: given.pixels[MODALITY][..., :size, :size]})
        out = objective(one, one.rng)
        assert out.metrics.get("tokens", out.loss_sum).item() < 1e-8
    inputs = objective.inputs(given)
    masks = objective.masks(inputs.pixels, given.rng, 1.0)
    images, hidden = objective.canvas(inputs, masks, objective._predict(inputs, masks))
    assert (images[MODALITY] == torch.arange(10.0)[:, None, None]).all()
    assert hidden[MODALITY].float().mean().item() == pytest.approx(7 / 9)


def test_t1_gradient_reaches_the_masked_group_only() -> None:
    """Only tokens of one group are hidden: its head alone learns, and all of it."""
    objective = satmae()
    given = batch(24)
    every, none = torch.arange(9).expand(2, 9), torch.zeros(2, 0, dtype=torch.int64)
    for name in ("g0", "g1", "g2"):
        keep = {g: none if g == name else every for g in ("g0", "g1", "g2")}
        masks = TokenMasks(keep, {g: every if g == name else none for g in keep})
        objective.zero_grad()
        with mock.patch.object(objective, "masks", lambda *_, masks=masks: masks):
            objective(given, given.rng).loss_sum.backward()
        for group, heads in objective.heads.items():
            moved = heads[MODALITY].bias.grad != 0
            assert moved.all() if group == name else not moved.any()


@torch.no_grad()
def test_released_decoders_say_the_bands_in_the_order_of_the_image() -> None:
    """Slots of the first group are natural bands 0 to 3, and so on."""
    given, _ = ramp(96)
    objective = satmaepp(legacy_channel_order=True, scale_loss="all")
    for number, values in enumerate(([0, 1, 2, 3], [4, 5, 6, 7], [8, 9])):
        head = objective.heads[f"g{number}"][MODALITY]
        head.weight.zero_()
        head.bias.copy_(torch.tensor(values).float().repeat_interleave(64))
    assert objective(given, given.rng).metrics["tokens"].item() < 1e-8
    inputs = objective.inputs(given)
    masks = objective.masks(inputs.pixels, given.rng, 1.0)
    seen, asked = objective._decode(inputs, masks, everywhere=True)
    visible = objective._read(seen, inputs, masks.keep, masks.seen)
    predicted = objective._read(asked, inputs, masks.predict, masks.asked)
    images, _ = objective.canvas(inputs, masks, predicted, visible)
    assert (images[MODALITY] == torch.arange(10.0)[:, None, None]).all()
    with pytest.raises(UsageError, match="scale_loss=all"):
        satmaepp(legacy_channel_order=True)
    with pytest.raises(UsageError, match="one modality"):
        mae(legacy_channel_order=True)


@pytest.mark.parametrize("kind", ["masked", "all"])
@pytest.mark.parametrize("holes", [False, True])
def test_scale_errors_equal_the_formula(kind: str, holes: bool) -> None:
    objective = satmaepp(scale_loss=kind)
    given = batch(96)
    valid = np.ones((2, 10, 96, 96), dtype=bool)
    if holes:
        valid = np.random.default_rng(0).random(valid.shape) > 0.3
        valid[1, 2] = False
        given = replace(given, valid={MODALITY: torch.from_numpy(valid)})
    levels = objective.pyramid(given)
    masks = objective.masks(levels[0].pixels, given.rng, 1.0)
    with torch.no_grad():
        _, hidden = objective.canvas(levels[0], masks, objective._predict(levels[0], masks))
    torch.manual_seed(3)
    made = {MODALITY: [torch.randn(2, 10, 48, 48), torch.randn(2, 10, 96, 96)]}
    ours = objective.scale_errors(made, levels[1:], hidden)
    for b in range(2):
        scales = []
        for step, guess in enumerate(made[MODALITY]):
            truth = normalised(levels[step + 1], MODALITY)[b].double().numpy()
            level = levels[step + 1].valid[MODALITY][b].numpy() if holes else np.ones_like(truth)
            where = hidden[MODALITY][b].numpy().repeat(2 ** (step + 1), 1)
            where = where.repeat(2 ** (step + 1), 2) | (kind == "all")
            used = where & level.astype(bool)
            error = np.abs(guess[b].double().numpy() - truth)
            scales.append(np.mean([error[c][used[c]].mean() for c in range(10) if used[c].any()]))
        assert ours[b].item() == pytest.approx(np.mean(scales), rel=1e-5)


def test_loss_weighs_tokens_and_scales() -> None:
    out = {w: satmaepp(token_weight=w, scale_weight=0.4) for w in (0.0, 0.6)}
    given = batch(96)
    parts = out[0.6](given, given.rng)
    want = 0.6 * parts.metrics["tokens"] + 0.4 * parts.metrics["scales"]
    assert parts.loss_sum.item() == pytest.approx(want.item(), rel=1e-6)
    assert out[0.0](given, given.rng).loss_sum.item() == pytest.approx(
        0.4 * parts.metrics["scales"].item(), rel=1e-6
    )


def test_detail_of_visible_tokens_is_a_target_of_all_pixels_only() -> None:
    """Detail that the down-sampled input does not show changes the loss where it is a target."""
    given = batch(96, count=1)
    board = (torch.arange(96)[:, None] + torch.arange(96)) % 2 * 2.0 - 1
    for kind, changes in (("masked", False), ("all", True)):
        objective = satmaepp(scale_loss=kind)
        masks = objective.masks(objective.inputs(given).pixels, given.rng, 1.0)
        base = objective(given, given.rng).loss_sum.item()
        for tokens, moves in ((masks.keep["g0"], changes), (masks.predict["g0"], True)):
            row, column = divmod(tokens[0, 0].item(), 3)
            place = (slice(row * 32, row * 32 + 32), slice(column * 32, column * 32 + 32))
            other = given.pixels[MODALITY].clone()
            other[0, 0][place] += board[place]
            moved = objective(replace(given, pixels={MODALITY: other}), given.rng).loss_sum.item()
            assert (abs(moved - base) > 1e-3) == moves


def test_a_part_of_the_tokens_leaves_the_mean_of_what_is_seen() -> None:
    """Cross decoder on a third: input where seen, predictions where asked, the band's mean else."""
    objective = satmaepp(decoder={**DECODER, "kind": "cross", "predict": 1 / 3})
    given = batch(96, count=1)
    inputs = objective.inputs(given)
    masks = objective.masks(inputs.pixels, given.rng, 1 / 3)
    predicted = objective._predict(inputs, masks)
    images, hidden = objective.canvas(inputs, masks, predicted)
    truth = normalised(inputs, MODALITY)
    band = images[MODALITY][0, 0].unfold(0, 8, 8).unfold(1, 8, 8).flatten(0, 1)
    real = truth[0, 0].unfold(0, 8, 8).unfold(1, 8, 8).flatten(0, 1)
    keep, asked = masks.keep["g0"][0], masks.predict["g0"][0]
    assert torch.equal(band[keep], real[keep])
    assert torch.equal(band[asked], predicted["g0"][MODALITY][0, :, 0])
    rest = [n for n in range(9) if n not in keep.tolist() + asked.tolist()]
    assert len(rest) == 5
    assert torch.allclose(band[rest], real[keep].mean())
    assert hidden[MODALITY][0, 0].sum().item() == 2 * 64
    with pytest.raises(UsageError, match="predict=1"):
        satmaepp(scale_loss="all", decoder={**DECODER, "kind": "cross", "predict": 0.5})


def test_bands_on_native_grids_have_a_head_each() -> None:
    objective = satmaepp(backbone(token_m=120), scales=1, decoder={**DECODER, "kind": "cross"})
    given = s2_batch(2)
    given.pixels = {m: x.float().repeat(1, 1, 2, 2) * 1e-4 for m, x in given.pixels.items()}
    out = objective(given, given.rng)
    out.loss_sum.backward()
    assert set(objective.scale_heads) == {"s2l1c_10", "s2l1c_20", "s2l1c_60"}
    assert all(p.grad.any() for p in objective.scale_heads.parameters())


def test_positions_in_metres_know_the_coarser_grid() -> None:
    options = {"width": 32, "depth": 1, "heads": 2, "positions": "metres", "reference_m": 80.0}
    objective = satmaepp(grouped(**options))
    fine = objective.backbone.position_codes(objective.backbone.inputs(batch(24).pixels))["g0"]
    coarse = objective.backbone.position_codes(objective.inputs(batch(96)))["g0"]
    # one token of the encoder's image covers four of the stored one along each side
    wide = objective.backbone.position_codes(objective.backbone.inputs(batch(96).pixels))["g0"]
    assert torch.allclose(coarse.reshape(3, 3, -1), wide.reshape(12, 12, -1)[::4, ::4], atol=1e-6)
    assert not torch.allclose(coarse, fine)


WINDOW = {**DECODER, "kind": "cross", "predict": 0.3, "where": "window"}


@torch.no_grad()
@pytest.mark.parametrize("scales", [1, 2, 3])
def test_the_head_around_a_window_makes_what_it_makes_of_the_whole(scales: int) -> None:
    """At every place, also at borders; and one pixel less around it would not do."""
    torch.manual_seed(0)
    head = MultiScaleHead(3, scales).double()
    image = torch.randn(6, 3, 24, 40, dtype=torch.float64)
    starts = torch.tensor([[0, 0], [0, 7], [1, 3], [4, 0], [4, 6], [4, 7]])
    window = Window(starts, (2, 3), (6, 10))
    whole, wrong = head(image), 0.0
    for margin in (reach(scales), reach(scales) - 1):
        part = Crop.around(window, image, margin)
        for step, made in enumerate(head(part(image))):
            factor = 2 ** (step + 1)
            for b, (row, column) in enumerate((starts * 4).tolist()):
                want = whole[step][b][:, row * factor :, column * factor :]
                row, column = row - part.start[b, 0], column - part.start[b, 1]
                got = made[b][:, row * factor :, column * factor :]
                cut = (slice(None), slice(8 * factor), slice(12 * factor))
                error = (got[cut] - want[cut]).abs().max().item()
                if margin == reach(scales):
                    assert error < 1e-12
                wrong = max(wrong, error)
    assert wrong > 1e-6


@pytest.mark.parametrize("holes", [False, True])
def test_a_window_has_the_loss_of_the_whole_image(holes: bool) -> None:
    objective, given = satmaepp(decoder=WINDOW), batch(160)
    if holes:
        valid = torch.rand(2, 160, 160, generator=torch.Generator().manual_seed(0)) > 0.3
        given = replace(given, valid={MODALITY: valid})
    part = objective(given, given.rng)
    assert part.weight == objective.weight(given)
    whole = mock.Mock(side_effect=lambda window, *given: given)
    with mock.patch.object(objective, "_around", whole):
        full = objective(given, given.rng)
    assert whole.called
    assert part.loss_sum.item() == pytest.approx(full.loss_sum.item(), rel=1e-6)
    parameters = dict(objective.named_parameters())
    for a, b in zip(
        torch.autograd.grad(part.loss_sum, list(parameters.values()), allow_unused=True),
        torch.autograd.grad(full.loss_sum, list(parameters.values()), allow_unused=True),
        strict=True,
    ):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, atol=1e-5)


def test_a_window_of_everything_is_refused() -> None:
    with pytest.raises(UsageError, match=r"where=window needs objective\.decoder\.predict below 1"):
        satmaepp(decoder={**WINDOW, "predict": 1.0})
