"""SatMAE and SatMAE++ as published: parameter counts, and names and shapes of released files.

Ours against theirs (`released` below): a linear layer on cut patches is their strided convolution
with its kernel flattened (channel, row, column); decoder, heads and multi-scale head are renamed;
their fixed tables of codes (`pos_embed`, `channel_embed`, `decoder_pos_embed`,
`decoder_channel_embed`) are computed here. The RGB head's outputs are (row, column, channel) there
and (channel, row, column) here.
"""

import re
from collections.abc import Mapping

import pytest
import torch
from torch import nn

from fm.foreign.inventory import inventory
from fm.models import create_model
from pretrain.build import build
from pretrain.data import declared
from pretrain.objective import Objective
from pretrain.trainer import load_config
from tests.pretrain.satmae import GROUPS, MODALITY, bands, satmae, satmaepp

DECODER = {"kind": "joint", "width": 512, "depth": 8, "heads": 16}
RENAMED = (
    (r"^backbone\.patch_embed\.g(\d)\.embed\.\w+\.", r"patch_embed.\1."),
    (r"^backbone\.patch_embed\.\w+\.embed\.\w+\.", "patch_embed."),
    (r"^backbone\.", ""),
    (r"^decoder\.blocks\.", "decoder_blocks."),
    (r"^decoder\.norm\.", "decoder_norm."),
    (r"^heads\.g(\d)\.\w+\.", r"decoder_pred.\1."),
    (r"^heads\.\w+\.\w+\.", "decoder_pred."),
    (r"^scale_heads\.\w+\.enter\.", "proj_up_conv."),
    (r"^scale_heads\.\w+\.norm\.norm\.", "proj_up_norm."),
    (r"^scale_heads\.\w+\.blocks\.0\.", "up_block1."),
    (r"^scale_heads\.\w+\.blocks\.1\.", "up_block2."),
    (r"^(up_block\d)\.up\.", r"\1.up_conv."),
    (r"^(up_block\d)\.up_norm\.norm\.", r"\1.up_norm."),
    (r"^(up_block\d)\.first\.", r"\1.res_block.conv1."),
    (r"^(up_block\d)\.second\.", r"\1.res_block.conv2."),
    (r"^(up_block\d)\.norm\.norm\.", r"\1.res_norm."),
    (r"^(up_block\d)\.image\.", r"\1.proj_out."),
)
COMPUTED = re.compile(r"(decoder_)?(pos|channel)_embed")


def released(objective: Objective, patch: int) -> dict[str, tuple]:
    """Return the names and shapes that the published code gives to our parameters."""
    found = {}
    for key, value in objective.state_dict().items():
        for pattern, name in RENAMED:
            key = re.sub(pattern, name, key)
        shape = tuple(value.shape)
        if key.startswith("patch_embed") and key.endswith("proj.weight"):
            shape = (shape[0], shape[1] // patch**2, patch, patch)
        assert key not in found
        found[key] = shape
    return found


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def tables(layout: Mapping[str, tuple[int, ...]], *, decoder: bool = True) -> int:
    """Count the values of the fixed tables that are computed here."""
    fixed = [k for k in layout if COMPUTED.fullmatch(k)]
    chosen = [k for k in fixed if decoder or not k.startswith("decoder_")]
    return sum(torch.Size(layout[k]).numel() for k in chosen)


def group_c(size: str, *, scales: bool) -> Objective:
    with torch.device("meta"):
        backbone = create_model(
            f"vit_{size}",
            bands=bands(),
            token_m=80,
            token_groups=GROUPS,
            group_code_width=256,
        )
        decoder = {**DECODER, "group_code_width": 128}
        return (satmaepp if scales else satmae)(backbone, decoder=decoder)


def rgb() -> Objective:
    with torch.device("meta"):
        backbone = create_model("vit_large", bands=bands(("B04", "B03", "B02")), token_m=160)
        return satmaepp(backbone, scales=1, decoder=DECODER)


@pytest.mark.parametrize(
    ("layout", "size", "scales"),
    [("satmaepp_group", "large", True), ("satmae_group", "large", False)],
)
def test_group_model_has_the_released_names_and_shapes(
    layout: str, size: str, scales: bool
) -> None:
    want = inventory(layout).expand()
    made = released(group_c(size, scales=scales), 8)
    assert made == {k: shape for k, shape in want.items() if not COMPUTED.fullmatch(k)}
    assert sum(bool(COMPUTED.fullmatch(k)) for k in want) == 4


def test_rgb_model_has_the_released_names_and_shapes() -> None:
    want = inventory("satmaepp_rgb").expand()
    made = {re.sub("^up_block1", "up_block", k): v for k, v in released(rgb(), 16).items()}
    assert made == {k: shape for k, shape in want.items() if not COMPUTED.fullmatch(k)}


def test_temporal_recipe_has_the_released_names_and_shapes() -> None:
    want = inventory("satmae_temporal").expand()
    config = load_config("satmae_temporal_vit_large")
    with torch.device("meta"):
        made = build(config, declared(config.data))
    assert released(made, 16) == {k: v for k, v in want.items() if not COMPUTED.fullmatch(k)}
    code, decoder = config.model.options["time_code_width"], config.objective.decoder
    assert want["pos_embed"][-1] == made.backbone.width - code
    assert want["decoder_pos_embed"][-1] == decoder.width - decoder.time_code_width


def test_published_parameter_counts() -> None:
    """Measured on the published code, in millions; its fixed tables count as parameters there."""
    large, group = group_c("large", scales=True), inventory("satmaepp_group")
    layout = group.expand()
    total = parameters(large) + tables(layout)
    assert round(total / 1e6, 2) == 329.33
    assert total == sum(torch.Size(shape).numel() for shape in layout.values())
    encoder = parameters(large.backbone) + tables(layout, decoder=False)
    assert round(encoder / 1e6, 2) == 303.08
    assert parameters(large.get_submodule(f"scale_heads.{MODALITY}")) == 117_100
    base = group.expand({**group.released, "D": 768, "depth": 12})
    assert round((parameters(group_c("base", scales=True)) + tables(base)) / 1e6, 2) == 111.74
    colour = inventory("satmaepp_rgb").expand()
    assert round((parameters(rgb()) + tables(colour)) / 1e6, 2) == 329.55
