"""Resizing images with a mask: invalid pixels have no part in what lies beside them."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from probes.settings.features import Axes


def target(height: int, width: int, resize: int | None) -> tuple[int, int]:
    """Size of an image whose shorter side becomes `resize` pixels."""
    if resize is None:
        return height, width
    short = min(height, width)
    return round(height * resize / short), round(width * resize / short)


def resized(
    x: Tensor, valid: Tensor | None, size: tuple[int, int], axes: Axes
) -> tuple[Tensor, Tensor | None]:
    """Bring images to a size; corners are not aligned (as kornia's and torchvision's default).

    A pixel is the weighted mean of the valid ones that it is made from, and valid where they have
    at least half of the weight. Without invalid pixels this is the plain interpolation.

    Args:
        x: `[B, C, H, W]` float32.
        valid: `[B, H, W]` bool; None when all are valid.
        size: (rows, columns).
        axes: interpolation and antialias.

    Returns:
        the images, zero where nothing valid is near, and their mask.
    """
    if tuple(x.shape[-2:]) == size:
        return x, valid
    options: dict = {"size": size, "mode": axes.interpolation}
    if axes.interpolation == "bilinear":
        options |= {"align_corners": False, "antialias": axes.antialias}
    if valid is None or bool(valid.all()):
        made = interpolate(x, **options)
        mask = None if valid is None else valid.new_ones(len(x), *size)
        return made, mask
    weight = valid[:, None].to(x.dtype)
    share = interpolate(weight, **options)
    made = interpolate(torch.where(valid[:, None], x, 0.0), **options)
    return made / share.clamp(min=1e-6), share[:, 0] >= 0.5


def filled(x: Tensor, valid: Tensor | None) -> Tensor:
    """Give invalid pixels the mean of the image's valid ones, band by band (0 where none is).

    Args:
        x: `[B, C, H, W]`.
        valid: `[B, H, W]` bool; None when all are valid.
    """
    if valid is None:
        return x
    mask = valid[:, None]
    count = mask.sum((-2, -1), keepdim=True).clamp(min=1)
    mean = torch.where(mask, x, 0.0).sum((-2, -1), keepdim=True) / count
    return torch.where(mask, x, mean)
