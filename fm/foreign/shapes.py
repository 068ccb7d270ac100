"""What the keys and shapes of a state dict say: which parts are there, and how large they are."""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

State = Mapping[str, Tensor]


def count(state: State, pattern: str) -> int:
    """Count the different first groups of a pattern among the keys (blocks, channel groups)."""
    found = (re.match(pattern, key) for key in state)
    return len({match.group(1) for match in found if match})


def shape_of(state: State, key: str) -> tuple[int, ...]:
    """Return the shape of a tensor; empty where there is none."""
    return tuple(state[key].shape) if key in state else ()


def has(state: State, prefix: str) -> bool:
    """Say whether a key begins so."""
    return any(key.startswith(prefix) for key in state)


def dims(state: State, key: str) -> int:
    """Return how many axes a tensor has, 0 where there is none."""
    return len(shape_of(state, key))


def is_plain(state: State) -> bool:
    """A ViT whose patch embedding is one convolution and whose positions are as wide as tokens."""
    if dims(state, "patch_embed.proj.weight") != 4 or not has_trunk(state):
        return False
    table = shape_of(state, "pos_embed")
    return bool(table) and table[-1] == shape_of(state, "cls_token")[-1]


def has_trunk(state: State) -> bool:
    """Say whether there are timm's blocks and a class token."""
    return "blocks.0.attn.qkv.weight" in state and "cls_token" in state


def has_groups(state: State) -> bool:
    """Say whether there is a patch embedding a group of channels."""
    return dims(state, "patch_embed.0.proj.weight") == 4 and "channel_embed" in state


def is_scale_mae(state: State) -> bool:
    """Say whether Scale-MAE's decoder is there."""
    return has(state, "fpn.") or has(state, "fcn") or "mask_token_decoder" in state


def is_spectral(state: State, core: str) -> bool:
    """Say whether SpectralEarth's adapter stands before `core`."""
    return any(
        shape_of(state, f"{lead}spectral_adapter.0.weight")[1:] == (1, 7, 1, 1)
        and has(state, lead + core)
        for lead in ("", SPECTRAL_PREFIX)
    )


SPECTRAL_PREFIX = "encoder.vit.spec_vit."


def is_less(state: State, inner: bool) -> bool:
    """Say whether it is LESS ViT with its ranks inside the attention (v2) or not (v1)."""
    lead = "encoder." if has(state, "encoder.") else ""
    if dims(state, f"{lead}optical_patch_embed.proj.0.weight") != 5:
        return False
    return has(state, f"{lead}blocks.0.attn.low_dim_pool") == inner


def trunk_numbers(state: State, lead: str = "") -> dict[str, Any]:
    """Read width, depth and MLP ratio of timm-named blocks."""
    width = state[f"{lead}cls_token"].shape[-1]
    hidden = shape_of(state, f"{lead}blocks.0.mlp.fc1.weight") or (4 * width,)
    return {
        "width": width,
        "depth": count(state, re.escape(lead) + r"blocks\.(\d+)\."),
        "mlp_ratio": hidden[0] / width,
    }


def table_numbers(state: State, key: str = "pos_embed") -> dict[str, Any]:
    """Read the token grid of a position table, with or without a class token's row in front.

    No square is one above another, but for 0 and 1; one row is the class token's alone.
    """
    rows = state[key].shape[-2]
    for tokens in (rows - 1, rows):
        side = math.isqrt(max(tokens, 0))
        if side and side * side == tokens:
            return {"tokens": tokens, "grid": side, "class_row": tokens < rows}
    return {"tokens": rows - 1, "grid": None, "class_row": True}


def finish(state: State) -> dict[str, Any]:
    """Read which norm is last, the classes, and whether a decoder is there."""
    classes = shape_of(state, "head.weight")
    return {
        "final_norm": "fc_norm" if has(state, "fc_norm.") else "norm",
        **({"both_norms": True} if {"norm.weight", "fc_norm.weight"} <= set(state) else {}),
        **({"classes": classes[0]} if classes else {}),
        "decoder": has(state, "decoder_"),
    }


REGISTERS = ("reg_token", "register_tokens")
"""What timm and DINOv2 call them."""


