"""Means of points on a lattice along an image's axes, bilinear between pixels.

Of all points at once by `torch.nn.functional.grid_sample`; or along one axis after the other, where
each pixel of the image is read once however many points there are: several times as fast on a CPU.
"""

import torch
from torch import Tensor
from torch.nn import functional

from fm.linear import linear


def means_of_points(x: Tensor, down: Tensor, along: Tensor, many: int) -> Tensor:
    """Return the mean of each `many` times `many` points.

    Args:
        x: `[B, C, H, W]` float32, finite.
        down: `[B, many h]` places of the points' rows; the image is from -1 to 1, and what lies
            beyond the centres of its outer pixels is as they are.
        along: `[B, many w]` of their columns.
        many: points along a side.

    Returns:
        `[B, C, h, w]`.
    """
    if many > 1 and x.device.type == "cpu":
        return torch.stack([_by_axes(*one, many) for one in zip(x, down, along, strict=True)])
    return by_grid(x, down, along, many)


def by_grid(x: Tensor, down: Tensor, along: Tensor, many: int) -> Tensor:
    """Take all points, then their means; as `means_of_points`."""
    shape = (len(x), down.shape[1], along.shape[1])
    grid = torch.stack([along[:, None].expand(shape), down[:, :, None].expand(shape)], dim=-1)
    made = functional.grid_sample(
        x, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return made if many == 1 else functional.avg_pool2d(made, many)


def _by_axes(x: Tensor, down: Tensor, along: Tensor, many: int) -> Tensor:
    """Add up weighted rows, then columns, of `[C, H, W]`."""
    weight, first, width = _weights(along, x.shape[2], many)
    start, stop = int(first.min()), int(first.max()) + width
    x = x[:, :, start:stop]
    columns = weight.new_zeros(len(weight), stop - start)
    columns.scatter_(1, (first - start)[:, None] + torch.arange(width), weight)
    weight, first, height = _weights(down, x.shape[1], many)
    rows = x.index_select(1, first) * weight[:, :1]
    for k in range(1, height):
        rows.addcmul_(x.index_select(1, first + k), weight[:, k, None])
    made = linear(rows.flatten(0, 1), columns)
    return made.unflatten(0, rows.shape[:2])


def _weights(at: Tensor, length: int, many: int) -> tuple[Tensor, Tensor, int]:
    """Say which of a line's pixels the mean of each `many` points is made of.

    Args:
        at: `[many n]` places.
        length: of the line, pixels.
        many: points in a mean.

    Returns:
        `[n, k]` weights, `[n]` the first of the `k` neighbouring pixels that each is of, and `k`.
    """
    place = (((at + 1) * length - 1) / 2).clamp(0, length - 1).view(-1, many)
    low = place.to(torch.int64)
    near = low.amin(dim=1, keepdim=True)
    count = min(int((low - near).max()) + 2, length)
    near = near.clamp(max=length - count)
    share = (place - low) / many
    weight = place.new_zeros(len(place), count)
    weight.scatter_add_(1, low - near, 1 / many - share)
    weight.scatter_add_(1, (low - near + 1).clamp(max=count - 1), share)
    return weight, near[:, 0], count
