"""Which family a state dict is of, and what its shapes say."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fm.errors import FMError
from fm.foreign.inventory import inventory, layouts

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Recognised:
    """What a file says of itself.

    Attributes:
        family: a name of `FAMILIES`.
        numbers: architecture read from shapes (`width`, `depth`, `patch`, `channels`, ...).
        unsaid: what the file cannot say and the caller must (arguments of `fm.foreign.load`).
        convertible: eofm has the architecture.
        notes: what to know before using it.
    """

    family: str
    numbers: Mapping[str, Any]
    unsaid: tuple[str, ...]
    convertible: bool = True
    notes: tuple[str, ...] = field(default=())

    def text(self) -> str:
        """Write a few lines a person reads."""
        lines = [f"family: {self.family} ({FAMILIES[self.family].title})"]
        lines += [f"  {key}: {value}" for key, value in self.numbers.items()]
        if self.unsaid:
            lines.append(f"not in the file, give: {', '.join(self.unsaid)}")
        lines += [f"note: {note}" for note in self.notes]
        if not self.convertible:
            lines.append("eofm recognises this family and does not convert it")
        return "\n".join(lines)


@dataclass(frozen=True)
class Signature:
    """How a family is told from its keys."""

    title: str
    test: Callable[[State], bool]
    read: Callable[[State], dict[str, Any]]
    unsaid: tuple[str, ...]
    convertible: bool = True
    notes: tuple[str, ...] = ()


def recognise(state: State, where: str = "the state") -> Recognised:
    """Tell the family of a state dict (specification, section 6).

    Args:
        state: key to tensor, wrapping prefixes taken off.
        where: the file, for errors.

    Raises:
        FMError: no family's signature fits (says which layout is nearest and how many keys it
            shares), or several do.
    """
    found = [name for name, signature in FAMILIES.items() if signature.test(state)]
    if len(found) > 1:
        shares = ", ".join(f"{n} ({_share(state, n)} of {len(state)} keys)" for n in found)
        raise FMError(f"{where}: the keys fit several families: {shares}; save one model alone")
    if not found:
        best = max(
            layouts(),
            key=lambda name: (_share(state, name), FAMILIES[inventory(name).family].convertible),
        )
        shown = ", ".join(list(state)[:3]) + (", ..." if len(state) > 3 else "")
        raise FMError(
            f"{where}: no known family ({len(state)} keys: {shown}); nearest is {best}, which "
            f"shares {_share(state, best)} of them"
        )
    signature = FAMILIES[found[0]]
    return Recognised(
        found[0],
        signature.read(state),
        signature.unsaid,
        signature.convertible,
        signature.notes,
    )


def _share(state: State, name: str) -> int:
    """Count the keys that a layout knows."""
    if name not in layouts():
        return 0
    layout = inventory(name)
    return sum(layout.known(key) for key in state)


def count(state: State, pattern: str) -> int:
    """Count the different first groups of a pattern among the keys (blocks, channel groups)."""
    found = (re.match(pattern, key) for key in state)
    return len({match.group(1) for match in found if match})


def _shape(state: State, key: str) -> tuple[int, ...]:
    return tuple(state[key].shape) if key in state else ()


def _has(state: State, prefix: str) -> bool:
    return any(key.startswith(prefix) for key in state)


def _dims(state: State, key: str) -> int:
    return len(_shape(state, key))


def _plain(state: State) -> bool:
    """A ViT whose patch embedding is one convolution and whose positions are as wide as tokens."""
    if _dims(state, "patch_embed.proj.weight") != 4 or not _trunk(state):
        return False
    table = _shape(state, "pos_embed")
    return bool(table) and table[-1] == _shape(state, "cls_token")[-1]


def _trunk(state: State) -> bool:
    return "blocks.0.attn.qkv.weight" in state and "cls_token" in state


def _groups(state: State) -> bool:
    return _dims(state, "patch_embed.0.proj.weight") == 4 and "channel_embed" in state


def _scale_mae(state: State) -> bool:
    return _has(state, "fpn.") or _has(state, "fcn") or "mask_token_decoder" in state


def _spectral(state: State, core: str) -> bool:
    return any(
        _shape(state, f"{lead}spectral_adapter.0.weight")[1:] == (1, 7, 1, 1)
        and _has(state, lead + core)
        for lead in ("", SPECTRAL_PREFIX)
    )


SPECTRAL_PREFIX = "encoder.vit.spec_vit."


def _less(state: State, inner: bool) -> bool:
    lead = "encoder." if _has(state, "encoder.") else ""
    if _dims(state, f"{lead}optical_patch_embed.proj.0.weight") != 5:
        return False
    return _has(state, f"{lead}blocks.0.attn.low_dim_pool") == inner


def trunk_numbers(state: State, lead: str = "") -> dict[str, Any]:
    """Read width, depth and MLP ratio of timm-named blocks."""
    width = state[f"{lead}cls_token"].shape[-1]
    hidden = _shape(state, f"{lead}blocks.0.mlp.fc1.weight") or (4 * width,)
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


def _finish(state: State) -> dict[str, Any]:
    classes = _shape(state, "head.weight")
    return {
        "final_norm": "fc_norm" if _has(state, "fc_norm.") else "norm",
        **({"both_norms": True} if {"norm.weight", "fc_norm.weight"} <= set(state) else {}),
        **({"classes": classes[0]} if classes else {}),
        "decoder": _has(state, "decoder_"),
    }


REGISTERS = ("reg_token", "register_tokens")
"""What timm and DINOv2 call them."""


def _read_vit(state: State) -> dict[str, Any]:
    _, channels, patch, _ = state["patch_embed.proj.weight"].shape
    return {
        **trunk_numbers(state),
        "channels": channels,
        "patch": patch,
        **table_numbers(state),
        "layer_scale": "blocks.0.ls1.gamma" in state,
        "registers": next((_shape(state, k)[-2] for k in REGISTERS if _dims(state, k) == 3), 0),
        **_finish(state),
    }


def _read_groups(state: State) -> dict[str, Any]:
    groups = count(state, r"patch_embed\.(\d+)\.")
    shapes = [_shape(state, f"patch_embed.{i}.proj.weight") for i in range(groups)]
    return {
        **trunk_numbers(state),
        "channels": tuple(shape[1] for shape in shapes if shape),
        "patch": shapes[0][-1],
        **table_numbers(state),
        "group_code": state["channel_embed"].shape[-1],
        "fine_tuned": "channel_cls_embed" in state,
        **_finish(state),
    }


def _read_temporal(state: State) -> dict[str, Any]:
    width = state["cls_token"].shape[-1]
    return {**_read_vit(state), "time_code": width - state["pos_embed"].shape[-1]}


def _read_spectral(state: State) -> dict[str, Any]:
    lead = SPECTRAL_PREFIX if _has(state, SPECTRAL_PREFIX) else ""
    core = f"{lead}vit_core."
    return {
        **trunk_numbers(state, core),
        "patch": state[f"{core}patch_embed.proj.weight"].shape[-1],
        **table_numbers(state, f"{core}pos_embed"),
        "lightning": bool(lead),
    }


def _read_spectral_resnet(state: State) -> dict[str, Any]:
    return {
        "stages": tuple(count(state, rf"resnet\.layer{i}\.(\d+)\.") for i in (1, 2, 3, 4)),
        "planes": _shape(state, "resnet.layer1.0.conv3.weight")[0] // 4,
    }


def _read_less(state: State) -> dict[str, Any]:
    lead = "encoder." if _has(state, "encoder.") else ""
    width = state[f"{lead}optical_patch_embed.proj.2.weight"].shape[0]
    inner = "attn." if _has(state, f"{lead}blocks.0.attn.low_dim_pool") else ""
    block = f"{lead}blocks.0."
    # c h and s h, where D = c s h: so the width of a head in either branch, and h, can be told
    channel, spatial, ranks, hidden = (
        (_shape(state, f"{block}{key}.weight") or (0,))[0]
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


def _read_dofa(state: State, lead: str = "patch_embed") -> dict[str, Any]:
    width = state["cls_token"].shape[-1]
    kernel = (_shape(state, f"{lead}.weight_generator.fc_weight.weight") or (0,))[0]
    tokens = _shape(state, f"{lead}.weight_generator.weight_tokens") or (0, 0)
    return {
        **trunk_numbers(state),
        "patch": math.isqrt(kernel // width),
        **table_numbers(state),
        "codes": tokens[1],
        "learned": tokens[0],
        "final_norm": next((n for n in ("fc_norm", "norm") if f"{n}.weight" in state), "none"),
    }


def _read_croma(state: State) -> dict[str, Any]:
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


def _read_panopticon(state: State) -> dict[str, Any]:
    return {
        **trunk_numbers(state),
        "patch": state["patch_embed.conv3d.conv3d.weight"].shape[-1],
        "attention_width": state["patch_embed.conv3d.conv3d.weight"].shape[0],
        **table_numbers(state),
    }


STAGES = ("layer1", "layer2", "layer3", "layer4")


def _read_resnet(
    state: State, stem: str = "conv1", stages: tuple[str, ...] = STAGES
) -> dict[str, Any]:
    return {
        "channels": state[f"{stem}.weight"].shape[1],
        "stages": tuple(count(state, rf"{stage}\.(\d+)\.") for stage in stages),
        "bottleneck": f"{stages[0]}.0.conv3.weight" in state,
        "planes": _shape(state, f"{stages[0]}.0.conv1.weight")[0],
    }


def _read_indexed(state: State) -> dict[str, Any]:
    return _read_resnet(state, "0", ("4", "5", "6", "7"))


def _efficientnet(state: State, squeeze: bool) -> bool:
    lead = "encoder." if _has(state, "encoder.") else ""
    names = f"{lead}_conv_stem.weight", f"{lead}_blocks.0._depthwise_conv.weight"
    return (
        all(name in state for name in names)
        and (f"{lead}_blocks.0._se_reduce.weight" in state) == squeeze
    )


def _read_efficientnet(state: State) -> dict[str, Any]:
    lead = "encoder." if _has(state, "encoder.") else ""
    blocks = count(state, re.escape(lead) + r"_blocks\.(\d+)\.")
    return {
        "channels": _shape(state, f"{lead}_conv_stem.weight")[1],
        "blocks": blocks,
        "last": (_shape(state, f"{lead}_blocks.{blocks - 1}._project_conv.weight") or (0,))[0],
        "head": f"{lead}_conv_head.weight" in state,
        "lead": lead,
    }


def _read_presto(state: State) -> dict[str, Any]:
    width = _shape(state, "encoder.latlon_embed.weight")[0]
    return {
        "width": width,
        "depth": count(state, r"encoder\.blocks\.(\d+)\."),
        "mlp_ratio": (_shape(state, "encoder.blocks.0.mlp.fc1.weight") or (4 * width,))[0] / width,
        "longest": (_shape(state, "encoder.pos_embed") or (1, 0))[1],
        "groups": (_shape(state, "encoder.channel_embed.weight") or (0,))[0],
    }


_VIT = ("bands", "normalisation", "heads")

FAMILIES: dict[str, Signature] = {
    "vit": Signature(
        "MAE, SatMAE RGB, timm, DINOv2, SSL4EO, SoftCon",
        lambda s: _plain(s) and not _has(s, "up_block") and not _scale_mae(s),
        _read_vit,
        _VIT,
        notes=("Scale-MAE's encoder alone looks the same: give family='scale_mae' if it is one",),
    ),
    "scale_mae": Signature(
        "Scale-MAE",
        lambda s: _plain(s) and _scale_mae(s),
        _read_vit,
        (*_VIT, "reference_gsd_m"),
    ),
    "satmaepp_rgb": Signature(
        "SatMAE++ RGB",
        lambda s: _plain(s) and _has(s, "up_block"),
        _read_vit,
        (*_VIT, "channel_order"),
        notes=("users found the released pretrained weights to expect B, G, R",),
    ),
    "satmae_group": Signature(
        "SatMAE group_c, and fine-tuned SatMAE++ (the same layout)",
        lambda s: _groups(s) and _trunk(s) and not _has(s, "up_block1"),
        _read_groups,
        (*_VIT, "token_groups"),
    ),
    "satmaepp_group": Signature(
        "SatMAE++ group_c",
        lambda s: _groups(s) and _trunk(s) and _has(s, "up_block1"),
        _read_groups,
        (*_VIT, "token_groups"),
    ),
    "satmae_temporal": Signature(
        "SatMAE temporal",
        lambda s: (
            _dims(s, "patch_embed.proj.weight") == 4
            and _trunk(s)
            and "channel_embed" not in s
            and _dims(s, "pos_embed") == 3
            and _shape(s, "pos_embed")[-1] < _shape(s, "cls_token")[-1]
        ),
        _read_temporal,
        _VIT,
        notes=("the code of the time takes year - 2002, month - 1 and hour, as its release does",),
    ),
    "spectral_vit": Signature(
        "SpectralEarth ViT",
        lambda s: _spectral(s, "vit_core."),
        _read_spectral,
        _VIT,
    ),
    "spectral_resnet": Signature(
        "SpectralEarth ResNet-50",
        lambda s: _spectral(s, "resnet."),
        _read_spectral_resnet,
        ("bands", "normalisation"),
    ),
    "less_v1": Signature(
        "LESS ViT v1",
        lambda s: _less(s, inner=False),
        _read_less,
        ("bands", "normalisation", "perception_m"),
        notes=("no weights of LESS ViT were ever released",),
    ),
    "less_v2": Signature(
        "LESS ViT v2",
        lambda s: _less(s, inner=True),
        _read_less,
        ("bands", "normalisation", "perception_m", "wavelength_range_nm (rotary codes)"),
        notes=("no weights of LESS ViT were ever released",),
    ),
    "dofa": Signature(
        "DOFA",
        lambda s: "patch_embed.weight_generator.weight_tokens" in s and _trunk(s),
        _read_dofa,
        (*_VIT, "layer"),
        notes=("weights from before the kernels' order was corrected need another layer: v1",),
    ),
    "croma": Signature(
        "CROMA",
        lambda s: _has(s, "s2_encoder.transformer.layers.") or _has(s, "s1_encoder.transformer."),
        _read_croma,
        _VIT,
    ),
    "copernicus_fm": Signature(
        "Copernicus-FM",
        lambda s: _has(s, "patch_embed_spectral.") and _has(s, "patch_embed_variable."),
        lambda s: _read_dofa(s, "patch_embed_spectral"),
        _VIT,
        notes=("kernels of variables without a wavelength are left out",),
    ),
    "panopticon": Signature(
        "Panopticon",
        lambda s: "patch_embed.conv3d.conv3d.weight" in s and _trunk(s),
        _read_panopticon,
        _VIT,
    ),
    "resnet": Signature(
        "ResNet (timm, torchvision, torchgeo)",
        lambda s: "conv1.weight" in s and "layer1.0.conv1.weight" in s and "bn1.weight" in s,
        _read_resnet,
        ("bands", "normalisation"),
    ),
    "indexed_resnet": Signature(
        "ResNet with numbers for names (SeCo, CACo, SSL4Eco)",
        lambda s: _dims(s, "0.weight") == 4 and "1.running_mean" in s and "4.0.conv1.weight" in s,
        _read_indexed,
        ("bands", "normalisation"),
    ),
    "galileo": Signature(
        "Galileo",
        lambda s: _has(s, "space_time_embed.") and "s_t_channel_embed" in s,
        lambda s: {
            "width": _shape(s, "month_embed.weight")[-1] * 4,
            "depth": count(s, r"blocks\.(\d+)\."),
            "patch": _shape(s, "space_time_embed.S1.proj.weight")[-1],
        },
        ("bands", "normalisation", "heads"),
        convertible=False,
        notes=("its groups of channels over time, place and statics have no home here",),
    ),
    "presto": Signature(
        "Presto",
        lambda s: _has(s, "encoder.eo_patch_embed.") and "encoder.latlon_embed.weight" in s,
        _read_presto,
        _VIT,
        notes=("a pixel's series: Sentinel-1, Sentinel-2, weather and terrain by name",),
    ),
    "efficientnet": Signature(
        "EfficientNet (efficientnet_pytorch, U-Nets of segmentation_models_pytorch)",
        lambda s: _efficientnet(s, squeeze=True),
        _read_efficientnet,
        ("bands", "normalisation"),
    ),
    "efficientnet_lite": Signature(
        "EfficientNet-Lite (efficientnet_lite_pytorch)",
        lambda s: _efficientnet(s, squeeze=False),
        _read_efficientnet,
        ("bands", "normalisation"),
    ),
    "geoclip": Signature(
        "GeoCLIP location encoder",
        lambda s: _dims(s, "LocEnc0.capsule.0.b") == 2,
        lambda s: {
            "branches": count(s, r"LocEnc(\d+)\."),
            "width": _shape(s, "LocEnc0.capsule.1.weight")[0],
            "dim": _shape(s, "LocEnc0.head.0.weight")[0],
        },
        (),
        convertible=False,
        notes=(
            "a location encoder, no backbone: fm models pull geoclip --from FILE, or "
            "fm.location.geoclip(FILE)",
        ),
    ),
}
