"""Outputs of the installed originals against ours, with their weights converted (to 1e-5)."""

import math
from datetime import UTC, datetime
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from fm import foreign, torchvision_guard
from fm.adapt import to_bands
from fm.errors import UsageError
from fm.models.positions import sincos_1d
from fm.normalize import Normalisation
from fm.sensors import Band, sensor
from tests.fm.foreign.states import (
    GROUPS,
    HYPER,
    TEN,
    converted,
    state_of,
    with_fixed_positions,
)

torchvision_guard.install()

import timm  # noqa: E402
import torchgeo.models as torchgeo  # noqa: E402
from torchgeo.models import dofa  # noqa: E402

S2 = sensor("sentinel2-l1c")
RGB = foreign.on_grid(S2.select(["B04", "B03", "B02"]), 10)
ALL = foreign.on_grid(S2.bands, 10)
SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 3, "img_size": 32, "patch_size": 8}


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Fill every parameter and statistic: zeros and ones would hide what is not loaded."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if not value.is_floating_point() or name == "attn_bias":
            continue
        made = torch.randn(value.shape, generator=generator) * (
            0.3 / math.sqrt(value.shape[-1]) if value.ndim > 1 else 0.1
        )
        positive = "var" in name or (value.ndim == 1 and name.endswith("weight"))
        value.data.copy_(
            1 + made if positive and "var" not in name else made.abs() + 0.5 if positive else made
        )
    return model.eval()


def pixels(bands: dict[str, tuple[Band, ...]], size: int, batch: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        m: torch.randn(batch, len(b), size, size, generator=generator) for m, b in bands.items()
    }


def identity(bands: dict[str, tuple[Band, ...]]) -> dict[str, Normalisation]:
    return {modality: Normalisation.identity(len(items)) for modality, items in bands.items()}


def close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    assert theirs.std() > 1e-2, "an original without signal compares nothing"
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("pool", ["avg", "token"])
@pytest.mark.parametrize("bands", [RGB, ALL], ids=["rgb", "13 bands"])
def test_timm_vit(pool: str, bands: dict[str, tuple[Band, ...]]) -> None:
    count = len(next(iter(bands.values())))
    theirs = randomised(
        timm.models.vision_transformer.VisionTransformer(
            **SMALL, in_chans=count, global_pool=pool, num_classes=7
        )
    )
    ours, report = foreign.load(
        theirs.state_dict(),
        bands=bands,
        normalisation=identity(bands),
        heads=3,
        pooling="mean" if pool == "avg" else "cls",
    )
    x = pixels(bands, 32)
    with torch.no_grad():
        found = ours.encode(x)
        image = next(iter(x.values()))
        close(found.pooled, theirs.forward_head(theirs.forward_features(image), pre_logits=True))
        close(found.tokens, theirs.forward_features(image)[:, 1:])
    assert {e.source for e in report.dropped} == {"head.weight", "head.bias"}


def test_dinov2_layer_scale() -> None:
    theirs = randomised(
        timm.models.vision_transformer.VisionTransformer(**SMALL, init_values=1e-5, num_classes=0)
    )
    ours, _ = foreign.load(
        theirs.state_dict(), bands=RGB, normalisation=identity(RGB), heads=3, pooling="cls"
    )
    x = pixels(RGB, 32)
    with torch.no_grad():
        close(ours.encode(x).pooled, theirs(x["s2l1c_10"]))


def test_ssl4eo_vit() -> None:
    # the module behind torchgeo's ViTSmall16_Weights, 13 bands
    theirs = randomised(
        torchgeo.vit_small_patch16_224(in_chans=13, num_classes=0, img_size=32, depth=3)
    )
    ours, _ = foreign.load(
        theirs.state_dict(), bands=ALL, normalisation=identity(ALL), heads=6, pooling="cls"
    )
    x = pixels(ALL, 32)
    with torch.no_grad():
        close(ours.encode(x).pooled, theirs(x["s2l1c_10"]))


