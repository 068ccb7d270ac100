"""The other side of `bench mae` against primitive operations, and against ours with one loss."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bench import mae_satmaepp, mae_spectral
from bench.mae_baselines import SatMAEpp, SpectralEarthMAE, rows
from bench.mae_steps import batch_of, images, stored
from pretrain.masking import TokenMasks
from pretrain.objective import Objective

SPECTRAL = {"side": 16, "batch": 2, "size": "vit_nano", "decoder": (32, 4)}
GROUPED = {"side": 16, "batch": 2, "size": "vit_nano", "decoder": (64, 2, 4), "code": (32, 16)}


def convolved(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
    """A 1-D convolution of `[C, L]` with one zero at both ends, by its definition."""
    padded = np.pad(x, ((0, 0), (1, 1)))
    size = (padded.shape[1] - weight.shape[2]) // stride + 1
    return np.stack(
        [
            np.einsum("oik,ik->o", weight, padded[:, i * stride : i * stride + weight.shape[2]])
            + bias
            for i in range(size)
        ],
        axis=1,
    )


def test_the_spectral_adapter_is_three_convolutions_along_the_spectrum() -> None:
    torch.manual_seed(0)
    model = SpectralEarthMAE(202, 8, width=32, depth=1, heads=2, decoder=(32, 4)).double()
    spectrum = torch.randn(202, dtype=torch.float64)
    maps = model.adapter.eval()(spectrum.view(1, 1, 202, 1, 1)).mean(dim=2).flatten()
    assert sum(p.numel() for p in model.adapter.parameters()) == 56_192
    x = spectrum.numpy()[None]
    lengths = []
    for at, stride in ((0, 5), (3, 5), (6, 3)):
        conv, norm = model.adapter[at], model.adapter[at + 1]
        weight = conv.weight.detach().numpy()[..., 0, 0]
        x = convolved(x, weight, conv.bias.detach().numpy(), stride)
        x = np.maximum(x / np.sqrt(1 + norm.eps), 0)
        lengths.append(x.shape[1])
    assert lengths == [40, 8, 2]
    assert maps.detach().numpy() == pytest.approx(x.mean(axis=1), abs=1e-12)


def test_patches_are_what_the_image_holds() -> None:
    model = SpectralEarthMAE(75, 8, width=32, depth=1, heads=2, decoder=(32, 4))
    x = torch.arange(75 * 64.0).view(1, 75, 8, 8)
    wanted = x[0, :, 4:8, 0:4].flatten()  # row 1, column 0 of 2 x 2
    assert (model.patches(x)[0, 2] == wanted).all()


def copied(mine: torch.nn.Module, theirs: torch.nn.Module) -> None:
    own = theirs.state_dict()
    mine.load_state_dict({key: own[key] for key in mine.state_dict() if key in own}, strict=False)


def with_masks(objective: Objective, masks: TokenMasks) -> None:
    objective.masks = lambda *_: masks  # type: ignore[attr-defined,method-assign]


@torch.no_grad()
def test_spectralearth_style_and_ours_have_one_loss() -> None:
    ours = mae_spectral.objective(SPECTRAL, "joint")
    theirs = mae_spectral.straightforward(SPECTRAL).train(False)
    trunk = ours.backbone
    adapter = trunk.embedding("enmap").member_tokenizer("enmap_30")
    convolutions = [m for m in adapter.modules() if isinstance(m, torch.nn.Conv1d)]
    for dense, narrow in zip(theirs.adapter[::3], convolutions, strict=True):
        dense.weight.copy_(narrow.weight[..., None, None])
        dense.bias.copy_(narrow.bias)
    for norm in theirs.adapter[1::3]:
        norm.eps = 0.0  # ours scales and shifts where the paper normalises by the batch
    theirs.proj.weight.copy_(adapter.proj.weight.view_as(theirs.proj.weight))
    theirs.proj.bias.copy_(adapter.proj.bias)
    for part in (theirs.encoder.blocks, theirs.encoder.norm):
        copied(part, trunk.blocks if part is theirs.encoder.blocks else trunk.norm)
    theirs.encoder.cls_token.copy_(trunk.cls_token)
    copied(theirs.decoder.embed, ours.decoder_embed)
    copied(theirs.decoder.blocks, ours.decoder.blocks)
    copied(theirs.decoder.norm, ours.decoder.norm)
    theirs.decoder.mask_token.copy_(ours.mask_token)
    for code in ours.group_code.values():
        code.zero_()
    copied(theirs.head, ours.heads["enmap"]["enmap_30"])
    order = torch.rand(2, 16).argsort(dim=1)
    assert theirs.kept == 2
    with_masks(ours, TokenMasks({"enmap": order[:, :2]}, {"enmap": order[:, 2:]}))
    pixels = stored(images((2, 202, 16, 16)))
    batch = batch_of({"enmap_30": pixels}, 0)
    out = ours(batch, batch.rng)
    normal = (pixels.float() * 1e-4 - 0.2) / 0.1
    assert float(theirs(normal, order)) == pytest.approx(float(out.loss_sum / out.weight), rel=1e-5)


def head_by_definition(model: SatMAEpp, image: Tensor) -> list[Tensor]:
    """The multi-scale head in primitive operations, float64."""

    def normalised(x: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
        mean = x.mean(1, keepdim=True)
        spread = (x.var(1, keepdim=True, correction=0) + 1e-6).sqrt()
        return (x - mean) / spread * norm.weight[:, None, None] + norm.bias[:, None, None]

    def three(x: Tensor, conv: torch.nn.Conv2d) -> Tensor:
        padded = functional.pad(x, (1, 1, 1, 1))
        shifted = [
            torch.einsum(
                "oi,bihw->bohw",
                conv.weight[:, :, i, j],
                padded[..., i : i + x.shape[-2], j : j + x.shape[-1]],
            )
            for i in range(3)
            for j in range(3)
        ]
        return sum(shifted) + conv.bias[:, None, None]

    def doubled(x: Tensor, conv: torch.nn.ConvTranspose2d) -> Tensor:
        out = x.new_zeros(len(x), conv.weight.shape[1], 2 * x.shape[2] + 2, 2 * x.shape[3] + 2)
        for i in range(4):
            for j in range(4):
                term = torch.einsum("io,bihw->bohw", conv.weight[:, :, i, j], x)
                out[..., i : i + 2 * x.shape[2] : 2, j : j + 2 * x.shape[3] : 2] += term
        return out[..., 1:-1, 1:-1] + conv.bias[:, None, None]

    z = torch.einsum("oi,bihw->bohw", model.expand.weight[..., 0, 0], image)
    z = z + model.expand.bias[:, None, None]
    z = normalised(0.5 * z * (1 + torch.erf(z / 2**0.5)), model.expand_norm)
    found = [image]
    for up in model.ups:
        z = normalised(doubled(z, up.up), up.norm1)
        z = torch.where(z > 0, z, 0.01 * z)
        z = normalised(z + 0.5 * three(three(z, up.conv1).clamp(min=0), up.conv2), up.norm2)
        found.append(three(z, up.out))
    return found


@torch.no_grad()
def test_satmaepp_style_is_the_published_head_and_loss() -> None:
    model = mae_satmaepp.straightforward(GROUPED).double()
    assert (
        sum(p.numel() for p in (*model.expand.parameters(), *model.ups.parameters()))
        + sum(p.numel() for p in model.expand_norm.parameters())
        == 117_100
    )
    decoded = torch.randn(2, 12, 64, dtype=torch.float64)
    made = model.images(decoded)
    # group 1 (B05, B06, B07, B8A are channels 3, 4, 5, 7), token in row 1, column 0, second band
    patch = model.heads[1](decoded[:, 4 + 2]).view(2, 4, 8, 8)[:, 1]
    assert (made[0][:, 4, 8:16, 0:8] - patch).abs().max() < 1e-12
    for a, b in zip(made, head_by_definition(model, made[0]), strict=True):
        assert (a - b).abs().max() < 1e-10
    levels = [torch.randn(2, 10, side, side, dtype=torch.float64) for side in (16, 32, 64)]
    order = torch.rand(2, 12).argsort(dim=1)
    tokens = torch.cat(
        [
            embed(levels[0][:, g]).flatten(2).mT
            for g, embed in zip(model.groups, model.embed, strict=True)
        ],
        dim=1,
    )
    made = model.images(model.decoder(model.encoder(tokens, order[:, :3]), order))
    masked = []
    for sample in range(2):
        for token in order[sample, 3:].tolist():
            group, place = model.groups[token // 4], token % 4
            row, column = 8 * (place // 2), 8 * (place % 2)
            where = (sample, group, slice(row, row + 8), slice(column, column + 8))
            masked.append((made[0][where] - levels[0][where]).square().mean())
    fine = 0.5 * (made[1] - levels[1]).abs().mean() + 0.5 * (made[2] - levels[2]).abs().mean()
    wanted = 0.6 * torch.stack(masked).mean() + 0.4 * fine
    assert float(model(levels, order)) == pytest.approx(float(wanted), rel=1e-10)


@torch.no_grad()
def test_satmaepp_style_and_ours_have_one_loss() -> None:
    ours = mae_satmaepp.objective(GROUPED, kind="joint")
    theirs = mae_satmaepp.straightforward(GROUPED)
    trunk = ours.backbone
    for name, embed, head in zip(trunk.groups, theirs.embed, theirs.heads, strict=True):
        projection = trunk.embedding(name).member_tokenizer("s2l1c_10").proj
        embed.weight.copy_(projection.weight.view_as(embed.weight))
        embed.bias.copy_(projection.bias)
        copied(head, ours.heads[name]["s2l1c_10"])
    copied(theirs.encoder.blocks, trunk.blocks)
    copied(theirs.encoder.norm, trunk.norm)
    theirs.encoder.cls_token.copy_(trunk.cls_token)
    copied(theirs.decoder.embed, ours.decoder_embed)
    copied(theirs.decoder.blocks, ours.decoder.blocks)
    copied(theirs.decoder.norm, ours.decoder.norm)
    theirs.decoder.mask_token.copy_(ours.mask_token)
    scale_head = ours.scale_heads["s2l1c_10"]
    copied(theirs.expand, scale_head.enter)
    copied(theirs.expand_norm, scale_head.norm.norm)
    for mine, block in zip(theirs.ups, scale_head.blocks, strict=True):
        pairs = {"up": block.up, "norm1": block.up_norm.norm, "norm2": block.norm.norm}
        pairs |= {"conv1": block.first, "conv2": block.second, "out": block.image}
        for name, source in pairs.items():
            copied(getattr(mine, name), source)
    pixels = stored(images((2, 10, 64, 64)))
    batch = batch_of({"s2l1c_10": pixels}, 0)
    masks = ours.masks(ours.inputs(batch).pixels, batch.rng, 1.0)
    kept = torch.cat(list(masks.kept().values()), dim=1)
    numbers = [masks.keep[name] + 4 * i for i, name in enumerate(trunk.groups)]
    seen = torch.cat(numbers, dim=1)
    order = []
    for sample in range(2):
        first = seen[sample][kept[sample]]
        rest = [n for n in range(12) if n not in first.tolist()]
        order.append(torch.cat([first, torch.tensor(rest)]))
    fine = (pixels.float() * 1e-4 - 0.2) / 0.1
    levels = [functional.avg_pool2d(fine, 4), functional.avg_pool2d(fine, 2), fine]
    out = ours(batch, batch.rng)
    found = float(theirs(levels, torch.stack(order)))
    assert found == pytest.approx(float(out.loss_sum / out.weight), rel=1e-4)


def test_rows_take_tokens_of_each_sample() -> None:
    tokens = torch.arange(12.0).view(2, 3, 2)
    assert rows(tokens, torch.tensor([[2, 0], [1, 1]]))[..., 0].tolist() == [[4, 0], [8, 8]]