def read_vit(state: State) -> dict[str, Any]:
    """Read the sizes of a plain ViT."""
    _, channels, patch, _ = state["patch_embed.proj.weight"].shape
    return {
        **trunk_numbers(state),
        "channels": channels,
        "patch": patch,
        **table_numbers(state),
        "layer_scale": "blocks.0.ls1.gamma" in state,
        "registers": next((shape_of(state, k)[-2] for k in REGISTERS if dims(state, k) == 3), 0),
        **finish(state),
    }


def read_groups(state: State) -> dict[str, Any]:
    """Read the sizes of a ViT on groups of channels."""
    groups = count(state, r"patch_embed\.(\d+)\.")
    shapes = [shape_of(state, f"patch_embed.{i}.proj.weight") for i in range(groups)]
    return {
        **trunk_numbers(state),
        "channels": tuple(shape[1] for shape in shapes if shape),
        "patch": shapes[0][-1],
        **table_numbers(state),
        "group_code": state["channel_embed"].shape[-1],
        "fine_tuned": "channel_cls_embed" in state,
        **finish(state),
    }


def read_temporal(state: State) -> dict[str, Any]:
    """Read the sizes of a ViT with codes of times."""
    width = state["cls_token"].shape[-1]
    return {**read_vit(state), "time_code": width - state["pos_embed"].shape[-1]}


def read_spectral(state: State) -> dict[str, Any]:
    """Read the sizes of SpectralEarth's ViT."""
    lead = SPECTRAL_PREFIX if has(state, SPECTRAL_PREFIX) else ""
    core = f"{lead}vit_core."
    return {
        **trunk_numbers(state, core),
        "patch": state[f"{core}patch_embed.proj.weight"].shape[-1],
        **table_numbers(state, f"{core}pos_embed"),
        "lightning": bool(lead),
    }


def read_spectral_resnet(state: State) -> dict[str, Any]:
    """Read the sizes of SpectralEarth's ResNet."""
    return {
        "stages": tuple(count(state, rf"resnet\.layer{i}\.(\d+)\.") for i in (1, 2, 3, 4)),
        "planes": shape_of(state, "resnet.layer1.0.conv3.weight")[0] // 4,
    }


def read_less(state: State) -> dict[str, Any]:
    """Read the sizes of a LESS ViT."""
    lead = "encoder." if has(state, "encoder.") else ""
    width = state[f"{lead}optical_patch_embed.proj.2.weight"].shape[0]
    inner = "attn." if has(state, f"{lead}blocks.0.attn.low_dim_pool") else ""
    block = f"{lead}blocks.0."
    # c h and s h, where D = c s h: so the width of a head in either branch, and h, can be told
    channel, spatial, ranks, hidden = (
        (shape_of(state, f"{block}{key}.weight") or (0,))[0]
        for key in (
            f"{inner}low_dim_pool.channel_linear",
            f"{inner}low_dim_pool.spatial_linear",
            f"{inner}attn.channel_branch.qk",
            "mlp.fc1",
        )
    )
    return {
        "width": width,
        "patch": state[f"{lead}optical_patch_embed.proj.0.weight"].shape[-1],
        "depth": count(state, re.escape(lead) + r"blocks\.(\d+)\."),
        "heads": channel * spatial // width,
        "channel_dim": width // spatial if spatial else 0,
        "rank": ranks // (2 * channel) if channel else 0,
        "mlp_ratio": hidden / width,
        "codes": "rope" if f"{lead}pos_chan_embed.periods_c" in state else "sum",
    }


