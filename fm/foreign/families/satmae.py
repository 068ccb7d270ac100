"""SatMAE and SatMAE++ with grouped channels (arXiv 2207.08051, 2403.05419)."""

from typing import Any

import torch

from fm.errors import UsageError
from fm.foreign.convert import Choice, Plan, Rule
from fm.foreign.families import trunk
from fm.foreign.reading import Reading
from fm.foreign.recognise import Recognised
from fm.models.positions import sincos_1d

PUBLISHED = "the released fMoW-Sentinel files: g0 B02 B03 B04 B08; g1 B05 B06 B07 B8A; g2 B11 B12"


def plan(reading: Reading, found: Recognised, choice: Choice) -> Plan:
    """Plan a ViT with one patch convolution a group and a position code beside a group code.

    The tables are fixed in pretraining and learned in fine-tuning: they are computed where they
    equal the formulas and used as they are otherwise.

    Raises:
        UsageError: groups were not given, or do not have the file's numbers of bands.
    """
    where, numbers = reading.where, found.numbers
    modality = choice.modality(where, sum(numbers["channels"]))
    counts = ", ".join(str(n) for n in numbers["channels"])
    groups = choice.need("token_groups", where, f"{counts} bands; {PUBLISHED}")
    if tuple(len(names) for names in groups.values()) != numbers["channels"]:
        given = ", ".join(f"{name} {len(names)}" for name, names in groups.items())
        raise UsageError(f"{where}: its groups have {counts} bands, token_groups: {given}")
    name, options = trunk.size(found, choice, where)
    norm_options, norm = trunk.norm_rules(found, choice, where)
    patches = [
        rule
        for i, group in enumerate(groups)
        for rule in trunk.patch_rules(rf"patch_embed\.{i}\.proj", group, modality)
    ]
    positions, codes, fresh = _codes(reading, found)
    notes = (
        ("its decoder emits bands in another order than its groups: only the encoder is used",)
        if found.family == "satmaepp_group"
        else ()
    )
    return Plan(
        name,
        {**options, **norm_options, **positions},
        numbers["patch"] * choice.gsd(modality),
        (
            Rule("cls_token", "cls_token"),
            *patches,
            *codes,
            Rule(trunk.BLOCKS, r"\1"),
            *norm,
            *trunk.LEFT_OVER,
        ),
        token_groups=groups,
        fresh=fresh,
        notes=notes,
    )


def _codes(
    reading: Reading, found: Recognised
) -> tuple[dict[str, Any], list[Rule], dict[str, tuple[torch.Tensor, str]]]:
    state, numbers = reading.state, found.numbers
    share = numbers["group_code"]
    groups = len(numbers["channels"])
    code = sincos_1d(share, torch.arange(groups, dtype=torch.float32))
    fixed = trunk.same_table(state["pos_embed"], numbers["width"] - share)
    fixed &= torch.allclose(state["channel_embed"][0].float(), code, rtol=0, atol=trunk.TOLERANCE)
    own = state.get("channel_cls_embed")
    fixed &= own is None or not bool(own.any())
    options: dict[str, Any] = {"group_code_width": share}
    if fixed:
        reason = "positions: equal to the sines and cosines that the model computes"
        names = ("pos_embed", "channel_embed", "channel_cls_embed")
        return {**options, "positions": "sincos"}, [Rule(n, None, reason) for n in names], {}
    options |= {"positions": "learned", "grid": numbers["grid"]}
    rules = [Rule(r"(pos_embed|channel_embed|channel_cls_embed)", r"\1")]
    why = "zeros: in pretraining the class token has no code"
    fresh = {"channel_cls_embed": (torch.zeros(1, 1, share), why)} if own is None else {}
    return options, rules, fresh
