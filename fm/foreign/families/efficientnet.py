"""EfficientNet under the names of `efficientnet_pytorch` and `efficientnet_lite_pytorch`.

U-Nets of segmentation_models_pytorch have the first as `encoder`, without the head.
"""

import re

import torch

from fm.errors import FMError
from fm.foreign.convert import Choice, Plan, Rule
from fm.foreign.reading import Reading
from fm.foreign.recognise import Recognised
from fm.models.efficientnet import STRIDE

REPEATS = {
    "lite0": (1, 2, 2, 3, 3, 4, 1),
    "lite1": (1, 3, 3, 4, 4, 5, 1),
    "lite2": (1, 3, 3, 4, 4, 5, 1),
    "b4": (2, 4, 4, 6, 6, 8, 2),
}
"""Blocks in each stage, which the file's own names count through."""
_VARIANTS = {
    "efficientnet_lite": {(16, 320): "lite0", (21, 320): "lite1", (21, 352): "lite2"},
    "efficientnet": {(32, 448): "b4"},
}
"""Number of blocks and channels of the last one to the published size."""
PADDED_FOR = {"b4": 380}
"""Images that `efficientnet_pytorch` pads for, whatever comes in."""
EPSILON = 1e-3

_FRONT = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
_FIRST = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
    **_SQUEEZE,
}
_OTHER = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
    **_SQUEEZE,
}
_BLOCK = re.compile(r"_blocks\.(\d+)\.(_\w+)\.(.+)")
_NO_COUNT = "ONNX graphs keep no count of the batches that a norm has seen"


def plan(reading: Reading, found: Recognised, choice: Choice) -> Plan:
    """Plan an EfficientNet.

    Raises:
        FMError: none of the published sizes, or norms of another epsilon.
    """
    numbers, where = found.numbers, reading.where
    modality = choice.modality(where, numbers["channels"])
    known = _VARIANTS[found.family]
    variant = known.get((numbers["blocks"], numbers["last"]))
    if variant is None:
        raise FMError(
            f"{where}: an EfficientNet of {numbers['blocks']} blocks that ends in "
            f"{numbers['last']} channels; {', '.join(known.values())} are converted"
        )
    lead = numbers["lead"]
    rules = [
        Rule(r"decoder\..*", None, "decoder"),
        Rule(r"(?:segmentation_head|_fc)\..*", None, "classifier"),
    ]
    fresh = {}
    counted = any(key.endswith("num_batches_tracked") for key in reading.state)
    for key in reading.state:
        target = timm_key(key.removeprefix(lead), variant) if key.startswith(lead) else None
        if target is None:
            continue
        rules.append(Rule(re.escape(key), f"net.{target}"))
        epsilon = reading.epsilons.get(reading.prefix + key, EPSILON)
        if abs(epsilon - EPSILON) > 1e-6 * EPSILON:
            raise FMError(f"{where}: {key} has epsilon {epsilon:g}, EfficientNet {EPSILON:g}")
        if key.endswith("running_mean") and not counted:
            name = target.replace("running_mean", "num_batches_tracked")
            fresh[f"net.{name}"] = torch.tensor(0), _NO_COUNT
    options = {"head": numbers["head"], "padded_for": PADDED_FOR.get(variant)}
    return Plan(
        f"efficientnet_{variant}",
        options,
        STRIDE * choice.gsd(modality),
        tuple(rules),
        fresh=fresh,
    )


def timm_key(key: str, variant: str = "lite0") -> str | None:
    """Return a key of the two packages as timm spells it; None for no key of theirs."""
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
