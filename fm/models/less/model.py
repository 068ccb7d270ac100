"""LESS ViT: every band of every position is a cell; attention is low-rank over both axes."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fm.errors import UsageError
from fm.models.backbone import Backbone
from fm.models.features import Features, pool
from fm.models.inputs import Inputs
from fm.models.intake import Intake
from fm.models.less.attention import AttentionShape, Context, norm
from fm.models.less.axis import Axis, axis_of, kind_of
from fm.models.less.block import LessBlock
from fm.models.less.codes import CodeSettings, PositionChannelCode
from fm.models.less.embed import ChannelEmbed
from fm.models.less.rope import HIGH_NM, LOW_NM, WavelengthAxis


class LessViT(Backbone):
    """LESS ViT (arXiv 2503.12843, v1; 2605.18541, v2), any bands.

    All given bands are channels over one grid of positions; those of other native grids have
    patches of their own. A class row, a class column and a class cell are put in front. The tokens
    of the features are the class row, one a position. Nothing is dropped at random. Where codes
    are `sum` or there is a perception field, positions count metres, and images of any sampling
    distance may come in; rotations alone know places only as shares of the image.

    Args:
        intake: see `Intake`; the grids of the groups must agree.
        width: D.
        depth: number of blocks.
        heads: attention heads.
        channel_dim: width of a head in the channel branch.
        rank: number of Kronecker products.
        aggregation: `mean` over ranks with a value each (v2), `sum` with one shared value (v1).
        pool: where channel and position vectors are pooled: in the `low` width, or at `full`.
        mlp: on all cells (`tokens`), or on means over positions and channels (`pooled`), whose
            cost does not grow with bands times positions.
        mlp_ratio: hidden width of the MLP over D.
        layer_scale: initial value of LayerScale; None or 0 leaves it out.
        codes: `rope` (v2) or `sum` (v1), see `CodeSettings`.
        wavelength_axis: `linear` or `log`, from 300 to 2600 nm for every sensor.
        finer_frequencies: of `rope`: other periods in each head, down to 11.5 nm.
        legacy_range: ends in nanometres of another axis, such as one dataset's.
        legacy_positions: of `sum`, see `CodeSettings`.
        radar_wavelengths: see `CodeSettings`; published are VV 5500 and VH 5700.
        perception_m: radius of the perception field in metres; published 640 (v1), 360 (v2).
        pooling: `mean` of the class row over valid positions, or the class cell (`cls`).
    """

    def __init__(
        self,
        intake: Intake,
        *,
        width: int,
        depth: int,
        heads: int,
        channel_dim: int = 4,
        rank: int = 1,
        aggregation: Literal["mean", "sum"] = "mean",
        pool: Literal["low", "full"] = "low",
        mlp: Literal["tokens", "pooled"] = "tokens",
        mlp_ratio: float = 4.0,
        layer_scale: float | None = 1.0,
        codes: Literal["rope", "sum"] = "rope",
        wavelength_axis: Literal["linear", "log"] = "linear",
        finer_frequencies: bool = False,
        legacy_range: Sequence[float] | None = None,
        legacy_positions: bool = False,
        radar_wavelengths: Mapping[str, float] | None = None,
        perception_m: float | None = None,
        pooling: Literal["mean", "cls"] = "mean",
    ) -> None:
        super().__init__(intake)
        if legacy_range is not None and len(legacy_range) != 2:
            raise UsageError("legacy_range: give two wavelengths, [LOW, HIGH] in nanometres")
        low, high = legacy_range or (LOW_NM, HIGH_NM)
        self.width, self.depth, self.pooling = width, depth, pooling
        self.shape = AttentionShape(width, heads, channel_dim, rank, aggregation, pool)
        self.code_settings = CodeSettings(
            kind=codes,
            axis=WavelengthAxis(low, high, wavelength_axis),
            finer=finer_frequencies,
            legacy_positions=legacy_positions,
            radar_wavelengths=radar_wavelengths,
            perception_m=perception_m,
        )
        self.metric = codes == "sum" or perception_m is not None
        self.polarisations = sorted(
            {b.polarisation for items in intake.bands.values() for b in items if b.polarisation}
        )
        self.patch_embed = ChannelEmbed(self.weight_names, width)
        self.pos_chan_embed = PositionChannelCode(
            width, heads, channel_dim, self.code_settings, self.polarisations
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.spatial_cls_token = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.channel_cls_token = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.blocks = nn.ModuleList(
            LessBlock(self.shape, mlp=mlp, mlp_ratio=mlp_ratio, layer_scale=layer_scale or None)
            for _ in range(depth)
        )
        self.norm = norm(width)
        self.apply(_init_weights)
        for token in (self.cls_token, self.spatial_cls_token, self.channel_cls_token):
            nn.init.normal_(token, std=0.02)

    @property
    def weight_names(self) -> list[str]:
        """The kinds of band and patch sizes with weights of their own, such as `optical_16`."""
        names = [
            f"{kind_of(member.modality, member.bands)}_{member.patch}"
            for group in self.groups.values()
            for member in group.members
        ]
        return list(dict.fromkeys(names))

    def takes_other_bands(self, modality: str) -> bool:
        """Any band list does, unless a token group names its bands."""
        return all(
            member.channels is None
            for group in self.groups.values()
            for member in group.members
            if member.modality == modality
        )

    def axis(self, inputs: Inputs) -> Axis:
        """Return the channels and positions of a batch.

        Raises:
            UsageError: modalities on different token grids; radar bands where the model has
                optical ones, or the other way round.
        """
        axis = axis_of(self.groups, self.grids(inputs.pixels), inputs)
        for part in axis.parts:
            if part.weights not in self.patch_embed:
                raise UsageError(
                    f"{part.modality}: {part.kind} bands in patches of {part.patch} px; the model "
                    f"has weights for {', '.join(self.patch_embed)}"
                )
        return axis

    def embed(
        self,
        inputs: Inputs,
        axis: Axis,
        channels: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> tuple[Tensor, Context]:
        """Make coded cells with the class row and column in front.

        Args:
            inputs: the batch.
            axis: its channels and positions, or some of its channels.
            channels: `[B, L]` channels to keep, each sample its own; None keeps all.
            positions: `[B, K]` positions to keep, given when `channels` is.

        Returns:
            `[B, 1 + L, 1 + K, D]`, and the `Context` of the blocks.
        """
        cells, valid = self.patch_embed(inputs, axis, positions, channels)
        codes = self.pos_chan_embed(axis, cells.device)
        if channels is not None and positions is not None:
            codes = codes.take(channels, positions)
        batch, height, width, _ = cells.shape
        row = self.channel_cls_token.expand(batch, 1, width, -1).to(cells.dtype)
        column = self.spatial_cls_token.expand(batch, height, 1, -1).to(cells.dtype)
        first = self.cls_token.expand(batch, 1, 1, -1).to(cells.dtype)
        top = torch.cat([first, row], dim=2)
        x = torch.cat([top, torch.cat([column, cells], dim=2)], dim=1)
        added = codes.added()
        if added is not None:
            x = x + added.to(x.dtype)
        if valid is not None:
            valid = functional.pad(valid, (1, 0, 1, 0))
            valid[:, 0, 1:] = valid[:, 1:, 1:].any(dim=1)
            valid[:, 1:, 0] = valid[:, 1:, 1:].any(dim=2)
            valid[:, 0, 0] = True
        return x, codes.context(valid)

    def trunk(
        self, x: Tensor, context: Context, hidden: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run the blocks and the final norm on cells `[B, C, N, D]` with class row and column.

        Returns:
            `[B, C, N, D]`, and the class row `[B, N - 1, D]` after each block if `hidden`.
        """
        outputs = []
        for block in self.blocks:
            x = block(x, context)
            if hidden:
                outputs.append(x[:, 0, 1:])
        return self.norm(x), tuple(outputs)

    def block_modules(self) -> list[nn.Module]:
        """Return the transformer blocks."""
        return list(self.blocks)

    def _encode(self, inputs: Inputs, hidden: bool) -> Features:
        axis = self.axis(inputs)
        x, context = self.embed(inputs, axis)
        x, outputs = self.trunk(x, context, hidden)
        tokens = x[:, 0, 1:]
        mask = None if context.cells is None else context.cells[:, 0, 1:]
        return Features(
            tokens=tokens,
            pooled=pool(tokens, mask) if self.pooling == "mean" else x[:, 0, 0].float(),
            grid={"+".join(self.grids(inputs.pixels)): axis.grid},
            hidden=outputs,
            mask=mask,
        )


def _init_weights(module: nn.Module) -> None:
    """Xavier-uniform linear layers with zero bias, as `VisionTransformer`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