def read_dofa(state: State, lead: str = "patch_embed") -> dict[str, Any]:
    """Read the sizes of a ViT whose kernels are generated by `lead`."""
    width = state["cls_token"].shape[-1]
    kernel = (shape_of(state, f"{lead}.weight_generator.fc_weight.weight") or (0,))[0]
    tokens = shape_of(state, f"{lead}.weight_generator.weight_tokens") or (0, 0)
    return {
        **trunk_numbers(state),
        "patch": math.isqrt(kernel // width),
        **table_numbers(state),
        "codes": tokens[1],
        "learned": tokens[0],
        "final_norm": next((n for n in ("fc_norm", "norm") if f"{n}.weight" in state), "none"),
    }


def read_croma(state: State) -> dict[str, Any]:
    """Read the sizes of CROMA's encoders."""

    def layers(encoder: str) -> int:
        return count(state, rf"{encoder}\.(?:transformer\.)?layers\.(\d+)\.")

    numbers: dict[str, Any] = {
        "width": next(v for k, v in state.items() if k.endswith("norm_out.weight")).shape[0],
        "depth": {e: layers(e) for e in ("s1_encoder", "s2_encoder", "joint_encoder")},
        "pixels": {
            e: state[f"{e}.linear_input.weight"].shape[1]
            for e in ("s1_encoder", "s2_encoder")
            if f"{e}.linear_input.weight" in state
        },
    }
    if "attn_bias" in state:
        numbers["heads"] = state["attn_bias"].shape[1]
    return numbers


def read_panopticon(state: State) -> dict[str, Any]:
    """Read the sizes of Panopticon."""
    return {
        **trunk_numbers(state),
        "patch": state["patch_embed.conv3d.conv3d.weight"].shape[-1],
        "attention_width": state["patch_embed.conv3d.conv3d.weight"].shape[0],
        **table_numbers(state),
    }


STAGES = ("layer1", "layer2", "layer3", "layer4")


def read_resnet(
    state: State, stem: str = "conv1", stages: tuple[str, ...] = STAGES
) -> dict[str, Any]:
    """Read the sizes of a ResNet."""
    return {
        "channels": state[f"{stem}.weight"].shape[1],
        "stages": tuple(count(state, rf"{stage}\.(\d+)\.") for stage in stages),
        "bottleneck": f"{stages[0]}.0.conv3.weight" in state,
        "planes": shape_of(state, f"{stages[0]}.0.conv1.weight")[0],
    }


def read_indexed(state: State) -> dict[str, Any]:
    """Read the sizes of a ResNet with numbers for names."""
    return read_resnet(state, "0", ("4", "5", "6", "7"))


def is_efficientnet(state: State, squeeze: bool) -> bool:
    """Say whether it is an EfficientNet with squeeze-and-excitation, or without."""
    lead = "encoder." if has(state, "encoder.") else ""
    names = f"{lead}_conv_stem.weight", f"{lead}_blocks.0._depthwise_conv.weight"
    return (
        all(name in state for name in names)
        and (f"{lead}_blocks.0._se_reduce.weight" in state) == squeeze
    )


def read_efficientnet(state: State) -> dict[str, Any]:
    """Read the sizes of an EfficientNet, alone or as an encoder."""
    lead = "encoder." if has(state, "encoder.") else ""
    blocks = count(state, re.escape(lead) + r"_blocks\.(\d+)\.")
    return {
        "channels": shape_of(state, f"{lead}_conv_stem.weight")[1],
        "blocks": blocks,
        "last": (shape_of(state, f"{lead}_blocks.{blocks - 1}._project_conv.weight") or (0,))[0],
        "head": f"{lead}_conv_head.weight" in state,
        "lead": lead,
    }


def read_galileo(state: State) -> dict[str, Any]:
    """Read the sizes of Galileo's encoder."""
    tables = [f"{kind}_channel_embed" for kind in ("s_t", "sp", "t", "st")]
    width = 4 * shape_of(state, "s_t_channel_embed")[-1]
    kernels = [shape_of(state, key) for key in state if key.startswith("space_time_embed.")]
    return {
        "width": width,
        "depth": count(state, r"blocks\.(\d+)\."),
        "mlp_ratio": (shape_of(state, "blocks.0.mlp.fc1.weight") or (4 * width,))[0] / width,
        "patch": next((shape[-1] for shape in kernels if len(shape) == 4), 0),
        "longest": (shape_of(state, "pos_embed") or (0,))[0],
        "groups": [(shape_of(state, table) or (0,))[0] for table in tables],
    }


def read_presto(state: State) -> dict[str, Any]:
    """Read the sizes of Presto's encoder."""
    width = shape_of(state, "encoder.latlon_embed.weight")[0]
    return {
        "width": width,
        "depth": count(state, r"encoder\.blocks\.(\d+)\."),
        "mlp_ratio": (shape_of(state, "encoder.blocks.0.mlp.fc1.weight") or (4 * width,))[0]
        / width,
        "longest": (shape_of(state, "encoder.pos_embed") or (1, 0))[1],
        "groups": (shape_of(state, "encoder.channel_embed.weight") or (0,))[0],
    }
