"""Inventories against installed originals and published parameter counts."""

import math

import pytest

from fm import torchvision_guard
from fm.errors import UsageError
from fm.foreign.inventory import inventory, layouts

torchvision_guard.install()

import timm  # noqa: E402
import torchgeo.models as torchgeo  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402


def parameters(layout: str, *parts: str, symbols: dict[str, int] | None = None) -> int:
    found = inventory(layout)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    return sum(
        math.prod(shape)
        for key, shape in found.expand(symbols).items()
        if found.part(key) in parts and not key.endswith(statistics)
    )


def millions(count: int) -> float:
    return round(count / 1e6, 2)


def test_parameters_are_the_published_ones() -> None:
    assert millions(parameters("satmaepp_group", "encoder", "decoder")) == 329.33
    assert millions(parameters("satmaepp_group", "encoder")) == 303.08
    head = parameters("satmaepp_group", "decoder") - parameters("satmae_group", "decoder")
    assert head == 117_100
    assert millions(parameters("satmaepp_rgb", "encoder", "decoder")) == 329.55
    assert millions(parameters("spectral_vit", "encoder")) == 22.53
    for width, depth, count in ((768, 12, 87.47), (1024, 24, 305.52)):
        symbols = {**inventory("spectral_vit").released, "D": width, "depth": depth}
        assert millions(parameters("spectral_vit", "encoder", symbols=symbols)) == count
    assert round(parameters("spectral_resnet", "encoder") / 1e6, 1) == 24.2


def shapes(state) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


def test_installed_originals_have_these_keys() -> None:
    small = {"img_size": 8, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3}
    found = inventory("timm_vit")
    assert shapes(VisionTransformer(**small, num_classes=5).state_dict()) == found.expand(
        found.tiny
    )
    found = inventory("dinov2")
    theirs = VisionTransformer(**small, num_classes=0, init_values=1e-5)
    assert shapes(theirs.state_dict()) == found.expand(found.tiny)
    found = inventory("dofa")
    state = shapes(torchgeo.DOFA(**small, num_classes=0).state_dict())
    # the released files end before the norm (torchgeo's own loader checks just that)
    assert {k: v for k, v in state.items() if "fc_norm" not in k} == found.expand(found.tiny)
    found = inventory("copernicus_fm")
    state = shapes(torchgeo.CopernicusFM(**small).state_dict())
    assert {k: v for k, v in state.items() if "fc_norm" not in k} == found.expand(found.tiny)
    found = inventory("croma")
    state = shapes(torchgeo.CROMA(encoder_dim=32, encoder_depth=2, image_size=16).state_dict())
    del state["attn_bias"]
    assert state == found.expand(found.tiny)
    for layout, name in (("resnet", "resnet50"), ("resnet18", "resnet18")):
        state = shapes(timm.create_model(name, num_classes=1000).state_dict())
        assert state == inventory(layout).expand()


def test_panopticon_has_these_keys() -> None:
    from torchgeo.models.panopticon import PanopticonPE

    found = inventory("panopticon")
    theirs = VisionTransformer(
        img_size=8,
        patch_size=4,
        embed_dim=24,
        depth=2,
        num_heads=3,
        num_classes=0,
        init_values=1e-5,
    )
    theirs.patch_embed = PanopticonPE(48, 24, 4, {"attn_cfg": {"num_heads": 16}}, 8)
    wanted = found.expand(found.tiny)
    assert wanted.pop("mask_token") == (1, 24)
    assert shapes(theirs.state_dict()) == wanted


@pytest.mark.parametrize("layout", layouts())
def test_parts_and_names(layout: str) -> None:
    found = inventory(layout)
    keys = found.expand(found.tiny)
    # the tiny form is the released one with other numbers
    assert set(keys) <= set(found.expand())
    assert all(found.known(key) for key in keys)
    assert not found.known("nothing.of.this")
    assert {found.part(key) for key in keys} <= {"encoder", "decoder", "head", "alias", "beside"}
    assert found.source
    with pytest.raises(UsageError, match="no inventory 'satmae_groups'; did you mean"):
        inventory("satmae_groups")
