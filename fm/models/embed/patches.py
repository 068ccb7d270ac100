"""Cutting tokens out of images, scaling them, and filling what is not valid."""

import torch
from einops import rearrange
from torch import Tensor


def gather_patches(x: Tensor, patch: int, index: Tensor | None, shift: int = 0) -> Tensor:
    """Cut tokens out of images without touching the pixels of the others.

    Args:
        x: `[B, C, H, W]` of any dtype; H and W are multiples of `patch`.
        patch: side of a token in pixels.
        index: `[B, K]` int64 token numbers, row-major; None for all of them in order.
        shift: pixels by which every token is cut further up and left, zeros outside the image.

    Returns:
        `[B, K, C, patch, patch]` of the same dtype.
    """
    if shift:
        moved = x.new_zeros(x.shape)
        moved[..., shift:, shift:] = x[..., :-shift, :-shift]
        x = moved
    cut = rearrange(x, "b c (r p) (q w) -> b r q c p w", p=patch, w=patch)
    if index is None:
        return cut.flatten(1, 2)
    rows = torch.arange(x.shape[0], device=x.device)[:, None]
    columns = cut.shape[2]
    return cut[rows, index // columns, index % columns]


def to_physical(x: Tensor, scale: float, offset: float) -> Tensor:
    """Turn stored numbers into physical ones, float32.

    Integer tensors are stored numbers (`stored * scale + offset`); floating tensors are physical
    already.
    """
    if x.is_floating_point():
        return x.float()
    return in_units(x.to(torch.float32, memory_format=torch.contiguous_format), scale, offset)


def in_units(stored: Tensor, scale: float, offset: float) -> Tensor:
    """Turn stored numbers that are float32 already into physical ones, in place."""
    return stored.mul_(scale).add_(offset)


def fill_invalid(patches: Tensor, mask: Tensor) -> Tensor:
    """Replace invalid values by the mean of the token's valid ones (0 where there are none).

    Args:
        patches: `[B, K, C, p, p]`.
        mask: `[B, K, 1 or C, p, p]` bool.
    """
    kept = torch.where(mask, patches, 0.0)
    count = mask.sum(dim=(-2, -1), keepdim=True).clamp(min=1)
    return torch.where(mask, patches, kept.sum(dim=(-2, -1), keepdim=True) / count)
