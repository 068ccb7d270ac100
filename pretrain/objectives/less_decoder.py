"""The decoder of Hyper-MAE: LESS blocks over the whole grid of channels and positions."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from fm.config import Config
from fm.models.less import AttentionShape, Axis, LessBlock, LessViT, PositionChannelCode
from fm.models.less.attention import norm
from pretrain.objectives.decoders import xavier


class LessDecoderConfig(Config):
    """The decoder, which is thrown away after pretraining.

    Attributes:
        width: a multiple of 4 and of `heads` times `channel_dim`.
        depth: blocks.
        heads: attention heads.
        channel_dim: width of a head in the channel branch; the backbone's when null.
        rank: number of Kronecker products; the backbone's when null.
        mlp: `tokens` or `pooled`, see `LessViT`.
    """

    width: int = Field(128, gt=0, multiple_of=4)
    depth: int = Field(2, gt=0)
    heads: int = Field(4, gt=0)
    channel_dim: int | None = Field(None, gt=0)
    rank: int | None = Field(None, gt=0)
    mlp: Literal["tokens", "pooled"] = "tokens"


class LessDecoder(nn.Module):
    """From the cells that were seen to vectors of all cells.

    Places and wavelengths reach every block the way they do in the backbone. (The published v2
    decoder with rotary codes got none, so all masked positions of a sample were predicted alike.)
    State-dict keys are the published ones.

    Args:
        backbone: whose cells come in.
        config: see `LessDecoderConfig`.
    """

    def __init__(self, backbone: LessViT, config: LessDecoderConfig) -> None:
        super().__init__()
        shape = AttentionShape(
            width=config.width,
            heads=config.heads,
            channel_dim=config.channel_dim or backbone.shape.channel_dim,
            rank=config.rank or backbone.shape.rank,
            aggregation=backbone.shape.aggregation,
            pool=backbone.shape.pool,
        )
        self.decoder_embed = nn.Linear(backbone.width, config.width)
        self.pos_chan_embed = PositionChannelCode(
            config.width,
            config.heads,
            shape.channel_dim,
            backbone.code_settings,
            backbone.polarisations,
        )
        self.mask_token = nn.Parameter(torch.zeros(1, 1, 1, config.width))
        self.spatial_mask_token = nn.Parameter(torch.zeros(1, 1, 1, config.width))
        self.channel_mask_token = nn.Parameter(torch.zeros(1, 1, 1, config.width))
        self.decoder_blocks = nn.ModuleList(
            LessBlock(shape, mlp=config.mlp) for _ in range(config.depth)
        )
        self.decoder_norm = norm(config.width)
        self.apply(xavier)
        for token in (self.mask_token, self.spatial_mask_token, self.channel_mask_token):
            nn.init.normal_(token, std=0.02)

    def forward(
        self,
        encoded: Tensor,
        axis: Axis,
        channels: Tensor,
        positions: Tensor,
        cells: Tensor | None,
    ) -> Tensor:
        """Decode.

        Args:
            encoded: `[B, 1 + L, 1 + K, D]` what the backbone made of the seen cells.
            axis: the channels and positions of the targets.
            channels: `[B, L]` seen channels.
            positions: `[B, K]` seen positions.
            cells: `[B, 1 + L, 1 + K]` bool, False for seen cells without a valid pixel, which are
                as good as masked; None when all are valid.

        Returns:
            `[B, C, N, W]`.
        """
        seen = self.decoder_embed(encoded)
        batch, count = len(seen), len(axis.bands)
        row = self.channel_mask_token.expand(1, 1, axis.positions, -1)
        column = self.spatial_mask_token.expand(1, count, 1, -1)
        inside = self.mask_token.expand(1, count, axis.positions, -1)
        top = torch.cat([torch.zeros_like(row[:, :, :1]), row], dim=2)
        whole = torch.cat([top, torch.cat([column, inside], dim=2)], dim=1)
        whole = whole.to(seen.dtype).expand(batch, -1, -1, -1)
        place = (
            torch.arange(batch, device=seen.device)[:, None, None],
            functional.pad(channels + 1, (1, 0))[:, :, None],
            functional.pad(positions + 1, (1, 0))[:, None],
        )
        if cells is not None:
            seen = torch.where(cells[..., None], seen, whole[place])
        x = whole.index_put(place, seen)
        codes = self.pos_chan_embed(axis, x.device)
        added = codes.added()
        if added is not None:
            x = x + added.to(x.dtype)
        context = codes.context()
        for block in self.decoder_blocks:
            x = block(x, context)
        made: Tensor = self.decoder_norm(x[:, 1:, 1:])
        return made
