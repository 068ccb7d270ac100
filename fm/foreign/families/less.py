"""LESS ViT (arXiv 2503.12843, v1; 2605.18541, v2): cells under Kronecker attention."""

from typing import Any

from torch import Tensor

from fm.errors import FMError, UsageError
from fm.foreign.convert import Choice, Plan, Rule
from fm.foreign.reading import Reading
from fm.foreign.recognise import Recognised
from fm.models.layout import group_of
from fm.models.less.axis import kind_of
from fm.models.registry import FAMILIES

RADAR_NM = {"VV": 5500.0, "VH": 5700.0}
"""The wavelengths that the original gives to radar bands."""

_LEAD = r"(?:encoder\.)?"


def plan(reading: Reading, found: Recognised, choice: Choice) -> Plan:
    """Plan the encoder for an optical modality, a radar modality or both on one grid.

    Raises:
        UsageError: two modalities of a kind or of different grids; the perception field or, for
            rotary codes, the wavelength range was not given.
        FMError: shapes that do not give whole numbers of heads and ranks.
    """
    where, numbers = reading.where, found.numbers
    kinds: dict[str, str] = {}
    for modality, items in choice.bands.items():
        kind = kind_of(modality, items)
        if kind in kinds:
            raise UsageError(f"{where}: {kinds[kind]} and {modality} are both {kind}; give one")
        kinds[kind] = modality
    if len({choice.gsd(modality) for modality in choice.bands}) > 1:
        raise UsageError(f"{where}: its bands lie on one grid; use fm.foreign.on_grid")
    width, heads, narrow = numbers["width"], numbers["heads"], numbers["channel_dim"]
    if min(heads, narrow, numbers["rank"]) < 1 or width % (heads * narrow):
        raise FMError(
            f"{where}: not a whole {found.family}: block 0 lacks pooling or branch weights, or "
            f"their shapes give no whole number of heads; nothing was loaded"
        )
    if choice.heads not in (None, heads):
        raise UsageError(f"{where}: its shapes say {heads} heads, not {choice.heads}")
    rules = [Rule(_LEAD + r"pos_chan_embed\.periods_(?:hw|c)", None, "positions: computed")]
    for kind in ("optical", "radar"):
        embedding = rf"{_LEAD}{kind}_patch_embed\.proj"
        if kind not in kinds:
            rules.append(
                Rule(rf"{embedding}\..*", None, f"{kind} embedding: no bands given for it")
            )
            continue
        target = f"patch_embed.{kind}_{numbers['patch']}.proj"
        reason = "convolution kernel as a matrix"
        rules.append(Rule(rf"{embedding}\.([02])\.weight", rf"{target}.\1.weight", reason, _flat))
        rules.append(Rule(rf"{embedding}\.([02])\.bias", rf"{target}.\1.bias"))
    if found.family == "less_v1":
        inside = r"(low_dim_pool\..*|channel_norm\..*|spatial_norm\..*|attn\..*)"
        rules.append(Rule(rf"{_LEAD}(blocks\.\d+)\.{inside}", r"\1.attn.\2"))
    rules += [
        Rule(_LEAD + r"((?:spatial_|channel_)?cls_token)", r"\1", "an axis more", _cell),
        Rule(_LEAD + r"(blocks\..*|norm\..*)", r"\1"),
        Rule(r"decoder\..*", None, "decoder"),
    ]
    sizes = FAMILIES["less"].sizes
    shape = {"width": width, "depth": numbers["depth"], "heads": heads}
    size = next((n for n, s in sizes.items() if dict(s) == shape), "base")
    sums = found.family == "less_v1"
    options: dict[str, Any] = {
        **shape,
        "channel_dim": narrow,
        "rank": numbers["rank"],
        "aggregation": "sum" if sums else "mean",
        "mlp_ratio": numbers["mlp_ratio"],
        "layer_scale": 1.0,
        "pooling": choice.pooling or "mean",
        "radar_wavelengths": RADAR_NM,
        **_codes(where, numbers["codes"], choice),
    }
    token_m = {group_of(m): numbers["patch"] * choice.gsd(m) for m in choice.bands}
    return Plan(f"less_{size}", options, token_m, tuple(rules))


def _codes(where: str, kind: str, choice: Choice) -> dict[str, Any]:
    metres = choice.need(
        "perception_m", where, "radius of the field in metres: 640 in v1, 360 in v2, 0 for none"
    )
    options: dict[str, Any] = {"codes": kind, "perception_m": float(metres) or None}
    if kind == "sum":
        return {**options, "legacy_positions": True}
    ends = choice.need(
        "wavelength_range_nm",
        where,
        "smallest and largest band centre of the training data; 418.24 and 2445.53 for EnMAP",
    )
    return {**options, "legacy_range": [float(nm) for nm in ends]}


def _flat(value: Tensor) -> Tensor:
    return value.flatten(1)


def _cell(value: Tensor) -> Tensor:
    return value.reshape(1, 1, 1, -1)
