"""SpectralEarth (arXiv 2408.08447): a spectral adapter in front of a ViT or a ResNet-50."""

import re

from torch import Tensor

from fm.foreign.convert import Choice, Plan, Rule
from fm.foreign.families import trunk
from fm.foreign.reading import Reading
from fm.foreign.recognise import Recognised
from fm.foreign.shapes import SPECTRAL_PREFIX

_LEAD = f"(?:{re.escape(SPECTRAL_PREFIX)})?"


def _spectral_only(value: Tensor) -> Tensor:
    """Drop the two spatial axes, of length 1, of a `[out, in, k, 1, 1]` kernel."""
    return value[..., 0, 0] if value.ndim == 5 and value.shape[-2:] == (1, 1) else value


def adapter_rules(target: str) -> tuple[Rule, ...]:
    """Map the adapter to ours with batch normalisation."""
    return (
        Rule(
            rf"{_LEAD}spectral_adapter\.([036])\.weight",
            rf"{target}.\1.weight",
            "two spatial axes of length 1 taken off the kernel",
            _spectral_only,
        ),
        Rule(rf"{_LEAD}spectral_adapter\.([0-7]\..*)", rf"{target}.\1"),
    )


def plan_vit(reading: Reading, found: Recognised, choice: Choice) -> Plan:
    """Plan a ViT over the adapter's 128 maps."""
    where, numbers = reading.where, found.numbers
    modality, group = trunk.place(found, choice, where, None)
    name, options = trunk.size(found, choice, where)
    lead = SPECTRAL_PREFIX if numbers["lightning"] else ""
    positions, rules = trunk.position_rules(reading, found, choice, f"{lead}vit_core.pos_embed")
    target = f"patch_embed.{group}.embed.{modality}"
    core = rf"{_LEAD}vit_core\."
    return Plan(
        name,
        {
            **options,
            **positions,
            "pooling": choice.pooling or "mean",
            "tokenizer": "spectral_adapter",
            "tokenizer_options": {"norm": "batch"},
        },
        numbers["patch"] * choice.gsd(modality),
        (
            Rule(core + "cls_token", "cls_token"),
            *adapter_rules(f"{target}.spectral"),
            Rule(
                core + r"patch_embed\.proj\.weight",
                f"{target}.proj.weight",
                "convolution kernel as a matrix",
                trunk.flat,
            ),
            Rule(core + r"patch_embed\.proj\.bias", f"{target}.proj.bias"),
            *rules,
            Rule(core + trunk.BLOCKS, r"\1"),
            Rule(core + r"(norm\..*)", r"\1"),
            Rule(r"(?:encoder\.vit\.)?(?:spec_vit\.)?(?:vit_core\.)?head\..*", None, "classifier"),
            Rule(r"encoder\.mask_token", None, "decoder: the token of masked places"),
            Rule(r"decoder\..*", None, "decoder"),
        ),
    )
