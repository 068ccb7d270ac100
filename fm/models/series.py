"""Series of images: one strip a sample, and a code of the time of each image.

A sample of T images `[T, C, H, W]` becomes one strip `[C, T * H, W]`, the images one below the
other in their order, so that everything that cuts, masks and compares tokens stays what it is for
one image: the token grid is `[T * rows, columns]`, row-major, which is image after image.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from fm.errors import UsageError
from fm.models.inputs import Inputs
from fm.models.positions import sincos_1d

FIRST_YEAR = 2002
"""Years are counted from here, as SatMAE does for fMoW."""
PARTS = 12
"""A time code is a whole number of these channels: three sines and cosines, and places keep 4."""


def images_in(pixels: Mapping[str, Tensor]) -> int:
    """Return T of `[B, T, C, H, W]` pixels, 1 of `[B, C, H, W]` ones.

    Raises:
        UsageError: modalities of different numbers of images, or series of none.
    """
    for name, x in pixels.items():
        if x.ndim == 5 and x.shape[1] == 0:
            raise UsageError(f"{name}: series of no image, {list(x.shape)}; leave the sample out")
    found = {name: x.shape[1] if x.ndim == 5 else 0 for name, x in pixels.items()}
    if len(set(found.values())) > 1:
        told = ", ".join(f"{name} {number or 'a single image'}" for name, number in found.items())
        raise UsageError(f"all modalities must have the same number of images a sample; got {told}")
    return max(*found.values(), 1)


def strip(x: Tensor) -> Tensor:
    """Put the images of a series `[B, T, ..., H, W]` one below the other: `[B, ..., T * H, W]`."""
    return x.movedim(1, -3).flatten(-3, -2)


def calendar(time: Tensor) -> Tensor:
    """Return the UTC year, month (1 to 12) and hour of times.

    Days are counted in eras of 400 years that begin on 1 March, where the leap day comes last.

    Args:
        time: any shape, finite seconds since 1970 UTC.

    Returns:
        the shape with 3 behind it, int64.
    """
    seconds = time.double().floor().long()
    days = seconds // 86400
    hour = (seconds - days * 86400) // 3600
    days = days + 719468  # since 1 March of the year 0
    era = days // 146097
    day = days - era * 146097
    year = (day - day // 1460 + day // 36524 - day // 146096) // 365
    within = day - (365 * year + year // 4 - year // 100)
    month = (5 * within + 2) // 153  # from March
    early = month >= 10
    year = year + era * 400 + early.long()
    return torch.stack([year, torch.where(early, month - 9, month + 3), hour], dim=-1)


def time_code(width: int, time: Tensor) -> Tensor:
    """Encode times as SatMAE does (Cong et al., arXiv 2207.08051, section 3.2 and its release).

    Sines and cosines of year - 2002, of month - 1 and of the hour, a third of the width each. A
    time that is not known is zeros, which no time is.

    Args:
        width: a multiple of 6.
        time: any shape, seconds since 1970 UTC, NaN where unknown.

    Returns:
        the shape with `width` behind it, float32.
    """
    known = torch.isfinite(time)
    fields = calendar(torch.where(known, time.double(), 0.0)) - torch.tensor(
        [FIRST_YEAR, 1, 0], device=time.device
    )
    parts = sincos_1d(width // 3, fields.flatten().float())
    return torch.where(known[..., None], parts.reshape(*time.shape, width), 0.0)


def time_codes(inputs: Inputs, width: int) -> Tensor | None:
    """Return the codes of the images' times, `[B, T, width]`; None where they have no channels.

    A single image has the time of its sample.
    """
    if not width:
        return None
    times = inputs.times
    if times is None and inputs.time is not None:
        times = inputs.time[:, None]
    device = next(iter(inputs.pixels.values())).device
    if times is None:
        return torch.zeros(inputs.size, inputs.images, width, device=device)
    return time_code(width, times.to(device))


def with_times(code: Tensor, times: Tensor) -> Tensor:
    """Put a code of each image's time behind the codes of its places.

    Args:
        code: `[N, A]`, of the places of one image.
        times: `[B, T, W]`.

    Returns:
        `[B, T * N, A + W]`, image after image.
    """
    batch, images, _ = times.shape
    places = code.expand(batch, images, -1, -1)
    behind = times[:, :, None].expand(-1, -1, code.shape[0], -1)
    return torch.cat([places, behind], dim=-1).flatten(1, 2)


def codes_at(code: Tensor, index: Tensor) -> Tensor:
    """Return the codes of some tokens: `[B, K, D]`.

    Args:
        code: `[N, D]`, the same for all samples, or `[B, N, D]`.
        index: `[B, K]` token numbers.
    """
    if code.ndim == 2:
        return code[index]
    return code[torch.arange(len(code), device=code.device)[:, None], index]
