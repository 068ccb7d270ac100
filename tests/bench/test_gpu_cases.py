"""The plain side of `bench gpu` does the work of ours: one loss on the same weights and masks."""

from dataclasses import replace

import pytest
import torch

from bench import gpu_sides
from bench.gpu_cases import objective, plain, sentinel2, spectral
from bench.mae_steps import DEVIATION, MEAN, batch_of, images, stored
from tests.bench.test_mae_baselines import copied

WHOLE, GROUPED = (replace(case.tiny(), decoder=(64, 1, 4)) for case in sentinel2("vit_nano", "t"))


@pytest.mark.parametrize("case", [WHOLE, GROUPED], ids=["13 bands", "3 groups"])
@torch.no_grad()
def test_plain_and_ours_have_one_loss(case) -> None:
    torch.manual_seed(0)
    ours, theirs = objective(case), plain(case)
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
    pixels = stored(images((2, len(case.bands), case.side, case.side)))
    batch = batch_of({"s2l1c_10": pixels}, 0)
    masks = ours.masks(ours.inputs(batch).pixels, batch.rng, 1.0)
    kept = torch.cat(list(masks.kept().values()), dim=1)
    seen = torch.cat([masks.keep[n] + 16 * i for i, n in enumerate(trunk.groups)], dim=1)
    order = []
    for sample in range(2):
        first = seen[sample][kept[sample]]
        rest = [n for n in range(theirs.tokens) if n not in first.tolist()]
        order.append(torch.cat([first, torch.tensor(rest)]))
    assert len(order[0]) == theirs.tokens == 16 * len(trunk.groups)
    normal = (pixels.float() * 1e-4 - MEAN) / DEVIATION
    out = ours(batch, batch.rng)
    found = float(theirs(normal, torch.stack(order)))
    assert found == pytest.approx(float(out.loss_sum / out.weight), rel=1e-4)


def test_published_sizes() -> None:
    """MAE's ViT-L with a decoder of 8 blocks of 512, and tokens as the papers have them."""
    whole, grouped = sentinel2("vit_large", "ViT-L")
    with torch.device("meta"):
        sides = plain(whole), plain(grouped), plain(spectral("vit_small", "Spec-ViT-S"))
    assert [side.tokens for side in sides] == [196, 3 * 144, 1024]
    assert [side.kept for side in sides] == [49, 108, 102]
    assert len(sides[0].encoder.blocks) == 24
    assert len(sides[0].decoder.blocks) == 8


def test_operations_of_a_case_are_those_of_its_products() -> None:
    """ViT-S, 13 bands: forward products by hand, backward twice them but for the embedding's."""
    case = sentinel2("vit_small", "ViT-S")[0]
    width, kept, tokens, inside = 384, 49, 196, 13 * 16 * 16

    def blocks(width: int, depth: int, tokens: int) -> int:
        return depth * (12 * tokens * width**2 + 2 * tokens**2 * width)

    embed = kept * inside * width
    rest = blocks(width, 12, kept + 1) + (kept + 1) * width * 512
    rest += blocks(512, 8, tokens + 1) + (tokens - kept) * 512 * inside
    by_hand = 2 * (2 * embed + 3 * rest)
    assert gpu_sides._counted(case, "joint", 1.0) == pytest.approx(by_hand, rel=0.01)
