"""What all ViT files share: timm's block names, the class token, positions, left-overs."""

import math
import re
from typing import Any

import torch
from torch import Tensor

from fm.errors import FMError
from fm.foreign.convert import Choice, Rule
from fm.foreign.reading import Reading
from fm.foreign.recognise import Recognised
from fm.models.layout import group_of
from fm.models.positions import sincos_2d
from fm.models.registry import SIZES

BLOCKS = (
    r"(blocks\.\d+\.(?:norm[12]|attn\.(?:qkv|proj)|mlp\.fc[12])\.(?:weight|bias)"
    r"|blocks\.\d+\.ls[12]\.gamma)"
)
LEFT_OVER = (
    Rule(
        r"(?:decoder_|proj_up_|up_block|fpn\.|fcn|mask_token_decoder|pos_emb_projection).*",
        None,
        "decoder",
    ),
    Rule(r"mask_token", None, "decoder: the token of masked places"),
    Rule(r"(?:head|fc)\..*", None, "classifier"),
)
TOLERANCE = 1e-4
"""Largest difference at which a stored table counts as the sines and cosines of its formula;
released tables were made in float64 and stored as float32, or rounded to float16."""


def flat(value: Tensor) -> Tensor:
    """Lay a convolution kernel `[D, C, p, p]` out as the rows of a linear map `[D, C p p]`."""
    return value.flatten(1)


def patch_rules(key: str, group: str, modality: str) -> tuple[Rule, ...]:
    """Map a strided convolution to our linear projection."""
    target = f"patch_embed.{group}.embed.{modality}.proj"
    return (
        Rule(rf"{key}\.weight", f"{target}.weight", "convolution kernel as a matrix", flat),
        Rule(rf"{key}\.bias", f"{target}.bias"),
    )


def size(found: Recognised, choice: Choice, where: str) -> tuple[str, dict[str, Any]]:
    """Return the name of the registered size and the options that fix the trunk.

    Raises:
        UsageError: heads were not given.
        FMError: heads do not divide the width.
    """
    numbers = found.numbers
    width, depth = numbers["width"], numbers["depth"]
    alike = [(n, s) for n, s in SIZES.items() if (s["width"], s["depth"]) == (width, depth)]
    published = ", ".join(f"ViT-{n} of this width and depth has {s['heads']}" for n, s in alike)
    heads = choice.need("heads", where, published or "number of attention heads")
    if heads < 1 or width % heads:
        raise FMError(f"{where}: {heads} heads do not divide the width {width}; check heads=")
    name = next((n for n, s in alike if s["heads"] == heads), "base")
    options = {"width": width, "depth": depth, "heads": heads, "mlp_ratio": numbers["mlp_ratio"]}
    return f"vit_{name}", options


def norm_rules(found: Recognised, choice: Choice, where: str) -> tuple[dict[str, Any], list[Rule]]:
    """Decide between `norm` (of every token) and `fc_norm` (of the mean)."""
    state = found.numbers
    if state.get("both_norms"):
        pooling = choice.need("pooling", where, "it has norm and fc_norm: cls or mean")
    elif state["final_norm"] == "fc_norm":
        pooling = "mean"
        if choice.pooling == "cls":
            raise FMError(f"{where}: fc_norm belongs to the mean of the tokens; leave pooling out")
    else:
        pooling = choice.pooling or "mean"
    after = state["final_norm"] == "fc_norm" or (state.get("both_norms") and pooling == "mean")
    rules = [
        Rule(r"fc_norm\.(.*)", r"norm.\1") if after else Rule(r"norm\.(.*)", r"norm.\1"),
        Rule(r"(?:fc_)?norm\..*", None, f"not used with pooling {pooling}"),
    ]
    return {"pooling": pooling, "pre_pool_norm": bool(after)}, rules


def fresh_norm(name: str, width: int) -> dict[str, tuple[Tensor, str]]:
    """Return scale and shift of a norm that a released file ends before; torchgeo leaves it so."""
    why = "a norm without scale and shift: the released files have none"
    return {f"{name}.weight": (torch.ones(width), why), f"{name}.bias": (torch.zeros(width), why)}


def same_table(table: Tensor, width: int) -> bool:
    """Say whether a stored table `[1, 1 + L, width]` is the formula's, zeros for the class."""
    if table.ndim != 3 or table.shape[0] != 1 or table.shape[2] != width or width % 4:
        return False
    side = math.isqrt(max(0, table.shape[1] - 1))
    if side * side != table.shape[1] - 1:
        return False
    made = torch.cat([torch.zeros(1, width), sincos_2d(width, side, side)])
    return bool(torch.allclose(table[0].float(), made, rtol=0, atol=TOLERANCE))


def position_rules(
    reading: Reading, found: Recognised, choice: Choice, key: str = "pos_embed"
) -> tuple[dict[str, Any], list[Rule]]:
    """Use a stored position table, or compute it where it is what the formula gives.

    Raises:
        FMError: the table is of no square grid.
    """
    numbers = found.numbers
    width = numbers["width"] - numbers.get("time_code", 0)
    pattern = re.escape(key)
    if same_table(reading.state[key], width):
        reason = "positions: equal to the sines and cosines that the model computes"
        return {"positions": "sincos"}, [Rule(pattern, None, reason)]
    if numbers["grid"] is None:
        raise FMError(
            f"{reading.where}: {numbers['tokens']} positions are no square grid; only those are "
            f"converted"
        )
    options: dict[str, Any] = {"positions": "learned", "grid": numbers["grid"]}
    if choice.position_resize is not None:
        options["position_resize"] = choice.position_resize
    if numbers["class_row"]:
        return options, [Rule(pattern, "pos_embed")]
    reason = "a row of zeros in front: the class token has no position"
    return options, [Rule(pattern, "pos_embed", reason, _with_class_row)]


def _with_class_row(table: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(table[:, :1]), table], dim=1)


def place(found: Recognised, choice: Choice, where: str, channels: int | None) -> tuple[str, str]:
    """Return the modality and the token group of a file with one grid."""
    modality = choice.modality(where, channels)
    return modality, group_of(modality)
