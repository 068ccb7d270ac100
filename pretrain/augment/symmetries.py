"""The eight symmetries of the square."""

import torch
from torch import Tensor

from fm.rng import CounterRng


def dihedral(
    pixels: dict[str, Tensor], rng: CounterRng, purpose: str = "dihedral"
) -> dict[str, Tensor]:
    """Turn and flip each sample by one of the eight symmetries of the square.

    All modalities and images of a sample move together. What is not square is only flipped.

    Args:
        pixels: modality to `[B, C, H, W]` or `[B, T, C, H, W]` of any dtype.
        rng: of the same samples.
        purpose: of the draw; one purpose moves pixels and masks of one shape alike.

    Returns:
        the same shapes and dtypes.
    """
    square = all(x.shape[-1] == x.shape[-2] for x in pixels.values())
    draw = rng.integers(purpose, 1, below=8 if square else 4)[:, 0]
    return {modality: _apply(x, draw, square) for modality, x in pixels.items()}


def _apply(x: Tensor, draw: Tensor, square: bool) -> Tensor:
    # uint16 lacks most kernels; its bits move just as well as int16
    bits = x.view(torch.int16) if x.dtype == torch.uint16 else x
    draw = draw.view(-1, *[1] * (x.ndim - 1))
    bits = torch.where((draw & 1).bool(), bits.flip(-1), bits)
    bits = torch.where((draw & 2).bool(), bits.flip(-2), bits)
    if square:
        bits = torch.where((draw & 4).bool(), bits.transpose(-1, -2), bits)
    return bits.view(x.dtype)
