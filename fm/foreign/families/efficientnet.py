"""EfficientNet-Lite under the names of `efficientnet_lite_pytorch`."""

import re

from fm.errors import FMError
from fm.foreign.convert import Choice, Plan, Rule
from fm.foreign.reading import Reading
from fm.foreign.recognise import Recognised
from fm.models.efficientnet import STRIDE

REPEATS = {
    "lite0": (1, 2, 2, 3, 3, 4, 1),
    "lite1": (1, 3, 3, 4, 4, 5, 1),
    "lite2": (1, 3, 3, 4, 4, 5, 1),
}
"""Blocks in each stage, which the file's own names count through."""
_VARIANTS = {(16, 320): "lite0", (21, 320): "lite1", (21, 352): "lite2"}
"""Number of blocks and channels of the last one to the published size."""

_FRONT = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OTHER = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_BLOCK = re.compile(r"_blocks\.(\d+)\.(_\w+)\.(.+)")


def plan(reading: Reading, found: Recognised, choice: Choice) -> Plan:
    """Plan an EfficientNet-Lite.

    Raises:
        FMError: none of the published sizes.
    """
    numbers = found.numbers
    modality = choice.modality(reading.where, numbers["channels"])
    variant = _VARIANTS.get((numbers["blocks"], numbers["last"]))
    if variant is None:
        raise FMError(
            f"{reading.where}: an EfficientNet-Lite of {numbers['blocks']} blocks that ends in "
            f"{numbers['last']} channels; {', '.join(REPEATS)} are converted"
        )
    rules = [Rule(r"_fc\..*", None, "classifier")]
    for key in reading.state:
        target = timm_key(key, variant)
        if target is not None:
            rules.append(Rule(re.escape(key), f"net.{target}"))
    return Plan(f"efficientnet_{variant}", {}, STRIDE * choice.gsd(modality), tuple(rules))


def timm_key(key: str, variant: str = "lite0") -> str | None:
    """Return a key of `efficientnet_lite_pytorch` as timm spells it; None for no key of it."""
    found = _BLOCK.fullmatch(key)
    if found:
        number = int(found[1])
        for stage, count in enumerate(REPEATS[variant]):
            names = _OTHER if stage else _FIRST
            if number < count:
                name = names.get(found[2])
                return name and f"blocks.{stage}.{number}.{name}.{found[3]}"
            number -= count
        return None
    front, _, rest = key.partition(".")
    if front == "_fc":
        return f"classifier.{rest}"
    return f"{_FRONT[front]}.{rest}" if front in _FRONT else None
