"""Targets of masked autoencoders, and the loss of one token.

Patches are `[B, M, C, p, p]`, one tensor a modality; validity masks are `[B, M, 1 or C, p, p]`,
absent for a modality whose values are all valid. Invalid values count nowhere: not in the mean
and spread of a token, not in its loss.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

from fm.hardware import full_precision
from fm.models import Inputs
from fm.models.embed.group import channels_of
from fm.models.embed.patches import gather_patches, to_physical
from fm.models.layout import Member

Target = Literal["pixel", "token", "band"]
Valid = Mapping[str, Tensor]

TARGET_EPSILON = 1e-6
"""Added to the variance of a token before the square root, as in MAE's reference."""


def cut(member: Member, inputs: Inputs, index: Tensor | None) -> Tensor:
    """Cut a member's normalised pixels at some tokens: `[B, M, C, p, p]` float32."""
    x, normalisation = inputs.pixels[member.modality], inputs.normalisation[member.modality]
    channels = channels_of(member, inputs)
    if channels is not None:
        x, normalisation = x[:, channels], normalisation.select(channels)
    with full_precision(x.device):
        patches = gather_patches(x, member.patch, index)
        physical = to_physical(patches, *inputs.scaling[member.modality])
        made: Tensor = normalisation(physical, band_axis=2)
    return made


def cut_valid(member: Member, inputs: Inputs, index: Tensor | None) -> Tensor | None:
    """Cut a member's validity likewise: `[B, M, 1 or C, p, p]` bool, None when all is valid."""
    mask = (inputs.valid or {}).get(member.modality)
    if mask is None:
        return None
    channels = channels_of(member, inputs)
    if mask.ndim == 3:
        mask = mask[:, None]
    elif channels is not None:
        mask = mask[:, channels]
    return gather_patches(mask, member.patch, index)


def moments(
    patches: Tensor, valid: Tensor | None, kind: Target, *, unbiased: bool = False
) -> tuple[Tensor, Tensor]:
    """Return what a target is shifted and divided by.

    Args:
        patches: `[B, M, C, p, p]` float32.
        valid: of the same patches.
        kind: `pixel` leaves values as they are; `token` takes mean and variance over all values
            of the token (He et al., arXiv 2111.06377, section 4.1); `band` over each band of it.
        unbiased: divide the sum of squares by one less than the count.

    Returns:
        mean and spread, which broadcast against the patches.
    """
    if kind == "pixel":
        one = patches.new_ones((1, 1, 1, 1, 1))
        return torch.zeros_like(one), one
    axes = (-3, -2, -1) if kind == "token" else (-2, -1)
    less = 1 if unbiased else 0
    if valid is None:
        variance, mean = torch.var_mean(patches, dim=axes, keepdim=True, correction=less)
        return mean, (variance + TARGET_EPSILON).sqrt()
    mask = valid.expand_as(patches)
    number = mask.sum(dim=axes, keepdim=True)
    mean = torch.where(mask, patches, 0.0).sum(dim=axes, keepdim=True) / number.clamp(min=1)
    squares = torch.where(mask, patches - mean, 0.0).square().sum(dim=axes, keepdim=True)
    return mean, (squares / (number - less).clamp(min=1) + TARGET_EPSILON).sqrt()


def normalise_target(
    patches: Tensor,
    valid: Tensor | None = None,
    kind: Target = "token",
    *,
    unbiased: bool = False,
) -> Tensor:
    """Shift and divide patches by their `moments`; same shape. Invalid values become 0."""
    mean, spread = moments(patches, valid, kind, unbiased=unbiased)
    made = (patches - mean) / spread
    return made if valid is None else torch.where(valid, made, 0.0)


def token_loss(
    predicted: Mapping[str, Tensor], target: Mapping[str, Tensor], valid: Valid | None = None
) -> Tensor:
    """Mean squared error of each token, every band counting the same whatever its grid.

    Args:
        predicted: modality to `[B, M, C, p, p]`.
        target: the same shapes.
        valid: of the targets.

    Returns:
        `[B, M]` float32: the mean over the bands that have valid values of the mean over their
        valid values; 0 for a token without any.
    """
    total: Tensor | None = None
    bands: Tensor | int = 0
    for modality, wanted in target.items():
        difference = predicted[modality].float() - wanted
        mask = (valid or {}).get(modality)
        if mask is None:
            error = difference.square().mean(dim=(-2, -1)).sum(dim=-1)
            present: Tensor | int = wanted.shape[2]
        else:
            mask = mask.expand_as(wanted)
            number = mask.sum(dim=(-2, -1))
            squares = torch.where(mask, difference, 0.0).square().sum(dim=(-2, -1))
            error = (squares / number.clamp(min=1)).sum(dim=-1)
            present = (number > 0).sum(dim=-1)
        total = error if total is None else total + error
        bands = bands + present
    assert total is not None
    return total / (bands.clamp(min=1) if isinstance(bands, Tensor) else bands)


