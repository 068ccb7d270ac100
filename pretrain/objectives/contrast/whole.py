"""Views that change nothing but the size: what a backbone is looked at with, and measured by."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pretrain.augment.crop import sizes_of
from pretrain.settings.view import (
    HyperspectralEffects,
    OpticalEffects,
    OtherEffects,
    RadarEffects,
    ViewConfig,
)


def whole_view(size: int | None) -> ViewConfig:
    """Return how a whole sample is shown at the size of views, with no effect."""
    return ViewConfig(
        size=size,
        scale=(1.0, 1.0),
        ratio=(1.0, 1.0),
        flips="none",
        optical=OpticalEffects(colour_chance=0.0, grey=0.0, blur_chance=0.0),
        hyperspectral=HyperspectralEffects(colour_chance=0.0, blur_chance=0.0, noise_chance=0.0),
        radar=RadarEffects(blur_chance=0.0, speckle_chance=0.0),
        other=OtherEffects(colour_chance=0.0),
    )


def empty_view(pixels: Mapping[str, Tensor], size: int | None) -> dict[str, Tensor]:
    """Return a view of single images or series without memory behind it: `[1, C, h, w]`."""
    return {
        name: torch.empty(1, pixels[name].shape[-3], *shape, device="meta")
        for name, shape in sizes_of(pixels, size).items()
    }
