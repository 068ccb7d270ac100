"""Decoders of masked autoencoders: from visible tokens to predictions at asked-for positions."""

from functools import partial
from typing import Literal

import torch
from pydantic import Field
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional

from fm.config import Config
from fm.errors import UsageError
from fm.models import VisionTransformer
from fm.models.series import PARTS
from pretrain.masking import Where

_norm = partial(nn.LayerNorm, eps=1e-6)


class DecoderConfig(Config):
    """The decoder, which is thrown away after pretraining.

    Attributes:
        kind: `joint` (MAE) or `cross` (CrossMAE).
        width: a multiple of 4 and of `heads`.
        depth: blocks.
        heads: attention heads.
        predict: share of the masked tokens that are predicted; below 1 only with `cross`.
        where: the predicted ones lie `anywhere`, or they are all the masked ones of a `window` of
            about that share of the image, drawn a sample; what is made of them afterwards (the
            images of kind multiscale) is then made there alone. Needs groups of one token grid,
            and single images.
        group_code_width: last channels of the decoder's codes that tell the group, for a backbone
            with `group_code_width`; as large a share as the backbone's when null.
        time_code_width: channels of the decoder's codes that tell the time of the image, for a
            backbone with `time_code_width`; as large a share as the backbone's when null.
    """

    kind: Literal["joint", "cross"] = "cross"
    width: int = Field(128, gt=0, multiple_of=4)
    depth: int = Field(2, gt=0)
    heads: int = Field(4, gt=0)
    predict: float = Field(1.0, gt=0, le=1)
    where: Where = "anywhere"
    group_code_width: int | None = Field(None, gt=0, multiple_of=4)
    time_code_width: int | None = Field(None, gt=0, multiple_of=PARTS)

    @property
    def shares(self) -> tuple[int, int | None, int | None]:
        """Width of the codes, and of their parts for the group and the time."""
        return self.width, self.group_code_width, self.time_code_width

    def check(self, backbone: VisionTransformer) -> None:
        """Say what does not fit.

        Raises:
            UsageError: a part of a joint decoder, heads or codes that do not go into the width, or
                codes that the backbone does not have.
        """
        if self.kind == "joint" and self.predict < 1:
            raise UsageError(
                "objective.decoder.predict below 1 needs objective.decoder.kind=cross: a joint "
                "decoder's tokens see each other"
            )
        if self.where == "window" and self.predict == 1:
            raise UsageError(
                "objective.decoder.where=window needs objective.decoder.predict below 1, the share "
                "of the image that the window takes"
            )
        if self.where == "window" and backbone.series:
            raise UsageError(
                "objective.decoder.where=window is of single images; leave "
                "model.options.time_code_width out"
            )
        if self.width % self.heads:
            raise UsageError("objective.decoder.width must be a multiple of its heads")
        for what in ("group_code_width", "time_code_width"):
            if getattr(self, what) is not None and getattr(backbone, what) is None:
                raise UsageError(f"objective.decoder.{what} needs model.options.{what}")
        if self.width - backbone.code_share(*self.shares) < 4:
            raise UsageError(
                f"objective.decoder.width={self.width} leaves no channels for the place beside "
                f"group_code_width and time_code_width"
            )


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


def xavier(module: nn.Module) -> None:
    """Initialise linear layers as MAE does."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
