"""Heads that score each cell of a token map: linear, FCN and UPerNet.

All of them normalise by groups of channels (Wu and He, arXiv 1803.08494) where their papers have
batch normalisation, so that the scores of a sample do not depend on its batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from fm.errors import UsageError
from probes.dense.grids import resample

BINS = (1, 2, 3, 6)
"""Grids of the pyramid pooling (arXiv 1612.01105, section 3.2)."""


@dataclass(frozen=True)
class Shape:
    """One level of token maps.

    Attributes:
        channels: C.
        rows: cells from top to bottom.
        columns: cells from left to right.
        cell: height and width of a cell as shares of the picture's.
    """

    channels: int
    rows: int
    columns: int
    cell: tuple[float, float]


class Head(nn.Module):
    """Base: `forward(levels)` gives scores `[B, K, h, w]` on cells of the size `cell`."""

    def __init__(self, cell: tuple[float, float]) -> None:
        super().__init__()
        self.cell = cell

    def scores(self, levels: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Scores `[B, K, *size]` of the pixels, upsampled bilinearly."""
        made = cast(Tensor, self(levels))
        step = (1 / (size[0] * self.cell[0]), 1 / (size[1] * self.cell[1]))
        return resample(made, size, step)


def build(
    kind: str, shapes: Sequence[Shape], size: tuple[int, int], channels: int, classes: int
) -> Head:
    """Make a head: `linear`, `fcn` or `upernet`.

    Args:
        kind: its name.
        shapes: of the levels, from the first to the last; the first two heads use the last.
        size: rows and columns of the picture in pixels.
        channels: width inside.
        classes: K.
    """
    if kind == "upernet":
        return UPerNet(shapes, size, channels, classes)
    return Linear(shapes[-1], classes) if kind == "linear" else Fcn(shapes[-1], channels, classes)


class Linear(Head):
    """One linear layer on the last level (DINOv2, arXiv 2304.07193, section 7.4)."""

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__(shape.cell)
        self.classify = nn.Conv2d(shape.channels, classes, 1)
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.zeros_(cast(Tensor, self.classify.bias))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """See `Head`."""
        return self.classify(levels[-1])


class Fcn(Head):
    """Two 3x3 convolutions and a linear layer on the last level (arXiv 1411.4038)."""

    def __init__(self, shape: Shape, channels: int, classes: int) -> None:
        super().__init__(shape.cell)
        self.layers = nn.Sequential(
            _conv(shape.channels, channels, 3),
            _conv(channels, channels, 3),
            nn.Conv2d(channels, classes, 1),
        )

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """See `Head`."""
        return self.layers(levels[-1])


class UPerNet(Head):
    """Pyramid pooling and a feature pyramid over four levels (Xiao et al., arXiv 1807.10221).

    Levels of a convolutional backbone come on grids of their own. Those of a plain ViT are all on
    its token grid and are brought to 4, 2, 1 and 1/2 times as many cells a side, as is done for
    BEiT (arXiv 2106.08254, appendix): by transposed convolutions, the identity, and maximum
    pooling, here after the projection to `channels`. No level is made finer than the pixels.

    Args:
        shapes: of the four levels, the finest or first block first.
        size: rows and columns of the picture in pixels.
        channels: width of the pyramid.
        classes: K.
    """

    def __init__(
        self, shapes: Sequence[Shape], size: tuple[int, int], channels: int, classes: int
    ) -> None:
        if len(shapes) != 4:
            raise UsageError(f"upernet needs four levels of tokens, the model gives {len(shapes)}")
        plain = len({(s.rows, s.columns) for s in shapes}) == 1
        pixels = min(shapes[0].cell[0] * size[0], shapes[0].cell[1] * size[1])
        most = 4.0 if pixels >= 4 else 2.0 if pixels >= 2 else 1.0
        factors = (most, min(most, 2.0), 1.0, 0.5) if plain else (1.0, 1.0, 1.0, 1.0)
        cells = [(s.cell[0] / f, s.cell[1] / f) for s, f in zip(shapes, factors, strict=True)]
        super().__init__(cells[0])
        self.cells = cells
        self.project = nn.ModuleList(_conv(s.channels, channels, 1) for s in shapes)
        self.rescale = nn.ModuleList(_rescale(channels, f) for f in factors)
        self.pools = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(n), _conv(channels, channels, 1)) for n in BINS
        )
        self.top = _conv(channels * (1 + len(BINS)), channels, 3)
        self.smooth = nn.ModuleList(_conv(channels, channels, 3) for _ in range(3))
        self.fuse = _conv(4 * channels, channels, 3)
        self.classify = nn.Conv2d(channels, classes, 1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """See `Head`."""
        maps = [
            rescale(project(x))
            for x, project, rescale in zip(levels, self.project, self.rescale, strict=True)
        ]
        deep = maps[-1]
        size = deep.shape[-2:]
        pooled = [
            nn.functional.interpolate(pool(deep), size, mode="bilinear", align_corners=False)
            for pool in self.pools
        ]
        maps[-1] = self.top(torch.cat([deep, *pooled], dim=1))
        for i in (2, 1, 0):
            maps[i] = maps[i] + self._to(maps[i + 1], i + 1, i, maps[i])
        maps[:3] = [smooth(x) for smooth, x in zip(self.smooth, maps[:3], strict=True)]
        finest = [maps[0], *(self._to(maps[i], i, 0, maps[0]) for i in (1, 2, 3))]
        return self.classify(self.fuse(torch.cat(finest, dim=1)))

    def _to(self, x: Tensor, level: int, other: int, like: Tensor) -> Tensor:
        """Bring a map from one level's cells to another's."""
        have, want = self.cells[level], self.cells[other]
        step = (want[0] / have[0], want[1] / have[1])
        return resample(x, (like.shape[-2], like.shape[-1]), step)


def _conv(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.GroupNorm(math.gcd(outputs, 8), outputs),
        nn.ReLU(),
    )


def _rescale(channels: int, factor: float) -> nn.Module:
    """Doublings by transposed convolution, or halving by maximum pooling (odd sizes round up)."""
    if factor == 1:
        return nn.Identity()
    if factor < 1:
        return nn.MaxPool2d(2, 2, ceil_mode=True)
    double = [nn.ConvTranspose2d(channels, channels, 2, 2) for _ in range(round(math.log2(factor)))]
    if len(double) == 1:
        return double[0]
    norm = nn.GroupNorm(math.gcd(channels, 8), channels)
    return nn.Sequential(double[0], norm, nn.GELU(), double[1])
