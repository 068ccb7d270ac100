"""Views that change nothing but the size: what a backbone is looked at with, and measured by."""

from collections.abc import Mapping

import torch
from torch import Tensor

from fm.resample import sizes_of
from pretrain.settings.view import ViewConfig


def whole_view(size: int | None) -> ViewConfig:
    """Return how a whole sample is shown at the size of views, with no effect."""
    return ViewConfig(size=size, scale=(1.0, 1.0), ratio=(1.0, 1.0)).without_effects()


def empty_view(pixels: Mapping[str, Tensor], size: int | None) -> dict[str, Tensor]:
    """Return a view of single images or series without memory behind it: `[1, C, h, w]`."""
    return {
        name: torch.empty(1, pixels[name].shape[-3], *shape, device="meta")
        for name, shape in sizes_of(pixels, size).items()
    }