@pytest.mark.parametrize("gsd", [10.0, 0.3])
def test_scale_mae(gsd: float) -> None:
    theirs = randomised(torchgeo.ScaleMAE(res=gsd, **SMALL, num_classes=0, global_pool="token"))
    ours, report = foreign.load(
        theirs.state_dict(),
        bands=RGB,
        normalisation=identity(RGB),
        family="scale_mae",
        heads=3,
        pooling="cls",
        reference_gsd_m=1.0,
    )
    x = pixels(RGB, 32)
    with torch.no_grad():
        found = ours.encode(x, gsd={"s2l1c_10": gsd})
        close(found.pooled, theirs(x["s2l1c_10"]))
    assert "pos_embed" in {entry.source for entry in report.dropped}


@pytest.mark.parametrize(("kind", "count"), [("18", 13), ("50", 3)])
def test_resnet(kind: str, count: int) -> None:
    bands = ALL if count == 13 else RGB
    theirs = randomised(getattr(torchgeo, f"resnet{kind}")(in_chans=count, num_classes=4))
    ours, report = foreign.load(theirs.state_dict(), bands=bands, normalisation=identity(bands))
    x = pixels(bands, 64)
    with torch.no_grad():
        found = ours.encode(x)
        maps = theirs.forward_features(x["s2l1c_10"])
        close(found.tokens, maps.flatten(2).mT)
        close(found.pooled, theirs.forward_head(maps, pre_logits=True))
    assert {e.source for e in report.dropped} == {"fc.weight", "fc.bias"}


def exact_codes(width: int, position: Tensor) -> Tensor:
    """Codes of nanometres as they were stated, before float32 took micrometres of them."""
    return sincos_1d(width, position.double().round(decimals=2)).float()


@pytest.mark.parametrize(("codes", "tolerance"), [("exact", 1e-5), ("float32", 1e-4)])
def test_dofa(monkeypatch, codes: str, tolerance: float) -> None:
    # the original makes sines of up to 2000 rad in float32; ours are exact, so the rest of the
    # model is compared with the same codes, and the whole at what that rounding allows
    if codes == "exact":
        monkeypatch.setattr(dofa, "position_embedding", exact_codes)
    theirs = randomised(
        torchgeo.DOFA(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3, num_classes=5)
    )
    # ours is given physical values; the zeros around the image are zeros after normalising
    normal = Normalisation("zscore", tuple(0.1 * i for i in range(13)), (2.0,) * 13)
    ours, report = foreign.load(
        theirs.state_dict(), bands=ALL, normalisation=normal, heads=3, layer="v2"
    )
    x = pixels(ALL, 32)
    waves = [band.wavelength_nm / 1000 for band in ALL["s2l1c_10"]]
    with torch.no_grad():
        wanted = theirs.forward_features(normal(x["s2l1c_10"]), waves)
        close(ours.encode(x).pooled, wanted, tolerance)
        order = [4, 0, 12, 7]
        chosen = {"s2l1c_10": x["s2l1c_10"][:, order]}
        listed = {"s2l1c_10": [ALL["s2l1c_10"][i] for i in order]}
        part = theirs.forward_features(
            normal.select(order)(chosen["s2l1c_10"]), [waves[i] for i in order]
        )
        close(ours.encode(chosen, bands=listed).pooled, part, tolerance)
    assert {e.source for e in report.dropped} == {"head.weight", "head.bias"}


