"""Siamese masking: the student sees a part of its view, the teacher the whole of its own.

SoftCon (arXiv 2405.20462): a ViT drops the hidden tokens from its sequence, as a masked
autoencoder does; any other backbone sees their pixels as zeros, after normalisation.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from fm.models import Inputs, VisionTransformer
from fm.models.backbone import Backbone
from fm.rng import CounterRng
from pretrain.masking import kept_count


def visible(
    grids: Mapping[str, tuple[int, int]], rng: CounterRng, view: str, ratio: float
) -> dict[str, Tensor]:
    """Draw the tokens that a student sees: group to `[B, K]` numbers, the ratio in each group."""
    found = {}
    for name, (rows, columns) in grids.items():
        order = rng.permutation(f"siamese:{view}:{name}", rows * columns)
        found[name] = order[:, : kept_count(rows * columns, ratio)]
    return found


def pooled(backbone: Backbone, inputs: Inputs, keep: Mapping[str, Tensor] | None) -> Tensor:
    """Encode a batch of which some tokens are seen, all of them for None: `[B, D]`."""
    if keep is None:
        return backbone._encode(inputs, hidden=False).pooled
    if isinstance(backbone, VisionTransformer):
        return backbone.pooled_of(inputs, keep)
    return backbone._encode(blanked(backbone, inputs, keep), hidden=False).pooled


def blanked(backbone: Backbone, inputs: Inputs, keep: Mapping[str, Tensor]) -> Inputs:
    """Give the pixels of hidden tokens the physical value that is 0 after normalisation.

    Args:
        backbone: whose tokens they are.
        inputs: physical pixels (floating).
        keep: group to `[B, K]` tokens that stay.
    """
    pixels = dict(inputs.pixels)
    for name, (rows, columns) in backbone.grids(pixels).items():
        index = keep[name]
        shown = torch.zeros(len(index), rows * columns, dtype=torch.bool, device=index.device)
        shown = shown.scatter(1, index, True).view(-1, 1, rows, columns)
        for member in backbone.groups[name].members:
            if member.modality not in pixels:
                continue
            x = pixels[member.modality]
            near = shown.repeat_interleave(member.patch, 2).repeat_interleave(member.patch, 3)
            zero = x.new_tensor(inputs.normalisation[member.modality].shift)[:, None, None]
            hidden = ~near
            if member.channels is not None:
                own = torch.zeros(x.shape[1], dtype=torch.bool, device=x.device)
                own[list(member.channels)] = True
                hidden = hidden & own[:, None, None]
            pixels[member.modality] = torch.where(hidden, zero, x)
    return replace(inputs, pixels=pixels)
