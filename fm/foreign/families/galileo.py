"""Galileo (arXiv 2502.09356): groups of bands over space and time."""

from fm.errors import FMError
from fm.foreign.convert import Choice, Plan, Rule
from fm.foreign.families import trunk
from fm.foreign.reading import Reading
from fm.foreign.recognise import Recognised
from fm.models.galileo import GROUPS, PLACE


def plan(reading: Reading, found: Recognised, choice: Choice) -> Plan:
    """Plan the encoder for the groups of bands that are given.

    Raises:
        FMError: codes of another number of groups, or no kernel.
    """
    where, numbers = reading.where, found.numbers
    _, options = trunk.size(found, choice, where)
    own = [len(groups) for groups in GROUPS.values()]
    if numbers["groups"] != own:
        raise FMError(f"{where}: codes of {numbers['groups']} groups, of Galileo they are {own}")
    if not numbers["patch"]:
        raise FMError(f"{where}: no kernel that tells the size of a patch")
    names = [band.name for items in choice.bands.values() for band in items]
    left = [
        (kind, group)
        for kind, groups in GROUPS.items()
        for group, bands in groups.items()
        if group != PLACE and not set(bands) <= set(names)
    ]
    embeds = "|".join(f"{kind}_embed" for kind in GROUPS)
    return Plan(
        "galileo_base",
        {**options, "kernel": numbers["patch"], "longest": numbers["longest"]},
        numbers["patch"] * min(choice.gsd(modality) for modality in choice.bands),
        (
            *(
                Rule(rf"{kind}_embed\.{group}\..*", None, f"bands not given: {group}")
                for kind, group in left
            ),
            Rule(rf"((?:{embeds}|month_embed|norm)\..*)", r"\1"),
            Rule(r"(pos_embed|(?:s_t|sp|t|st)_channel_embed)", r"\1"),
            Rule(r"(blocks\.\d+\.(?:norm[12]|attn\.(?:[qkv]|proj)|mlp\.fc[12])\.\w+)", r"\1"),
        ),
        token_groups={"patch": names},
    )
