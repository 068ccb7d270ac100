"""One plain ViT: MAE, SatMAE RGB and temporal, SatMAE++ RGB, Scale-MAE, timm, DINOv2, SSL4EO."""

from typing import Any

from torch import Tensor

from fm.errors import UsageError
from fm.foreign.convert import Choice, Plan, Rule
from fm.foreign.families import trunk
from fm.foreign.reading import Reading
from fm.foreign.recognise import Recognised
from fm.foreign.shapes import REGISTERS

ORDERS = ("as_listed", "reversed", "rgb", "bgr")


def plan(reading: Reading, found: Recognised, choice: Choice) -> Plan:
    """Plan a ViT with one patch convolution.

    Scale-MAE's positions are those of the token number times the sampling distance over a
    reference (arXiv 2212.14532, eq. 4), whatever the patch; ours count metres of ground, so the
    reference is multiplied by the patch.
    """
    where, numbers = reading.where, found.numbers
    modality, group = trunk.place(found, choice, where, numbers["channels"])
    name, options = trunk.size(found, choice, where)
    norm_options, norm = trunk.norm_rules(found, choice, where)
    if found.family == "scale_mae":
        metres = choice.need(
            "reference_gsd_m", where, "metres that count as 1: 1.0 in the paper and in torchgeo"
        )
        reason = "positions: computed from the sampling distance"
        positions: dict[str, Any] = {
            "positions": "metres",
            "reference_m": metres * numbers["patch"],
        }
        rules = [Rule("pos_embed", None, reason)]
    else:
        positions, rules = trunk.position_rules(reading, found, choice)
    if "time_code" in numbers:
        options["time_code_width"] = numbers["time_code"]
    if numbers["layer_scale"]:
        options["layer_scale"] = 1.0
    if numbers["registers"]:
        options["registers"] = numbers["registers"]
    flipped, notes = _order(found, choice, where)
    patch = [
        Rule(r.pattern, r.target, "convolution kernel as a matrix, channels reversed", _reversed)
        if flipped and r.change is not None
        else r
        for r in trunk.patch_rules(r"patch_embed\.proj", group, modality)
    ]
    return Plan(
        name,
        {**options, **norm_options, **positions},
        numbers["patch"] * choice.gsd(modality),
        (
            Rule("cls_token", "cls_token"),
            Rule("|".join(REGISTERS), "reg_token"),
            *patch,
            *rules,
            Rule(trunk.BLOCKS, r"\1"),
            *norm,
            *trunk.LEFT_OVER,
        ),
        notes=notes,
    )


def _order(found: Recognised, choice: Choice, where: str) -> tuple[bool, tuple[str, ...]]:
    order = choice.channel_order
    if found.family == "satmaepp_rgb":
        order = choice.need(
            "channel_order", where, "rgb, or bgr as users found the released pretrained weights"
        )
    if order is None:
        return False, ()
    if order not in ORDERS:
        raise UsageError(f"channel_order={order!r}: give one of {', '.join(ORDERS)}")
    flipped = order in ("bgr", "reversed")
    if order in ("rgb", "bgr"):
        items = next(iter(choice.bands.values()))
        at = [band.wavelength_nm for band in items]
        known = [nm for nm in at if nm is not None]
        if len(items) != 3 or len(known) != 3 or known != sorted(known, reverse=True):
            raise UsageError(
                f"{where}: with channel_order={order!r} list the bands as red, green, blue; got "
                f"{', '.join(band.name for band in items)}"
            )
    note = "channels of the file reversed to the order of bands" if flipped else ""
    return flipped, (note,) if note else ()


def _reversed(value: Tensor) -> Tensor:
    return value.flip(1).flatten(1)
