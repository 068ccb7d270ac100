"""What is decayed, over all backbones and objectives: every kind of parameter is in one list."""

import pytest
from torch import nn

from fm.errors import UsageError
from fm.models.layers import in_block
from pretrain.engine.groups import parameter_groups
from tests.conformance.backbones import BACKBONES
from tests.conformance.objectives import OBJECTIVES

DECAYED = {
    ("Conv1d", "weight"),
    ("Conv2d", "weight"),
    ("ConvTranspose2d", "weight"),
    ("EncodedLinear", "weight"),
    ("Linear", "weight"),
    ("MultiheadAttention", "in_proj_weight"),
    ("NonDynamicallyQuantizableLinear", "weight"),
    ("Prototypes", "weight"),
    ("_Padded", "weight"),
}
NOT_DECAYED = {
    ("ChannelAttention", "embed_orbit"),
    ("ChannelAttention", "embed_receive"),
    ("ChannelAttention", "embed_transmit"),
    ("ChannelAttention", "query"),
    ("CopernicusFM", "cls_token"),
    ("CopernicusFM", "coord_token"),
    ("CopernicusFM", "scale_token"),
    ("CopernicusFM", "time_token"),
    ("Embedding", "weight"),
    ("Galileo", "s_t_channel_embed"),
    ("Galileo", "sp_channel_embed"),
    ("Galileo", "st_channel_embed"),
    ("Galileo", "t_channel_embed"),
    ("LessDecoder", "channel_mask_token"),
    ("LessDecoder", "mask_token"),
    ("LessDecoder", "spatial_mask_token"),
    ("LessViT", "channel_cls_token"),
    ("LessViT", "cls_token"),
    ("LessViT", "spatial_cls_token"),
    ("MAE", "mask_token"),
    ("MultiScaleMAE", "mask_token"),
    ("TransformerWeightGenerator", "bias_token"),
    ("TransformerWeightGenerator", "weight_tokens"),
    ("VisionTransformer", "channel_cls_embed"),
    ("VisionTransformer", "channel_embed"),
    ("VisionTransformer", "cls_token"),
    ("VisionTransformer", "pos_embed"),
    ("VisionTransformer", "reg_token"),
    ("_Generator", "bias_token"),
    ("_Generator", "weight_tokens"),
}
"""Of two axes or more; what has one (norms, biases, scales) is never decayed."""


def built() -> dict[str, nn.Module]:
    return {
        **{name: case.build() for name, case in BACKBONES.items()},
        **{name: case.build() for name, case in OBJECTIVES.items()},
    }


def test_every_kind_of_parameter_is_decayed_or_not_as_listed() -> None:
    """Defect: positions, queries or codes pulled to zero because they have two axes."""
    seen: dict[bool, set[tuple[str, str]]] = {True: set(), False: set()}
    for name, module in built().items():
        groups = parameter_groups(module, 0.05)
        placed = [id(p) for group in groups for p in group["params"]]
        trained = [id(p) for p in module.parameters() if p.requires_grad]
        assert sorted(placed) == sorted(trained), name
        decayed = {id(p) for g in groups if g["weight_decay"] > 0 for p in g["params"]}
        assert all(g["weight_decay"] in (0.0, 0.05) and g["lr_scale"] == 1.0 for g in groups)
        for part in module.modules():
            for own, parameter in part.named_parameters(recurse=False):
                if parameter.ndim < 2:
                    assert id(parameter) not in decayed, (name, own)
                elif parameter.requires_grad:
                    seen[id(parameter) in decayed].add((type(part).__name__, own))
    assert seen == {True: DECAYED, False: NOT_DECAYED}


ONE_STACK = [
    name for name, case in OBJECTIVES.items() if case.backbone.name in ("vit_nano", "less_nano")
]


@pytest.mark.parametrize("name", ONE_STACK)
def test_rates_fall_from_the_end_of_the_backbone_to_its_beginning(name: str) -> None:
    """Defect: layers counted from the wrong end, or the decoder's blocks taken for the model's."""
    objective = OBJECTIVES[name].build()
    backbone = objective.backbone
    groups = parameter_groups(objective, 0.05, backbone=backbone, layer_decay=0.5)
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    depth = 1  # of all cases
    for own, parameter in backbone.named_parameters():
        if not parameter.requires_grad:
            continue
        if in_block(own):
            assert scale[id(parameter)] == 0.5**depth, own
        elif own.startswith(("patch_embed", "cls_token")):
            assert scale[id(parameter)] == 0.5 ** (depth + 1), own
        elif own.startswith("norm."):
            assert scale[id(parameter)] == 1.0, own
    inside = {id(p) for p in backbone.parameters()}
    others = [p for p in objective.parameters() if p.requires_grad and id(p) not in inside]
    assert all(scale[id(p)] == 1.0 for p in others)
    assert len(set(scale.values())) == 3


def test_a_backbone_of_several_stacks_is_refused_in_words() -> None:
    model = BACKBONES["vit-generator"].build()
    with pytest.raises(UsageError, match=r"vit_nano has several .*set optimizer.layer_decay=1"):
        parameter_groups(model, 0.05, backbone=model, layer_decay=0.5)
