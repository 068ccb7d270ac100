"""Gaussian blur with a width of its own for each sample."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from fm.hardware import full_precision
from fm.points import weighted_rows

REACH = 3.0
"""Kernels end at so many of the largest standard deviation."""
VANISHED = math.sqrt(2 * 25 * math.log(2))
"""From so many of its own on a tap weighs less than 2^-25 of the middle one: float32 rounding."""


def kernels(sigma: Tensor, largest: float) -> Tensor:
    """Return normalised kernels `[B, 2 r + 1]` for standard deviations `[B]` in pixels."""
    radius = max(1, math.ceil(REACH * largest))
    at = torch.arange(-radius, radius + 1, device=sigma.device, dtype=torch.float32)
    weight = torch.exp(-0.5 * (at / sigma[:, None]).square())
    return weight / weight.sum(dim=1, keepdim=True)


def blurred(x: Tensor, valid: Tensor | None, sigma: Tensor, largest: float, hit: Tensor) -> Tensor:
    """Blur hit samples; invalid pixels count for nothing, and borders are mirrored.

    Args:
        x: `[B, C, H, W]` float32.
        valid: of that shape; None if all is valid.
        sigma: `[B]` standard deviations, pixels.
        largest: that any may have.
        hit: `[B]` bool.
    """
    if x.device.type != "cpu":  # to ask who is hit, and how wide, would be to wait for it
        return torch.where(hit[:, None, None, None], _blur(x, valid, sigma, largest), x)
    made = list(x.split(1))
    for row, (is_hit, own_sigma) in enumerate(zip(hit.tolist(), sigma.tolist(), strict=True)):
        if is_hit:
            own = slice(row, row + 1)
            mask = None if valid is None else valid[own]
            near = min(largest, VANISHED / REACH * own_sigma)
            made[row] = _blur(made[row], mask, sigma[own], near)
    return made[0] if len(made) == 1 else torch.cat(made)


def _blur(x: Tensor, valid: Tensor | None, sigma: Tensor, largest: float) -> Tensor:
    taps = kernels(sigma, largest)
    if valid is None:
        return _convolved(x, taps)
    share = _convolved(valid.float(), taps)
    # a valid pixel has at least its own tap
    made = _convolved(torch.where(valid, x, 0.0), taps) / share.clamp(min=1e-12)
    return torch.where(valid, made, 0.0)


def _convolved(x: Tensor, taps: Tensor) -> Tensor:
    """Convolve rows and columns of each sample with its kernel; on a CPU of the one there is."""
    return by_convolution(x, taps) if x.device.type != "cpu" else by_axes(x[0], taps[0])[None]


def by_axes(x: Tensor, taps: Tensor) -> Tensor:
    """Convolve `[C, H, W]` with a kernel `[2 r + 1]`, columns and then rows."""
    lines = {length: _mirrored(taps, length) for length in set(x.shape[1:])}
    for _ in range(2):
        x = weighted_rows(x.mT, *lines[x.shape[2]])
    return x


def _mirrored(taps: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return what each pixel of a line is the sum of, `[n, K]`, and the weights."""
    kernel = _reaching(taps, length)
    reach, last = len(kernel) // 2, length - 1
    at = torch.arange(length)[:, None] + torch.arange(-reach, reach + 1)
    at = last - (last - at.abs()).abs()
    return at, kernel.expand(at.shape)


def by_convolution(x: Tensor, taps: Tensor) -> Tensor:
    """Convolve `[B, C, H, W]` with a kernel for each sample, `[B, 2 r + 1]`; as `by_axes`."""
    batch, channels, height, width = x.shape
    with full_precision(x.device):
        flat = x.reshape(1, batch * channels, height, width)
        for axis in (-1, -2):
            kernel = _reaching(taps, x.shape[axis])
            reach = kernel.shape[1] // 2
            shape = (1, -1) if axis == -1 else (-1, 1)
            weight = kernel[:, None].expand(-1, channels, -1)
            weight = weight.reshape(batch * channels, 1, *shape)
            pad = (reach, reach, 0, 0) if axis == -1 else (0, 0, reach, reach)
            padded = functional.pad(flat, pad, mode="reflect")
            flat = functional.conv2d(padded, weight, groups=batch * channels)
    return flat.view_as(x)


def _reaching(taps: Tensor, length: int) -> Tensor:
    """Cut kernels `[..., 2 r + 1]` to what a mirror shows of a line: no more than there is."""
    radius = taps.shape[-1] // 2
    reach = min(radius, length - 1)
    if reach == radius:
        return taps
    kept = taps[..., radius - reach : radius + reach + 1]
    return kept / kept.sum(dim=-1, keepdim=True)
