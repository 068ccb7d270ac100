"""DOFA (arXiv 2403.15356): kernels made from wavelengths."""

from typing import Any

from fm.errors import UsageError
from fm.foreign.convert import Choice, Plan, Rule
from fm.foreign.families import trunk
from fm.foreign.reading import Reading
from fm.foreign.recognise import Recognised


def plan(reading: Reading, found: Recognised, choice: Choice) -> Plan:
    """Plan a ViT whose patch embedding is generated from the bands' wavelengths.

    Raises:
        UsageError: the layer was not given.
    """
    where, numbers = reading.where, found.numbers
    modality, group = trunk.place(found, choice, where, None)
    layer = choice.need("layer", where, "v2 since the order of kernels was corrected, or v1")
    if layer not in ("v1", "v2"):
        raise UsageError(f"layer={layer!r}: give v1 or v2")
    name, options = trunk.size(found, choice, where)
    tokenizer: dict[str, Any] = {
        "codes": numbers["codes"],
        "learned": numbers["learned"],
        "shift": 1,
    }
    notes: tuple[str, ...] = ()
    if layer == "v1":
        tokenizer["mixed"] = True
        notes = (
            "layer v1: its kernels depend on the order of the bands; bands= must list those that "
            "it was trained on in its order, and no others come in",
        )
    positions, rules = trunk.position_rules(reading, found, choice)
    fresh: dict[str, Any] = {}
    if numbers["final_norm"] == "none":
        norm_options: dict[str, Any] = {"pooling": "mean", "pre_pool_norm": True}
        norm: list[Rule] = []
        fresh = trunk.fresh_norm("norm", numbers["width"])
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
        notes=notes,
    )