def test_dofa_s_first_release(monkeypatch) -> None:
    """The numbers of the kernels are read as `[D, C, p, p]`, as its code did."""
    monkeypatch.setattr(dofa, "position_embedding", exact_codes)

    def first(self, x, wavelengths):
        waves = self.fclayer(dofa.position_embedding(self.dynamic_embed_dim, wavelengths * 1000))
        weight, bias = self.weight_generator(waves)
        size = self.kernel_size
        weight = weight.view(self.embed_dim, len(wavelengths), size, size) * self.scaler
        made = nn.functional.conv2d(x, weight, bias * self.scaler, stride=size, padding=1)
        return made.flatten(2).transpose(1, 2), waves

    monkeypatch.setattr(dofa.DOFAEmbedding, "forward", first)
    theirs = randomised(
        torchgeo.DOFA(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3, num_classes=5)
    )
    ours, report = foreign.load(
        theirs.state_dict(), bands=ALL, normalisation=identity(ALL), heads=3, layer="v1"
    )
    x = pixels(ALL, 32)
    waves = [band.wavelength_nm / 1000 for band in ALL["s2l1c_10"]]
    with torch.no_grad():
        wanted = theirs.forward_features(x["s2l1c_10"], waves)
        close(ours.encode(x).pooled, wanted)
        # bands by name: put into the order that the kernels are tied to
        order = [4, 0, 12, 7, 1, 2, 3, 5, 6, 8, 9, 10, 11]
        names = {"s2l1c_10": [ALL["s2l1c_10"][i].name for i in order]}
        turned = {"s2l1c_10": x["s2l1c_10"][:, order]}
        close(ours.encode(turned, bands=names).pooled, wanted)
        with pytest.raises(UsageError, match="the bands do not match the model's"):
            ours.encode({"s2l1c_10": x["s2l1c_10"][:, :4]}, bands={"s2l1c_10": ALL["s2l1c_10"][:4]})
    assert not ours.takes_other_bands("s2l1c_10")
    assert any("depend on the order of the bands" in note for note in report.notes)
    with pytest.raises(UsageError, match="tied to its own band list"):
        to_bands(ours, {"s2l1c_10": ALL["s2l1c_10"][:4]})


def test_panopticon() -> None:
    torch.manual_seed(0)
    theirs = torchgeo.Panopticon.__new__(torchgeo.Panopticon)
    nn.Module.__init__(theirs)
    from torchgeo.models.panopticon import PanopticonPE

    trunk = timm.models.vision_transformer.VisionTransformer(
        img_size=28,
        patch_size=14,
        embed_dim=48,
        depth=2,
        num_heads=3,
        init_values=1e-5,
        num_classes=0,
    )
    trunk.patch_embed = PanopticonPE(
        attn_dim=96,
        embed_dim=48,
        patch_size=14,
        img_size=28,
        chnfus_cfg={"attn_cfg": {"num_heads": 16}},
    )
    theirs.model = trunk
    randomised(theirs)
    radar = tuple(
        Band(p, None, None, 10.0, "dB", polarisation=p, modality="s2l1c_10") for p in ("VV", "VH")
    )
    bands = {"s2l1c_10": (*ALL["s2l1c_10"], *radar)}
    ours, report = foreign.load(
        theirs.state_dict(), bands=bands, normalisation=identity(bands), heads=3, pooling="cls"
    )
    x = pixels(bands, 28)
    ids = torch.tensor([[float(b.wavelength_nm) for b in ALL["s2l1c_10"]] + [-1.0, -2.0]] * 2)
    with torch.no_grad():
        wanted = theirs({"imgs": x["s2l1c_10"].clone(), "chn_ids": ids.clone()})
        close(ours.encode(x).pooled, wanted)
    assert report.prefix == "model."


