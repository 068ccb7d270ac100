"""Files of contrastive training: several networks in one state, of which one is taken.

Encoders lie beside their momentum copies, projectors, predictors and queues. Which is meant is the
caller's `part`, or what the authors themselves evaluate; where neither says, it is asked for. A key
that belongs to no known piece stays, so that the conversion refuses it by name: DeCUR's files with
deformable attention, for one, are no plain ResNets.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from fm.errors import UsageError

_LEAD = r"(?:(?:module|_orig_mod|model)\.)*"


@dataclass(frozen=True)
class Layout:
    """How the networks of one kind of training are named.

    Attributes:
        title: for reports.
        networks: prefix of each encoder to what it is.
        usual: the encoder that is taken when none is named; None where they differ in what they
            take, so that it must be named.
        inside: keys of an encoder that are no part of the backbone, with the reason.
        beside: keys outside the encoders that training alone needed, with the reason.
        needs: something of every such file beside the networks, so that another is not taken for
            it; None where the networks' names suffice.
    """

    title: str
    networks: Mapping[str, str]
    usual: str | None
    inside: Mapping[str, str] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)
    needs: str | None = None


@dataclass(frozen=True)
class Chosen:
    """One network out of several.

    Attributes:
        state: its keys, prefix taken off, and the keys that belong to nothing known, as they are.
        prefix: what was taken off.
        left: keys that were left out, in full, with the reason.
        note: which network was taken, and what else there was.
    """

    state: dict[str, Tensor]
    prefix: str
    left: dict[str, str]
    note: str


LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "MoCo v2, SeCo, CACo, SSL4Eco",
        {"encoder_q": "query encoder", "encoder_k": "momentum encoder"},
        "encoder_q",
        {r"fc\..*": "projector"},
        {r"heads_[qk]\..*": "projector", r"queue(?:_ptr)?": "queue of keys"},
    ),
    Layout(
        "MoCo v3",
        {"base_encoder": "trained encoder", "momentum_encoder": "momentum encoder"},
        "base_encoder",
        {r"(?:head|fc)\..*": "projector"},
        {r"predictor\..*": "predictor"},
    ),
    Layout(
        "DeCUR",
        {"backbone_1": "Sentinel-1", "backbone_2": "Sentinel-2"},
        None,
        {},
        {r"projector[12]\..*": "projector", r"bn\..*": "statistics of the projections"},
    ),
    Layout(
        "DINO, DINOv2",
        {"backbone": "backbone"},
        "backbone",
        {},
        {r"(?:head|dino_head|ibot_head)\..*": "projector"},
        needs=r"(?:head|dino_head|ibot_head)\.(?:mlp|last_layer)\b.*",
    ),
    Layout(
        "SatCLIP",
        {"visual": "image tower"},
        "visual",
        {r"(?:fc|head)\..*": "projector to the space of places"},
        {r"(?:location|nnet|posenc)\..*": "location tower", r"logit_scale": "temperature"},
        needs=r"(?:location|nnet)\..*",
    ),
)


def choose(state: Mapping[str, Tensor], part: str | None, where: str) -> Chosen | None:
    """Take one network out of a state that holds several.

    Args:
        state: of the file, common prefixes taken off.
        part: the network, by its prefix.
        where: the file, for errors.

    Returns:
        the network; None when the state is of no such layout.

    Raises:
        UsageError: there is no such network, or it must be named and was not.
    """
    for layout in LAYOUTS:
        names = "|".join(map(re.escape, layout.networks))
        pattern = re.compile(rf"({_LEAD})({names})\.(.+)")
        found = {key: match for key in state if (match := pattern.fullmatch(key))}
        if found and (layout.needs is None or _any(layout.needs, state)):
            break
    else:
        return None
    there = [name for name in layout.networks if any(m[2] == name for m in found.values())]
    chosen = part or layout.usual
    if chosen is None:
        told = ", ".join(f"{name} ({layout.networks[name]})" for name in there)
        raise UsageError(
            f"{where}: {layout.title} networks in one file: {told}; say which by part="
        )
    if chosen not in there:
        raise UsageError(f"{where}: no part {chosen!r}; networks: {', '.join(there)}")
    kept: dict[str, Tensor] = {}
    left: dict[str, str] = {}
    prefix = ""
    for key, value in state.items():
        match = found.get(key)
        if match and match[2] == chosen:
            reason = _reason(match[3], layout.inside)
            if reason is None:
                prefix = f"{match[1]}{chosen}."
                kept[match[3]] = value
        elif match:
            reason = f"another network: {layout.networks[match[2]]}"
        else:
            reason = _reason(re.sub(rf"^{_LEAD}", "", key), layout.beside)
            if reason is None:
                kept[key] = value
        if reason is not None:
            left[key] = reason
    others = [name for name in there if name != chosen]
    note = f"network {chosen} ({layout.title}: {layout.networks[chosen]})"
    return Chosen(
        kept, prefix, left, note + (f"; also there: {', '.join(others)}" if others else "")
    )


def _any(pattern: str, state: Mapping[str, Tensor]) -> bool:
    return any(re.fullmatch(_LEAD + pattern, key) for key in state)


def _reason(key: str, reasons: Mapping[str, str]) -> str | None:
    return next((why for pattern, why in reasons.items() if re.fullmatch(pattern, key)), None)
