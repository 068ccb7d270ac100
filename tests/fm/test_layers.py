"""Layer numbers of parameters, by BEiT's rule."""

import pytest

import fm
from fm.errors import UsageError
from fm.models.layers import in_block, layer_numbers


def test_blocks_count_from_one_between_the_stem_and_the_head() -> None:
    """Defect: codes of channels at the rate of the head (SatMAE names the others alone)."""
    stem = ["cls_token", "channel_embed", "patch_embed.proj.weight"]
    names = [*stem, "blocks.0.mlp.weight", "blocks.10.norm.bias"]
    assert layer_numbers([*names, "norm.weight"], "it", "") == ([0, 0, 0, 1, 11, 12], 12)
    assert [in_block(name) for name in names] == [False, False, False, True, True]


def test_layers_of_a_resnet_are_its_stages() -> None:
    bands = {"s2l2a_10": fm.sensor("sentinel2-l2a").modalities["s2l2a_10"]}
    model = fm.create_model("resnet_18", bands=bands, token_m=320, planes=8)
    names = [name for name, _ in model.named_parameters()]
    numbers, head = layer_numbers(names, "it", "")
    assert head == 5
    for name, number in zip(names, numbers, strict=True):
        want = int(name.split("layer")[1][0]) if "layer" in name else 0
        assert number == want


def test_a_model_with_several_stacks_is_refused_with_the_remedy() -> None:
    with pytest.raises(UsageError, match="it has none; turn it off"):
        layer_numbers(["head.weight"], "it", "turn it off")
    sensor = fm.sensor("sentinel2-l2a").modalities["s2l2a_10"]
    radar = fm.sensor("sentinel1-grd").modalities["s1grd_10"]
    model = fm.create_model(
        "croma_base",
        bands={"s2l2a_10": sensor, "s1grd_10": radar},
        token_m=80,
        width=16,
        depth=2,
        heads=2,
    )
    with pytest.raises(UsageError, match="several"):
        layer_numbers([name for name, _ in model.named_parameters()], "it", "turn it off")