@pytest.mark.parametrize("sensors", ["both", "optical", "radar"])
def test_croma(sensors: str) -> None:
    torch.manual_seed(0)
    theirs = randomised(
        torchgeo.CROMA(encoder_dim=32, encoder_depth=2, num_heads=16, image_size=24)
    )
    optical = foreign.on_grid([b for b in S2.bands if b.name != "B10"], 10)
    radar = foreign.on_grid(sensor("sentinel1-grd").bands, 10)
    bands = {**(radar if sensors != "optical" else {}), **(optical if sensors != "radar" else {})}
    # torchgeo's module and the released file, a dictionary of five
    whole = theirs.state_dict()
    parts = ("s1_encoder", "s1_GAP_FFN", "s2_encoder", "s2_GAP_FFN", "joint_encoder")
    released = {p: getattr(theirs, p).state_dict() for p in parts}
    x = pixels(bands, 24)
    with torch.no_grad():
        for source, options in ((whole, {}), (released, {"heads": 16})):
            ours, _ = foreign.load(source, bands=bands, normalisation=identity(bands), **options)
            found = ours.encode(x)
            sar = x.get(next(iter(radar)))
            wanted = {}
            if sar is not None:
                made = theirs.s1_encoder(imgs=sar, attn_bias=theirs.attn_bias)
                wanted["sar"] = (made, theirs.s1_GAP_FFN(made.mean(dim=1)))
            if "s2l1c_10" in x:
                made = theirs.s2_encoder(imgs=x["s2l1c_10"], attn_bias=theirs.attn_bias)
                wanted["optical"] = (made, theirs.s2_GAP_FFN(made.mean(dim=1)))
            if len(wanted) == 2:
                both = theirs.forward(x_sar=sar, x_optical=x["s2l1c_10"])
                tokens = torch.cat([both["joint_encodings"], both["optical_encodings"]], dim=1)
                wanted = {"joint": (tokens, both["joint_GAP"])}
            ((tokens, pooled),) = wanted.values()
            close(found.tokens, tokens)
            close(found.pooled, pooled)


def grouped(state: dict[str, Tensor], x: Tensor, groups: list[list[int]], heads: int) -> Tensor:
    """SatMAE's group_c encoder written out: mean of all tokens after the last block, `fc_norm`."""
    tokens = []
    for g, channels in enumerate(groups):
        weight, bias = (state[f"patch_embed.{g}.proj.{n}"] for n in ("weight", "bias"))
        made = nn.functional.conv2d(x[:, channels], weight, bias, stride=weight.shape[-1])
        made = made.flatten(2).mT
        code = state["channel_embed"][:, g : g + 1].expand(-1, made.shape[1], -1)
        tokens.append(made + torch.cat([state["pos_embed"][:, 1:], code], dim=-1))
    first = torch.cat([state["pos_embed"][:, :1], state["channel_cls_embed"]], dim=-1)
    first = (state["cls_token"] + first).expand(len(x), -1, -1)
    x = through_blocks(state, torch.cat([first, *tokens], dim=1), heads)
    scale, shift = state["fc_norm.weight"], state["fc_norm.bias"]
    return nn.functional.layer_norm(x[:, 1:].mean(dim=1), scale.shape, scale, shift, 1e-6)


def through_blocks(state: dict[str, Tensor], x: Tensor, heads: int) -> Tensor:
    """Apply the blocks of a file as timm's."""
    depth = 1 + max(int(k.split(".")[1]) for k in state if k.startswith("blocks."))
    width = x.shape[-1]
    for i in range(depth):
        lead = f"blocks.{i}."
        part = {k.removeprefix(lead): v for k, v in state.items() if k.startswith(lead)}
        block = timm.models.vision_transformer.Block(
            width, heads, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6)
        )
        block.load_state_dict(part)
        x = block(x)
    return x


