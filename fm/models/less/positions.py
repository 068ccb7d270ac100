"""The continuous position-channel code: metres on the ground and nanometres of the band.

LESS ViT v1 (arXiv 2503.12843, section on the continuous position-channel embedding): the code of
a cell is half the sum of the 2-D code of its place and the 1-D code of its wavelength. A class
token that has no place, or no wavelength, has 0 there.
"""

import torch
from torch import Tensor

from fm.models.positions import sincos_1d, sincos_2d


def place_code(
    width: int, rows: int, columns: int, step_m: float, device: torch.device | None = None
) -> Tensor:
    """Encode token places in metres.

    Args:
        width: a multiple of 4.
        rows: grid height.
        columns: grid width.
        step_m: metres between neighbouring tokens.
        device: where to make it.

    Returns:
        `[rows * columns, width]` float32, half of the 2-D sine and cosine code.
    """
    return sincos_2d(width, rows, columns, device, step=step_m) / 2


def wavelength_code(width: int, nm: Tensor) -> Tensor:
    """Encode wavelengths `[C]` in nanometres: `[C, width]`, half of the 1-D code."""
    return sincos_1d(width, nm) / 2
