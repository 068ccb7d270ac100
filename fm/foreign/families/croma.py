"""CROMA (arXiv 2311.00566): five modules in one file, or torchgeo's one."""

import math

import torch

from fm.errors import FMError, UsageError
from fm.foreign.convert import Choice, Plan, Rule
from fm.foreign.reading import Reading
from fm.foreign.recognise import Recognised
from fm.models.croma import OPTICAL, RADAR, distance_bias
from fm.models.layout import group_of

_NAMES = {RADAR: "radar", OPTICAL: "optical"}


def plan(reading: Reading, found: Recognised, choice: Choice) -> Plan:
    """Plan both encoders, or the one that bands were given for.

    Raises:
        UsageError: modalities that are not one of radar, one of optical bands; heads not given.
        FMError: the file has no encoder for a modality, or another distance bias.
    """
    where, numbers = reading.where, found.numbers
    roles: dict[str, str] = {}
    for modality, items in choice.bands.items():
        role = RADAR if items[0].polarisation is not None else OPTICAL
        if role in roles:
            raise UsageError(f"{where}: {roles[role]} and {modality} are both {_NAMES[role]}")
        roles[role] = modality
    sizes = {}
    for role, modality in roles.items():
        values = numbers["pixels"].get(f"{role}_encoder")
        if values is None:
            raise FMError(f"{where}: it has no {_NAMES[role]} encoder for {modality}")
        count = len(choice.bands[modality])
        patch = math.isqrt(values // count)
        if count * patch * patch != values:
            raise UsageError(
                f"{where}: its {_NAMES[role]} tokens have {values} values, which {count} bands of "
                f"{modality} do not divide into square patches; check bands="
            )
        sizes[group_of(modality)] = patch * choice.gsd(modality)
    heads = numbers.get("heads") or choice.need("heads", where, "16 in the published models")
    depth = max(d * (1 if e == "s2_encoder" else 2) for e, d in numbers["depth"].items() if d)
    rules = [*_bias(reading, heads)]
    for role in (RADAR, OPTICAL):
        if role not in roles:
            reason = f"{_NAMES[role]} encoder: no bands were given for it"
            rules.append(Rule(rf"{role}_(?:encoder|GAP_FFN)\..*", None, reason))
            continue
        modality = roles[role]
        target = f"patch_embed.{group_of(modality)}.embed.{modality}.proj"
        rules.append(Rule(rf"{role}_encoder\.linear_input\.(.*)", rf"{target}.\1"))
        rules.append(Rule(rf"({role}_(?:encoder\.transformer|GAP_FFN)\..*)", r"\1"))
    if len(roles) == 2:
        rules.append(Rule(r"(joint_encoder\..*)", r"\1"))
    else:
        rules.append(Rule(r"joint_encoder\..*", None, "joint encoder: needs radar and optical"))
    rules.append(Rule(r"decoder.*", None, "decoder"))
    size = "large" if numbers["width"] == 1024 else "base"
    options = {"width": numbers["width"], "depth": depth, "heads": heads}
    return Plan(
        f"croma_{size}",
        options,
        sizes,
        tuple(rules),
        notes=(
            "the original scales each image by its own batch's statistics; ours takes fixed ones",
        ),
    )


def _bias(reading: Reading, heads: int) -> list[Rule]:
    stored = reading.state.get("attn_bias")
    if stored is not None:
        side = math.isqrt(stored.shape[-1])
        whole = tuple(stored.shape) == (1, heads, side**2, side**2)
        made = distance_bias((side, side), heads) if whole else None
        if made is None or not torch.allclose(made, stored.float(), atol=1e-4):
            raise FMError(f"{reading.where}: attn_bias is not 2-D ALiBi of {heads} heads")
    return [Rule("attn_bias", None, "positions: equal to the bias that the model computes")]