def test_satmae_group_against_its_definition() -> None:
    state = state_of("satmae_group_finetuned")
    model, _ = converted("satmae_group_finetuned", state)
    names = [band.name for band in TEN["s2l1c_10"]]
    groups = [[names.index(name) for name in group] for group in GROUPS.values()]
    assert groups == [[0, 1, 2, 6], [3, 4, 5, 7], [8, 9]]
    x = torch.randn(2, 10, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        close(model.encode({"s2l1c_10": x}).pooled, grouped(state, x, groups, 3))


def temporal(
    state: dict[str, Tensor], x: Tensor, moments: list[list[datetime]], heads: int
) -> Tensor:
    """SatMAE's temporal encoder written out on images `[B, T, C, H, W]`: tokens after `norm`.

    All images share the convolution and the table of places; behind the code of a place stands that
    of year - 2002, month - 1 and hour. The class token has no code.
    """
    weight, bias = (state[f"patch_embed.proj.{n}"] for n in ("weight", "bias"))
    place = state["pos_embed"][:, 1:]
    share = (len(weight) - place.shape[-1]) // 3
    tokens = []
    for t in range(x.shape[1]):
        made = nn.functional.conv2d(x[:, t], weight, bias, stride=weight.shape[-1]).flatten(2).mT
        numbers = [(m[t].year - 2002, m[t].month - 1, m[t].hour) for m in moments]
        fields = torch.tensor(numbers, dtype=torch.float64)
        time = torch.cat([sincos_1d(share, fields[:, k]) for k in range(3)], dim=-1).float()
        time = time[:, None].expand(-1, place.shape[1], -1)
        tokens.append(made + torch.cat([place.expand(len(x), -1, -1), time], dim=-1))
    first = state["cls_token"].expand(len(x), -1, -1)
    made = through_blocks(state, torch.cat([first, *tokens], dim=1), heads)
    scale, shift = state["norm.weight"], state["norm.bias"]
    return nn.functional.layer_norm(made, scale.shape, scale, shift, 1e-6)[:, 1:]


@pytest.mark.parametrize("table", ["learned", "fixed"])
def test_satmae_temporal_against_its_definition(table: str) -> None:
    state = state_of("satmae_temporal")
    state["pos_embed"][:, 0] = 0.0  # as released
    if table == "fixed":
        state = with_fixed_positions(state)
    model, report = converted("satmae_temporal", state)
    assert model.architecture["positions"] == ("sincos" if table == "fixed" else "learned")
    assert model.architecture["time_code_width"] == 12
    assert not report.fresh
    moments = [
        [datetime(2008, 5, 1, 9, 40), datetime(2016, 2, 29, 23, 5), datetime(2002, 12, 31, 0, 1)],
        [datetime(2015, 7, 9, 14, 0), datetime(2015, 8, 9, 14, 59), datetime(2017, 1, 1, 3, 3)],
    ]
    times = [[moment.replace(tzinfo=UTC).timestamp() for moment in row] for row in moments]
    x = torch.randn(2, 3, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        found = model.encode({"s2l1c_10": x}, times=torch.tensor(times, dtype=torch.float64))
        close(found.tokens, temporal(state, x, moments, 3))


@pytest.mark.parametrize("layout", ["spectral_vit", "spectral_lightning"])
def test_spectral_vit_against_its_definition(layout: str) -> None:
    state = state_of(layout)
    model, _ = converted(layout, state, pooling="cls")
    lead = "encoder.vit.spec_vit." if layout == "spectral_lightning" else ""
    adapter = nn.Sequential()
    for a, b, kernel, stride in ((1, 32, 7, 5), (32, 64, 7, 5), (64, 128, 5, 3)):
        adapter.append(nn.Conv3d(a, b, (kernel, 1, 1), (stride, 1, 1), (1, 0, 0)))
        adapter.append(nn.BatchNorm3d(b))
        adapter.append(nn.ReLU())
    trunk = timm.models.vision_transformer.VisionTransformer(
        img_size=8, patch_size=4, in_chans=128, embed_dim=24, depth=2, num_heads=3, num_classes=0
    )
    for part, name in ((adapter, "spectral_adapter."), (trunk, "vit_core.")):
        chosen = {
            k.removeprefix(lead + name): v
            for k, v in state.items()
            if lead + name in k[: len(lead + name)]
        }
        part.load_state_dict(chosen)
        part.eval()
    ((modality, items),) = HYPER.items()
    x = torch.randn(2, len(items), 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        wanted = trunk(adapter(x[:, None]).mean(dim=2))
        close(model.encode({modality: x}).pooled, wanted)
