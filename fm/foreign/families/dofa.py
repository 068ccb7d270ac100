"""DOFA (arXiv 2403.15356): kernels made from wavelengths."""

from typing import Any

import torch

from fm.errors import FMError, UsageError
from fm.foreign.convert import Choice, Plan, Rule
from fm.foreign.families import trunk
from fm.foreign.reading import Reading
from fm.foreign.recognise import Recognised


def plan(reading: Reading, found: Recognised, choice: Choice) -> Plan:
    """Plan a ViT whose patch embedding is generated from the bands' wavelengths.

    Raises:
        UsageError: the layer was not given.
        FMError: weights of the first layer, whose kernels depend on the order of the bands.
    """
    where, numbers = reading.where, found.numbers
    modality, group = trunk.place(found, choice, where, None)
    layer = choice.need("layer", where, "v2 since the order of kernels was corrected, or v1")
    if layer not in ("v1", "v2"):
        raise UsageError(f"layer={layer!r}: give v1 or v2")
    if layer == "v1":
        raise FMError(
            f"{where}: DOFA's first layer mixes bands with pixels, its tokens depend on the order "
            f"of the bands; take the corrected weights (v2)"
        )
    name, options = trunk.size(found, choice, where)
    tokenizer = {"codes": numbers["codes"], "learned": numbers["learned"], "shift": 1}
    positions, rules = trunk.position_rules(reading, found, choice)
    fresh: dict[str, Any] = {}
    if numbers["final_norm"] == "none":
        # the released files end before the norm; torchgeo leaves it as it is made
        norm_options: dict[str, Any] = {"pooling": "mean", "pre_pool_norm": True}
        norm: list[Rule] = []
        why = "a norm without scale and shift: the released files have none"
        fresh = {
            "norm.weight": (torch.ones(numbers["width"]), why),
            "norm.bias": (torch.zeros(numbers["width"]), why),
        }
    else:
        norm_options, norm = trunk.norm_rules(found, choice, where)
    target = f"patch_embed.{group}.embed.{modality}"
    return Plan(
        name,
        {
            **options,
            **norm_options,
            **positions,
            "tokenizer": "generator",
            "tokenizer_options": tokenizer,
        },
        numbers["patch"] * choice.gsd(modality),
        (
            Rule("cls_token", "cls_token"),
            Rule(r"patch_embed\.((?:weight_generator|fclayer)\..*)", rf"{target}.\1"),
            *rules,
            Rule(trunk.BLOCKS, r"\1"),
            *norm,
            Rule(r"projector\..*", None, "distillation head"),
            *trunk.LEFT_OVER,
        ),
        fresh=fresh,
    )