def band_losses(
    predicted: Mapping[str, Tensor], target: Mapping[str, Tensor], valid: Valid | None = None
) -> dict[str, tuple[Tensor, Tensor]]:
    """Take `token_loss` apart.

    Args:
        predicted: modality to `[B, M, C, p, p]`.
        target: the same shapes.
        valid: of the targets.

    Returns:
        modality to two of `[B, M, C]` float32: each band's share of the token's loss, and of its
        weight; over all bands of a token they sum to `token_loss`, and to 1 (0 without a value).
    """
    errors, present = {}, {}
    for modality, wanted in target.items():
        squares = (predicted[modality].float() - wanted).square()
        mask = (valid or {}).get(modality)
        if mask is None:
            errors[modality] = squares.mean(dim=(-2, -1))
            present[modality] = torch.ones_like(errors[modality])
        else:
            mask = mask.expand_as(wanted)
            number = mask.sum(dim=(-2, -1))
            summed = torch.where(mask, squares, 0.0).sum(dim=(-2, -1))
            errors[modality] = summed / number.clamp(min=1)
            present[modality] = (number > 0).float()
    bands = torch.stack([x.sum(dim=-1) for x in present.values()]).sum(dim=0).clamp(min=1)
    return {
        modality: (errors[modality] / bands[..., None], present[modality] / bands[..., None])
        for modality in target
    }


def token_angle(
    predicted: Mapping[str, Tensor], target: Mapping[str, Tensor], valid: Valid | None = None
) -> Tensor:
    """Mean angle between predicted and true spectra of each token, radians.

    The spectral angle of Kruse et al. (Remote Sensing of Environment 44, 1993, eq. 1), in the
    space of the target, between the bands of one grid. 2 atan2(|u - v|, |u + v|) of the unit
    vectors has a gradient everywhere, which the arc cosine has not where spectra agree.

    Args:
        predicted: modality to `[B, M, C, p, p]`; modalities of one band have no angle.
        target: the same shapes.
        valid: of the targets; a pixel counts when all its bands are valid.

    Returns:
        `[B, M]` float32: the mean over grids, by their number of bands, of the mean over pixels.
    """
    total: Tensor | None = None
    bands: Tensor | int = 0
    for modality, wanted in target.items():
        count = wanted.shape[2]
        if count < 2:
            continue
        u, v = _unit(predicted[modality].float()), _unit(wanted)
        apart = torch.linalg.vector_norm(u - v, dim=2)
        angle = 2 * torch.atan2(apart, torch.linalg.vector_norm(u + v, dim=2))
        mask = (valid or {}).get(modality)
        if mask is None:
            error = angle.mean(dim=(-2, -1)) * count
            present: Tensor | int = count
        else:
            whole = mask.all(dim=2)
            number = whole.sum(dim=(-2, -1))
            summed = torch.where(whole, angle, 0.0).sum(dim=(-2, -1))
            error = summed / number.clamp(min=1) * count
            present = (number > 0) * count
        total = error if total is None else total + error
        bands = bands + present
    assert total is not None, "the objective asks only where a grid has two bands"
    return total / (bands.clamp(min=1) if isinstance(bands, Tensor) else bands)


def _unit(x: Tensor) -> Tensor:
    return x / torch.linalg.vector_norm(x, dim=2, keepdim=True).clamp(min=1e-6)


def any_valid(valid: Valid, modalities: Iterable[str]) -> Tensor | None:
    """Say which tokens have a valid value in some modality: `[B, M]` bool, None when all have."""
    found: Tensor | None = None
    for modality in modalities:
        if modality not in valid:
            return None
        here = valid[modality].flatten(2).any(dim=2)
        found = here if found is None else found | here
    return found
