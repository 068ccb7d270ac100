import pytest
import torch

from fm import foreign, torchvision_guard
from fm.errors import FMError, UsageError
from fm.foreign.inventory import inventory, layouts
from fm.foreign.recognise import FAMILIES
from tests.fm.foreign.states import CASES, RGB, converted, identity, state_of

torchvision_guard.install()

import timm  # noqa: E402
import torchgeo.models as torchgeo  # noqa: E402


@pytest.mark.parametrize("layout", CASES)  # the others: test_layouts.py
def test_every_layout_is_recognised(layout: str) -> None:
    part = CASES[layout][1].get("part")
    state = foreign.read(state_of(layout), part=part).state
    found = foreign.recognise(state)
    assert found.family == inventory(layout).family
    assert all(name in found.text() for name in found.unsaid)
    assert found.convertible


def test_shapes_are_read() -> None:
    numbers = foreign.recognise(state_of("satmaepp_group")).numbers
    assert numbers["width"] == 24
    assert numbers["depth"] == 2
    assert numbers["patch"] == 4
    assert numbers["channels"] == (4, 4, 2)
    assert numbers["grid"] == 2
    assert numbers["group_code"] == 8
    numbers = foreign.recognise(foreign.read(state_of("dofa")).state).numbers
    assert numbers["patch"] == 4
    assert numbers["codes"] == 128
    assert numbers["final_norm"] == "none"
    numbers = foreign.recognise(state_of("satmae_temporal")).numbers
    assert (numbers["width"], numbers["time_code"], numbers["grid"]) == (24, 12, 2)
    numbers = foreign.recognise(state_of("croma")).numbers
    assert numbers["depth"] == {"s1_encoder": 1, "s2_encoder": 2, "joint_encoder": 1}


def test_less_by_its_levels_and_copernicus_by_its_two_generators() -> None:
    patch = {
        "encoder.optical_patch_embed.proj.0.weight": torch.zeros(48, 1, 1, 4, 4),
        "encoder.optical_patch_embed.proj.2.weight": torch.zeros(24, 48, 1, 1, 1),
    }
    inner = {"encoder.blocks.0.attn.low_dim_pool.channel_norm.weight": torch.zeros(4)}
    outer = {"encoder.blocks.0.low_dim_pool.channel_norm.weight": torch.zeros(4)}
    assert foreign.recognise({**patch, **inner}).family == "less_v2"
    v1 = foreign.recognise({**patch, **outer})
    assert v1.family == "less_v1"
    assert (v1.numbers["width"], v1.numbers["patch"], v1.numbers["depth"]) == (24, 4, 1)
    with pytest.raises(FMError, match="not a whole less_v1"):
        foreign.load({**patch, **outer}, bands=RGB, normalisation=identity(RGB), perception_m=0)
    model = torchgeo.CopernicusFM(img_size=32, embed_dim=48, depth=1, num_heads=3)
    assert foreign.recognise(model.state_dict()).family == "copernicus_fm"
    assert foreign.recognise(model.state_dict()).numbers["patch"] == 16


def test_the_unknown_is_refused_with_the_nearest() -> None:
    state = timm.create_model("mixer_s32_224", num_classes=2).state_dict()
    with pytest.raises(FMError, match=r"no known family \(\d+ keys: .*nearest is .* shares \d+"):
        foreign.recognise(state)
    state = state_of("vit")
    del state["pos_embed"]
    # several layouts have all of these names; one of them that is converted is named
    alike = "vit|timm_vit|satmaepp_rgb|satmae_temporal"
    pattern = rf"nearest is ({alike}), which shares {len(state)} of them"
    with pytest.raises(FMError, match=pattern):
        foreign.recognise(state)


def test_two_models_in_one_file_are_ambiguous() -> None:
    both = {**state_of("vit"), **state_of("resnet18")}
    with pytest.raises(FMError, match=r"several families: vit \(\d+ of \d+ keys\), resnet"):
        foreign.recognise(both)


def test_a_family_can_be_named_only_where_the_keys_allow_it() -> None:
    state = {k: v for k, v in state_of("scale_mae").items() if "fpn" not in k and "fcn" not in k}
    del state["mask_token_decoder"]
    assert foreign.recognise(state).family == "vit"
    model, _ = converted("scale_mae", state, family="scale_mae")
    assert model.architecture["positions"] == "metres"
    with pytest.raises(UsageError, match="the keys are those of vit, not of croma"):
        converted("vit", family="croma")
    with pytest.raises(UsageError, match="no family 'scalemae'; did you mean 'scale_mae'"):
        converted("vit", family="scalemae")


def test_every_family_that_is_converted_has_an_inventory() -> None:
    kept = {inventory(layout).family for layout in layouts()}
    assert {name for name, f in FAMILIES.items() if f.convertible} <= kept
