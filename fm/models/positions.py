"""Fixed position codes."""

import torch
from torch import Tensor


def sincos_1d(width: int, x: Tensor) -> Tensor:
    """Encode numbers as sines and cosines of geometric frequencies.

    Vaswani et al. (arXiv 1706.03762, section 3.5): w_k = 10000^(-k / (width / 2)), sines first.

    Args:
        width: even.
        x: `[N]` float.

    Returns:
        `[N, width]` of the same dtype.
    """
    half = width // 2
    frequency = 10000.0 ** (-torch.arange(half, dtype=torch.float64, device=x.device) / half)
    angle = x.double()[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1).to(x.dtype)


def sincos_2d(width: int, rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    """Encode a token grid, the first half of the width for the column, the second for the row.

    He et al. (arXiv 2111.06377), whose order of the two halves this keeps.

    Args:
        width: a multiple of 4.
        rows: grid height.
        columns: grid width.
        device: where to make it.

    Returns:
        `[rows * columns, width]` float32, row-major.
    """
    row = torch.arange(rows, dtype=torch.float32, device=device).repeat_interleave(columns)
    column = torch.arange(columns, dtype=torch.float32, device=device).repeat(rows)
    return torch.cat([sincos_1d(width // 2, column), sincos_1d(width // 2, row)], dim=1)
