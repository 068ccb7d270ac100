"""Models with tokens of another size, and images of another size."""

import pytest
import torch

from fm.adapt import to_size
from fm.checkpoint import load, save
from fm.errors import UsageError
from fm.models import Backbone, create_model
from fm.models.embed import TOKENIZERS
from fm.models.positions import resized_table
from fm.sensors import sensor

SMALL = {"width": 64, "depth": 1, "heads": 4}
S2 = {m: b for m, b in sensor("sentinel2-l1c").modalities.items() if m != "s2l1c_60"}
TEN = {"s2l1c_10": S2["s2l1c_10"]}
WIDE = {"aviris_20": sensor("aviris-indian-pines").bands}


def made(name: str, bands: dict, token_m: float, **options) -> Backbone:
    torch.manual_seed(0)
    model = create_model(name, bands=bands, token_m=token_m, **options)
    generator = torch.Generator().manual_seed(1)
    for value in model.parameters():
        value.data = torch.randn(value.shape, generator=generator) * 0.1
    return model.eval()


def larger(pixels: dict, times: int) -> dict:
    return {
        m: x.repeat_interleave(times, -1).repeat_interleave(times, -2) for m, x in pixels.items()
    }


@pytest.mark.parametrize("tokenizer", sorted(TOKENIZERS))
@torch.no_grad()
def test_the_tokens_of_a_larger_image_are_those_of_the_original(tokenizer: str) -> None:
    bands = WIDE if tokenizer == "spectral_adapter" else S2
    options = {"channel_attention": {"heads": 4}}.get(tokenizer, {})
    model = made(
        "vit_nano",
        bands,
        40,
        tokenizer=tokenizer,
        tokenizer_options=options,
        **SMALL,
    )
    finest = min(b[0].gsd_m for b in bands.values())
    other, report = to_size(model, patch_size=2 * round(40 / finest))
    x = {m: torch.rand(2, len(b), *[int(120 / b[0].gsd_m)] * 2) for m, b in bands.items()}
    want, found = model.encode(x), other.encode(larger(x, 2))
    torch.testing.assert_close(found.tokens, want.tokens, rtol=1e-4, atol=1e-5)
    assert report["exact"] is True
    ((_, metres),) = report["token_m"].items()
    assert metres == {"from": 40.0, "to": 80.0}  # the ground of a token is told as it is
    ((_, group),) = other.groups.items()
    assert group.token_m == 80.0
    assert report["positions"] == {"kind": "made for any grid"}


@torch.no_grad()
def test_less_vit_too() -> None:
    model = made("less_nano", S2, 40, **SMALL)
    other, report = to_size(model, patch_size=8)
    assert other.weight_names == ["optical_8", "optical_4"]
    x = {m: torch.rand(2, len(b), *[int(120 / b[0].gsd_m)] * 2) for m, b in S2.items()}
    # positions of its code are shares of the image
    want, found = model.encode(x), other.encode(larger(x, 2))
    torch.testing.assert_close(found.tokens, want.tokens, rtol=1e-4, atol=1e-5)
    px = report["token_px"]["s2l1c"]
    assert (px["from"]["s2l1c_20"], px["to"]["s2l1c_20"]) == (2, 4)


def test_metres_stay_metres() -> None:
    """Where positions are of the ground, twice the token is twice the step."""
    model = made("vit_nano", TEN, 40, positions="metres", **SMALL)
    other, _ = to_size(model, patch_size=8)
    half = other.position_codes(other.inputs({"s2l1c_10": torch.rand(1, 4, 16, 16)}))["s2l1c"]
    full = model.position_codes(model.inputs({"s2l1c_10": torch.rand(1, 4, 16, 16)}))["s2l1c"]
    # 2x2 tokens of 80 m lie at 0 and 80 m; of 4x4 of 40 m they are every other one
    torch.testing.assert_close(half, full.view(4, 4, -1)[::2, ::2].reshape(4, -1))


