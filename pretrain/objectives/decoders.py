"""Decoders of masked autoencoders: from visible tokens to predictions at asked-for positions."""

from functools import partial

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional

_norm = partial(nn.LayerNorm, eps=1e-6)


class JointDecoder(nn.Module):
    """Self-attention over visible and mask tokens together (He et al., arXiv 2111.06377, sec. 3).

    Args:
        width: decoder width.
        depth: number of blocks.
        heads: attention heads.
    """

    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(width, heads, 4.0, qkv_bias=True, norm_layer=_norm) for _ in range(depth)
        )
        self.norm = _norm(width)

    def forward(self, context: Tensor, queries: Tensor, mask: Tensor | None = None) -> Tensor:
        """Decode.

        Args:
            context: `[B, K, D]` visible tokens with their codes.
            queries: `[B, M, D]` mask tokens with theirs.
            mask: `[B, K]` bool, False for visible tokens without a valid pixel, which no other
                token sees.

        Returns:
            `[B, M, D]`.
        """
        return self.everywhere(context, queries, mask)[:, context.shape[1] :]

    def everywhere(self, context: Tensor, queries: Tensor, mask: Tensor | None = None) -> Tensor:
        """Decode at the visible tokens too: `[B, K + M, D]`.

        Attention has no order of its own, so tokens need not be put back into image order: their
        codes travel with them.
        """
        x = torch.cat([context, queries], dim=1)
        attend = None
        if mask is not None:
            asked = mask.new_ones(queries.shape[:2])
            attend = torch.cat([mask, asked], dim=1)[:, None, None, :]
        for block in self.blocks:
            x = block(x, attn_mask=attend)
        return self.norm(x)


class CrossDecoder(nn.Module):
    """Mask tokens read from the visible tokens only, not from each other.

    Fu et al., "Rethinking patch dependence for masked autoencoders" (arXiv 2401.14391, CrossMAE,
    section 3): each prediction is independent of the others, so any part of the masked tokens
    may be decoded and the rest skipped.
    """

    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_CrossBlock(width, heads) for _ in range(depth))
        self.context_norm = _norm(width)
        self.norm = _norm(width)

    def forward(self, context: Tensor, queries: Tensor, mask: Tensor | None = None) -> Tensor:
        """Decode: the same shapes as `JointDecoder.forward`."""
        context = self.context_norm(context)
        attend = None if mask is None else mask[:, None, None, :]
        for block in self.blocks:
            queries = block(queries, context, attend)
        return self.norm(queries)


class _CrossBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = _norm(width), _norm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        key, value = self.key_value(context).chunk(2, dim=-1)
        read = functional.scaled_dot_product_attention(
            self._split(self.query(self.norm1(x))),
            self._split(key),
            self._split(value),
            attn_mask=mask,
        )
        x = x + self.proj(read.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


DECODERS: dict[str, type[JointDecoder] | type[CrossDecoder]] = {
    "joint": JointDecoder,
    "cross": CrossDecoder,
}
