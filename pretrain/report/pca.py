"""Patch features as colours: the first three principal components of the tokens of some samples.

As in DINOv2 (Oquab et al., arXiv 2304.07193, figure 1), without a mask of the background.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Components:
    """Tokens in their first three principal components.

    Attributes:
        colours: `[B, rows, columns, 4]`: 0 to 1 between the 2nd and 98th percentile; transparent
            where a token saw no valid pixel.
        shares: of the variance, of each component.
    """

    colours: np.ndarray
    shares: tuple[float, ...]


def components(tokens: np.ndarray, mask: np.ndarray, grid: tuple[int, int]) -> Components:
    """Reduce tokens to colours, all samples together, so that a colour means the same everywhere.

    The sign of a component is the one with which its largest weight is positive, so that the same
    features always have the same colours.

    Args:
        tokens: `[B, N, D]`, row-major.
        mask: `[B, N]` bool, False for tokens without a valid pixel.
        grid: rows and columns.
    """
    chosen = tokens[mask].astype(np.float64)
    count = min(3, tokens.shape[2], max(len(chosen), 1))
    values = np.zeros((*mask.shape, 3))
    shares = [0.0] * 3
    if len(chosen):
        centred = chosen - chosen.mean(axis=0)
        # of the covariance: D is far smaller than the number of tokens
        variance, vectors = np.linalg.eigh(centred.T @ centred)
        order = np.argsort(variance)[::-1][:count]
        axes = vectors[:, order]
        largest = np.abs(axes).argmax(axis=0)
        axes = axes * np.where(axes[largest, np.arange(count)] < 0, -1.0, 1.0)
        placed = centred @ axes
        low, high = np.percentile(placed, (2, 98), axis=0)
        made = np.clip((placed - low) / np.maximum(high - low, 1e-12), 0, 1)
        held = np.full((len(chosen), 3), 0.5)
        held[:, :count] = made
        values[mask] = held
        total = max(float(variance.sum()), 1e-12)
        shares[:count] = (np.maximum(variance[order], 0) / total).tolist()
    image = np.concatenate([values, mask[..., None].astype(np.float64)], axis=-1)
    return Components(image.reshape(len(tokens), *grid, 4), tuple(shares))