@pytest.mark.parametrize("how", ["timm", "dinov2"])
@torch.no_grad()
def test_a_learned_table_is_resized_to_the_image(how: str) -> None:
    model = made("vit_nano", TEN, 40, positions="learned", grid=6, position_resize=how, **SMALL)
    other, report = to_size(model, image_size=16)
    assert report["positions"] == {"kind": "learned", "table": {"from": 6, "to": 4}, "how": how}
    assert torch.equal(other.pos_embed, resized_table(model.pos_embed, 4, how))
    x = {"s2l1c_10": torch.rand(1, 4, 16, 16)}
    torch.testing.assert_close(other.encode(x).tokens, model.encode(x).tokens)
    both, report = to_size(model, patch_size=8, image_size=48)
    assert report["positions"]["table"] == {"from": 6, "to": 6}
    torch.testing.assert_close(
        both.encode(larger({"s2l1c_10": torch.ones(1, 4, 24, 24)}, 2)).tokens,
        model.encode({"s2l1c_10": torch.ones(1, 4, 24, 24)}).tokens,
        rtol=1e-4,
        atol=1e-5,
    )
    # without an image size the table stays, and is resized to what comes in
    kept, report = to_size(model, patch_size=8)
    assert torch.equal(kept.pos_embed, model.pos_embed)
    assert report["positions"]["table"] == {"from": 6, "to": 6}


def test_the_size_travels_in_the_card(tmp_path) -> None:
    save(tmp_path / "own", made("vit_nano", S2, 40, **SMALL))
    other, report = to_size(load(tmp_path / "own"), patch_size=6)
    save(tmp_path / "new", other)
    again = load(tmp_path / "new")
    assert {m.modality: m.patch for m in again.groups["s2l1c"].members} == {
        "s2l1c_10": 6,
        "s2l1c_20": 3,
    }
    assert again.card.adapted_from["report"] == report
    assert again.card.adapted_from["token_m"] == {"s2l1c": 40.0}
    assert again.card.architecture["token_m"] == {"s2l1c": 60.0}
    smaller, report = to_size(again, patch_size=2)
    assert report["exact"] is False
    assert smaller.groups["s2l1c"].token_m == 20.0


def test_refusals() -> None:
    model = made("vit_nano", S2, 40, **SMALL)
    for given, words in (
        ({}, "give patch_size, image_size or both"),
        ({"patch_size": 4}, r"have 4 px \(s2l1c\) already and its positions are made for any"),
        ({"image_size": 32}, "nothing to adapt"),
        ({"patch_size": 0}, "patch_size 0: give at least 1"),
        ({"patch_size": 257}, "patch_size 257: give at least 1 px and at most 256"),
        ({"patch_size": 3}, "s2l1c_20: a token of 30 m is not whole pixels of 20 m"),
        ({"patch_size": 8, "image_size": 20}, "image_size 20: not whole tokens of 8 px"),
        ({"image_size": 4 * 513}, "nothing to adapt"),  # no table, no bound
        ({"patch_size": 8, "how": "nearest"}, "no resize 'nearest'"),
    ):
        with pytest.raises(UsageError, match=words):
            to_size(model, **given)
    learned = made("vit_nano", TEN, 40, positions="learned", grid=6, **SMALL)
    with pytest.raises(UsageError, match="513 tokens a side; a learned table has at most 512"):
        to_size(learned, image_size=4 * 513)
    network = create_model("resnet_18", bands=TEN, blocks=[1, 1, 1, 1])
    with pytest.raises(UsageError, match="a ResNet takes images of any size as it is"):
        to_size(network, patch_size=16)
    towers = create_model("towers_vit_nano", bands=TEN, token_m=40, tower_options=SMALL)
    with pytest.raises(UsageError, match="only a ViT, LESS ViT or Galileo"):
        to_size(towers, patch_size=8)
    shifted = made(
        "vit_nano", TEN, 40, tokenizer="generator", tokenizer_options={"shift": 1}, **SMALL
    )
    with pytest.raises(UsageError, match="reads its tokens 1 px beside their place"):
        to_size(shifted, patch_size=8)
