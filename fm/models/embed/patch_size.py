"""Weights of a token at another number of pixels: FlexiViT's pseudo-inverse resize.

Beyer et al. (arXiv 2212.08013, section 3.4): x is resized by a matrix B, and the weights are chosen
so that a token stays what it was, <B x, w'> = <x, w>. For more pixels w' = (B^T)^+ w does that for
every x; for fewer it is the least-squares answer over white x. Resizing the weights like an image
instead would change the tokens' length with the number of pixels.
"""

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fm.errors import UsageError, suggest

How = Literal["area", "bilinear", "bicubic"]
"""How an image is resized: `area` is the mean over the area of the new pixel (a larger pixel is
what a coarser sensor sees), the other two torch's with antialiasing. Under `area` the weights of a
token also keep their sum at any size, so that flat ground stays what it was; under the others only
where pixels become more."""

HOWS: tuple[str, ...] = get_args(How)

LARGEST = 256
"""Pixels along a token's side that are made on request: a dozen bands to a width of 768 are then
2.4 GB of weights, and four times that at twice the side."""


def resize_matrix(old: int, new: int, how: How = "area") -> np.ndarray:
    """Return the matrix that resizes a row of pixels.

    Args:
        old: number of pixels.
        new: wanted.
        how: see `How`.

    Returns:
        `[new, old]` float64 with rows that add up to 1; an image x becomes B x B^T.

    Raises:
        UsageError: another `how`, or no pixels.
    """
    if how not in HOWS:
        raise UsageError(f"there is no resize {how!r}; {suggest(str(how), HOWS)}")
    if old < 1 or new < 1:
        raise UsageError(f"a token of {new} px made of {old} px; give at least 1")
    if how == "area":
        edges = np.arange(new + 1) * (old / new)
        low, high = edges[:-1, None], edges[1:, None]
        pixel = np.arange(old)[None]
        return np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, None) * (new / old)
    rows = torch.eye(old, dtype=torch.float64)[:, None, :, None].expand(old, 1, old, old)
    made = functional.interpolate(rows, (new, old), mode=how, antialias=True, align_corners=False)
    return made[:, 0, :, 0].T.numpy()


def resized_kernel(kernel: Tensor, new: int, how: How = "area") -> Tensor:
    """Fit weights of a token to another number of pixels.

    Args:
        kernel: `[..., p, p]`, one weight a pixel.
        new: pixels along one side of the new token.
        how: what happens to the image.

    Returns:
        `[..., new, new]` of the same dtype, worked out in float64.
    """
    old = kernel.shape[-1]
    if old == new:
        return kernel
    back = torch.from_numpy(np.linalg.pinv(resize_matrix(old, new, how))).to(kernel.device)
    return torch.einsum("...ij,ia,jb->...ab", kernel.double(), back, back).to(kernel.dtype)


@torch.no_grad()
def resized_linear(layer: nn.Linear, old: int, new: int, how: How = "area") -> nn.Linear:
    """Fit a linear layer on flattened tokens.

    Args:
        layer: `C * old * old` values in, pixels last.
        old: pixels along one side of a token.
        new: wanted.
        how: what happens to the image.

    Returns:
        a layer of `C * new * new` values in.
    """
    weight = resized_kernel(layer.weight.unflatten(1, (-1, old, old)), new, how).flatten(1)
    other = nn.Linear(weight.shape[1], weight.shape[0], bias=layer.bias is not None)
    other = other.to(weight)
    other.weight.copy_(weight)
    if layer.bias is not None:
        other.bias.copy_(layer.bias)
    return other
