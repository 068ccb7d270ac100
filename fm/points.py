"""Means of points on a lattice along an image's axes, bilinear between pixels.

Of all points at once by `torch.nn.functional.grid_sample`; or along one axis after the other, where
each pixel of the image is read once however many points there are: several times as fast on a CPU.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

Window = tuple[slice, slice]
"""Rows and columns of an image."""
AT_ONCE = 2**20
"""Numbers of an image whose bands are gone through together: what a last-level cache holds."""


@dataclass(frozen=True)
class Line:
    """Which pixels of a line the mean of each `many` points is made of, for each image.

    Attributes:
        weight: `[B, n, K]` of neighbouring pixels.
        place: `[B, n, K]` int64, which they are, counted from the image's `starts`.
        widths: of each image, how many of the `K` count.
        starts: of each image, the first pixel that any mean is made of.
        stops: of each image, the last of them and one.
    """

    weight: Tensor
    place: Tensor
    widths: list[int]
    starts: list[int]
    stops: list[int]

    @classmethod
    def of(cls, at: Tensor, length: int, many: int) -> "Line":
        """Make the weights of all images.

        Args:
            at: `[B, many n]` places of the points; the line is from -1 to 1.
            length: of the line, pixels.
            many: points in a mean.
        """
        place = (((at + 1) * length - 1) / 2).clamp(0, length - 1).view(len(at), -1, many)
        low = place.to(torch.int64)
        near = low.amin(dim=2, keepdim=True)
        count = ((low - near).amax(dim=(1, 2), keepdim=True) + 2).clamp(max=length)
        near = torch.minimum(near, length - count)
        share = (place - low) / many
        weight = place.new_zeros(*place.shape[:2], int(count.max()) if len(at) else 0)
        weight.scatter_add_(2, low - near, 1 / many - share)
        weight.scatter_add_(2, torch.minimum(low - near + 1, count - 1), share)
        first, widths = near[:, :, 0], count[:, 0, 0]
        starts, stops = first.amin(dim=1), first.amax(dim=1) + widths
        taps = torch.arange(weight.shape[2], device=at.device)
        near = near - starts[:, None, None] + taps
        return cls(weight, near, widths.tolist(), starts.tolist(), stops.tolist())

    def select(self, rows: slice) -> "Line":
        """Return the lines of some of the images."""
        ends = (self.widths[rows], self.starts[rows], self.stops[rows])
        return Line(self.weight[rows], self.place[rows], *ends)

    def window(self, number: int) -> slice:
        """Return the pixels of one image that any mean is made of."""
        return slice(self.starts[number], self.stops[number])

    def one(self, number: int) -> tuple[Tensor, Tensor]:
        """Return the weights and the pixels of one image's means, `[n, k]`; see `window`."""
        taps = self.widths[number]
        return self.weight[number, :, :taps], self.place[number, :, :taps]


@dataclass(frozen=True)
class Lattice:
    """Rows and columns of points in images of one size; pixels are means of `many` by `many`.

    Attributes:
        down: `[B, many h]` places of the points' rows; the image is from -1 to 1, and what lies
            beyond the centres of its outer pixels is as they are.
        along: `[B, many w]` of their columns.
        many: points along a side.
        lines: what rows and columns are made of, where one axis is taken after the other.
    """

    down: Tensor
    along: Tensor
    many: int
    lines: tuple[Line, Line] | None

    @classmethod
    def of(cls, down: Tensor, along: Tensor, many: int, shape: tuple[int, int]) -> "Lattice":
        """Prepare the points of images of `shape`, height and width."""
        lines = None
        if many > 1 and down.device.type == "cpu":
            lines = (Line.of(down, shape[0], many), Line.of(along, shape[1], many))
        return cls(down, along, many, lines)

    def select(self, rows: slice) -> "Lattice":
        """Return the points of some of the images."""
        lines = self.lines
        if lines is not None:
            lines = (lines[0].select(rows), lines[1].select(rows))
        return replace(self, down=self.down[rows], along=self.along[rows], lines=lines)

    def window(self) -> Window:
        """Return the part of a single image that is looked at; of several, all."""
        if self.lines is None or len(self.down) != 1:
            return slice(None), slice(None)
        return self.lines[0].window(0), self.lines[1].window(0)

    def means(self, x: Tensor, window: Window | None = None) -> Tensor:
        """Return the means of an image's points.

        Args:
            x: `[B, C, H, W]` of any dtype, finite.
            window: x is this part of the images; None is all of them.

        Returns:
            `[B, C, h, w]` float32.
        """
        if self.lines is None:
            return by_grid(x.float(), self.down, self.along, self.many)
        top, left = (part.start or 0 for part in window or (slice(0), slice(0)))
        made = [_by_axes(image, *self.lines, i, (top, left)) for i, image in enumerate(x)]
        return made[0][None] if len(made) == 1 else torch.stack(made)


def means_of_points(x: Tensor, down: Tensor, along: Tensor, many: int) -> Tensor:
    """Return the mean of each `many` times `many` points of `[B, C, H, W]`; see `Lattice`."""
    return Lattice.of(down, along, many, (x.shape[-2], x.shape[-1])).means(x)


def by_grid(x: Tensor, down: Tensor, along: Tensor, many: int) -> Tensor:
    """Take all points, then their means; as `means_of_points`."""
    shape = (len(x), down.shape[1], along.shape[1])
    grid = torch.stack([along[:, None].expand(shape), down[:, :, None].expand(shape)], dim=-1)
    made = functional.grid_sample(
        x, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return made if many == 1 else functional.avg_pool2d(made, many)


def weighted_rows(x: Tensor, place: Tensor, weight: Tensor) -> Tensor:
    """Return weighted sums of rows of each band: `[C, n, W]`.

    Args:
        x: `[C, H, W]` float32.
        place: `[n, K]` int64, which rows.
        weight: `[n, K]` float32.
    """
    bands, height, width = x.shape
    first = torch.arange(0, bands * height, height, device=x.device)
    at = (place + first[:, None, None]).view(-1, place.shape[1])
    each = weight.expand(bands, -1, -1).reshape(at.shape).contiguous()
    # a bag is the weighted sum of some rows of a table: one pass, whatever their number
    table = x.reshape(-1, width)
    made = functional.embedding_bag(at, table, per_sample_weights=each, mode="sum")
    return made.view(bands, -1, width)


def _by_axes(x: Tensor, down: Line, along: Line, number: int, corner: tuple[int, int]) -> Tensor:
    """Add up weighted rows, then columns, of `[C, H, W]`, whose first pixel is a corner."""
    (top, bottom), (left, right) = (
        (part.start - first, part.stop - first)
        for part, first in zip((down.window(number), along.window(number)), corner, strict=True)
    )
    (of_row, row), (of_column, column) = down.one(number), along.one(number)
    made = of_row.new_empty(len(x), len(row), len(column))
    step = max(1, AT_ONCE // ((bottom - top) * (right - left)))
    for first in range(0, len(x), step):
        some = slice(first, first + step)
        part = x[some, top:bottom, left:right].to(torch.float32)
        part = weighted_rows(part, row, of_row).mT
        made[some] = weighted_rows(part, column, of_column).mT
    return made
