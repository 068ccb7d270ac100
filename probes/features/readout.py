"""Which of a model's numbers describe an image: the parts of a frozen feature vector."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fm.errors import UsageError

if TYPE_CHECKING:  # the settings of protocols are listed without loading torch
    from torch import Tensor

_WORD = re.compile(r"(pooled|mean|centre)(?:@([1-9][0-9]*))?")


def check(words: Sequence[str]) -> tuple[str, ...]:
    """Check the parts of a readout.

    `pooled` is what the model itself gives; `mean` the mean of its valid tokens; `centre` the token
    of each group that holds the middle of the image, for tasks about the pixel in the middle of a
    window. `mean@2` and `centre@2` are read after the second block.

    Raises:
        ValueError: an unknown part, none, or one twice.
    """
    if not words or len(set(words)) != len(words):
        raise ValueError("name each part of the readout once, at least one")
    for word in words:
        found = _WORD.fullmatch(word)
        if found is None or (found[1] == "pooled" and found[2]):
            raise ValueError(
                f"readout part {word!r}: give pooled, mean or centre, the last two also after a "
                f"block, such as centre@2"
            )
    return tuple(words)


def needs_hidden(words: Sequence[str]) -> bool:
    """Say whether tokens after some block are asked for."""
    return any("@" in word for word in words)


def middle(model: Any, pixels: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return the token (row, column) of each group that holds the middle of the image.

    Args:
        model: has `groups`.
        pixels: modality to `[B, C, H, W]` as the benchmark gives them, before any extension.
    """
    found: dict[str, tuple[int, int]] = {}
    for name, group in getattr(model, "groups", {}).items():
        for member in group.members:
            if member.modality in pixels and name not in found:
                height, width = pixels[member.modality].shape[-2:]
                found[name] = (height // 2 // member.patch, width // 2 // member.patch)
    return found


def read(features: Any, words: Sequence[str], places: Mapping[str, tuple[int, int]]) -> "Tensor":
    """Put a feature vector together.

    Args:
        features: what `encode` gave; with `hidden` where a block is asked for.
        words: see `check`.
        places: see `middle`.

    Returns:
        `[B, D]` float32, the parts one after another.

    Raises:
        UsageError: a block that the model does not have, or no tokens to take the middle of.
    """
    import torch

    return torch.cat([_part(features, word, places) for word in words], dim=1)


def _part(features: Any, word: str, places: Mapping[str, tuple[int, int]]) -> "Tensor":
    import torch

    kind, _, block = word.partition("@")
    if kind == "pooled":
        return features.pooled.float()
    tokens = features.tokens
    if block:
        if int(block) > len(features.hidden):
            raise UsageError(f"readout {word}: the model has {len(features.hidden)} blocks")
        tokens = features.hidden[int(block) - 1]
    tokens = tokens.float()
    if kind == "mean":
        if features.mask is None:
            return tokens.mean(dim=1)
        weight = features.mask.float()[..., None]
        return (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
    first, chosen = 0, []
    for name, (rows, columns) in features.grid.items():
        if name not in places:
            raise UsageError(f"readout {word}: the model does not say where {name} has its middle")
        row, column = places[name]
        chosen.append(tokens[:, first + row * columns + column])
        first += rows * columns
    return torch.cat(chosen, dim=1)
