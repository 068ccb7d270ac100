"""Augmentation on the device, the same for a sample whatever batch or rank it is in."""

import torch
from torch import Tensor

from fm.rng import CounterRng


def dihedral(pixels: dict[str, Tensor], rng: CounterRng) -> dict[str, Tensor]:
    """Turn and flip each sample by one of the eight symmetries of the square.

    All modalities and images of a sample move together. What is not square is only flipped.

    Args:
        pixels: modality to `[B, C, H, W]` or `[B, T, C, H, W]` of any dtype.
        rng: of the same samples.

    Returns:
        the same shapes and dtypes.
    """
    square = all(x.shape[-1] == x.shape[-2] for x in pixels.values())
    draw = rng.integers("dihedral", 1, below=8 if square else 4)[:, 0]
    return {modality: _apply(x, draw) for modality, x in pixels.items()}


def _apply(x: Tensor, draw: Tensor) -> Tensor:
    # uint16 lacks most kernels; its bits move just as well as int16
    bits = x.view(torch.int16) if x.dtype == torch.uint16 else x
    result = torch.empty_like(bits)
    for symmetry in range(8):
        rows = (draw == symmetry).nonzero()[:, 0]
        if len(rows) == 0:
            continue
        chosen = bits[rows]
        if symmetry & 1:
            chosen = chosen.flip(-1)
        if symmetry & 2:
            chosen = chosen.flip(-2)
        if symmetry & 4:
            chosen = chosen.transpose(-1, -2)
        result[rows] = chosen
    return result.view(x.dtype)
