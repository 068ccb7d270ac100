"""Who is hit by an effect: on a CPU nothing is made that no sample shows.

Elsewhere to ask would be to wait for the device, so there an effect is made of all samples and kept
of those that are hit. What comes out is the same.
"""

import torch
from torch import Tensor


def anyone(hit: Tensor) -> bool:
    """Say whether an effect is to be made: on a CPU, whether anyone is hit."""
    return hit.device.type != "cpu" or bool(hit if hit.numel() == 1 else hit.any())


def where_hit(hit: Tensor, made: Tensor, before: Tensor) -> Tensor:
    """Take what was made where a sample is hit, and what was before elsewhere.

    Args:
        hit: bool, of a shape that spreads to the others'.
        made: of the shape of `before`, or one that spreads to it.
        before: of any shape.
    """
    if hit.device.type == "cpu" and bool(hit if hit.numel() == 1 else hit.all()):
        return made.expand_as(before)
    return torch.where(hit, made, before)
