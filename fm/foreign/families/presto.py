"""Presto (arXiv 2304.14065): a pixel's series."""

from fm.errors import FMError
from fm.foreign.convert import Choice, Plan, Rule
from fm.foreign.families import trunk
from fm.foreign.reading import Reading
from fm.foreign.recognise import Recognised
from fm.models.presto import CODES, GROUPS


def plan(reading: Reading, found: Recognised, choice: Choice) -> Plan:
    """Plan the encoder for the groups of bands that are given.

    Raises:
        FMError: codes of another number of groups.
    """
    where = reading.where
    _, options = trunk.size(found, choice, where)
    if found.numbers["groups"] != CODES:
        raise FMError(
            f"{where}: codes of {found.numbers['groups']} groups, of Presto they are {CODES}"
        )
    names = [band.name for items in choice.bands.values() for band in items]
    left = [group for group, own in GROUPS.items() if not set(own) <= set(names)]
    return Plan(
        "presto_base",
        {**options, "longest": found.numbers["longest"]},
        min(choice.gsd(modality) for modality in choice.bands),
        (
            *(
                Rule(rf"encoder\.eo_patch_embed\.{group}\..*", None, f"bands not given: {group}")
                for group in left
            ),
            Rule(r"encoder\.dw_embed\..*", None, "classes of Dynamic World, which are labels"),
            Rule(
                r"encoder\.((?:eo_patch_embed|latlon_embed|channel_embed|month_embed|norm)\..*)",
                r"\1",
            ),
            Rule(r"encoder\.pos_embed", "pos_embed"),
            Rule(rf"encoder\.{trunk.BLOCKS}", r"\1"),
            Rule(r"decoder\..*", None, "decoder"),
            Rule(r"head\..*", None, "classifier"),
        ),
        token_groups={"pixel": names},
    )
