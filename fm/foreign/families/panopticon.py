"""Panopticon (arXiv 2503.10845): channel cross-attention in front of a DINOv2 ViT."""

from torch import Tensor

from fm.foreign.convert import Choice, Plan, Rule
from fm.foreign.families import trunk
from fm.foreign.reading import Reading
from fm.foreign.recognise import Recognised

CHANNEL_HEADS = 16
"""Of the published model's channel attention; no shape depends on it."""


def plan(reading: Reading, found: Recognised, choice: Choice) -> Plan:
    """Plan a ViT on tokens that a query read from any bands."""
    where, numbers = reading.where, found.numbers
    modality, group = trunk.place(found, choice, where, None)
    name, options = trunk.size(found, choice, where)
    positions, rules = trunk.position_rules(reading, found, choice)
    target = f"patch_embed.{group}.embed.{modality}"
    return Plan(
        name,
        {
            **options,
            **positions,
            "layer_scale": 1.0,
            "pooling": choice.pooling or "mean",
            "tokenizer": "channel_attention",
            "tokenizer_options": {
                "attention_width": numbers["attention_width"],
                "heads": CHANNEL_HEADS,
            },
        },
        numbers["patch"] * choice.gsd(modality),
        (
            Rule("cls_token", "cls_token"),
            Rule(
                r"patch_embed\.conv3d\.conv3d\.weight",
                f"{target}.conv3d.weight",
                "convolution kernel of one channel as a matrix",
                _flat,
            ),
            Rule(r"patch_embed\.conv3d\.conv3d\.bias", f"{target}.conv3d.bias"),
            Rule(r"patch_embed\.chnfus\.chnemb\.(embed_\w+)", rf"{target}.\1"),
            Rule(r"patch_embed\.chnfus\.xattn\.(inproj_[kv]\.weight)", rf"{target}.\1"),
            Rule(r"patch_embed\.chnfus\.query", f"{target}.query"),
            Rule(r"patch_embed\.proj\.(.*)", rf"{target}.proj.\1"),
            *rules,
            Rule(trunk.BLOCKS, r"\1"),
            Rule(r"(norm\..*)", r"\1"),
            *trunk.LEFT_OVER,
        ),
        notes=(
            f"channel attention: {CHANNEL_HEADS} heads assumed, as published; the file cannot say",
        ),
    )


def _flat(value: Tensor) -> Tensor:
    return value.flatten(1)
