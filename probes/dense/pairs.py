"""Modules that join the token maps of two dates: `(a, b) -> maps`, each `[B, C, h, w]`."""

from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from fm.models.positions import sincos_2d


class Pair(nn.Module):
    """Base: `channels` says how many channels come out of `inputs` ones a date."""

    def channels(self, inputs: int) -> int:
        """Channels of what comes out."""
        raise NotImplementedError


class Difference(Pair):
    """|a - b|: which date came first does not matter."""

    def channels(self, inputs: int) -> int:
        """As many."""
        return inputs

    def forward(self, a: Tensor, b: Tensor, missing: Tensor) -> Tensor:
        """Join two maps."""
        del missing
        return (a - b).abs()


class Concat(Pair):
    """[a; b] (the early weights of the head tell the dates apart)."""

    def channels(self, inputs: int) -> int:
        """Twice as many."""
        return 2 * inputs

    def forward(self, a: Tensor, b: Tensor, missing: Tensor) -> Tensor:
        """Join two maps."""
        del missing
        return torch.cat([a, b], dim=1)


class Attention(Pair):
    """Blocks of attention over the tokens of both dates, then [a; b] of what comes out.

    In the manner of BIT (Chen et al., arXiv 2103.00208), but over all tokens, not a few learned
    ones. Tokens are projected to `width` and get a fixed code of their place and a learned one of
    their date; cells that are missing in either date are seen by none.

    Args:
        inputs: channels of a date.
        width: of the blocks, a multiple of 4.
        blocks: their number.
    """

    def __init__(self, inputs: int, width: int, blocks: int) -> None:
        super().__init__()
        from timm.models.vision_transformer import Block

        norm = partial(nn.LayerNorm, eps=1e-6)
        self.width = width
        self.project = nn.Linear(inputs, width)
        self.date = nn.Parameter(0.02 * torch.randn(2, width))
        self.blocks = nn.ModuleList(
            Block(width, 4, 2.0, qkv_bias=True, norm_layer=norm) for _ in range(blocks)
        )
        self.norm = norm(width)

    def channels(self, inputs: int) -> int:
        """Twice the width."""
        del inputs
        return 2 * self.width

    def forward(self, a: Tensor, b: Tensor, missing: Tensor) -> Tensor:
        """Join two maps; `missing` [B, 1, h, w] cells are seen by none."""
        rows, columns = a.shape[-2:]
        place = sincos_2d(self.width, rows, columns, a.device)
        dates = [self.project(x.flatten(2).mT) + place + self.date[i] for i, x in enumerate((a, b))]
        x = torch.cat(dates, dim=1)
        seen = ~missing.flatten(1).repeat(1, 2)
        # a sample without any cell would have nothing to attend to: it sees all
        seen = seen | ~seen.any(dim=1, keepdim=True)
        for block in self.blocks:
            x = block(x, attn_mask=seen[:, None, None, :])
        x = self.norm(x).unflatten(1, (2, rows, columns))
        return cast(Tensor, x.permute(0, 1, 4, 2, 3).flatten(1, 2))


def build(kind: str, inputs: int, width: int, blocks: int) -> Pair:
    """Make a pair module: `difference`, `concat` or `transformer`."""
    if kind == "transformer":
        return Attention(inputs, width, blocks)
    return Difference() if kind == "difference" else Concat()
