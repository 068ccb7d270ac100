"""One block: LESS attention and an MLP, on every cell or on pooled axes."""

from typing import Literal

import torch
from timm.layers import Mlp
from timm.models.vision_transformer import LayerScale
from torch import Tensor, nn

from fm.errors import UsageError
from fm.models.less.attention import AttentionShape, Context, LessAttention, norm

MLPS = ("tokens", "pooled")


class PooledMlp(nn.Module):
    """The MLP on channel means and position means, whose results every cell adds up.

    The MLP on all C N cells is what makes LESS ViT's cost grow with the bands; on the C + N means
    it is nearly free. The same weights serve both axes. Cells keep what is theirs alone in the
    residual stream, and the attention reads it from there.

    Args:
        width: D.
        ratio: hidden width over D.
    """

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        self.mlp = Mlp(width, int(width * ratio))

    def forward(self, x: Tensor, cells: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return `[B, C, 1, D]` and `[B, 1, N, D]`, which a cell adds up, of `[B, C, N, D]`.

        Means are over valid `cells` `[B, C, N]`.
        """
        if cells is None:
            # the division belongs to the sums: one of the cells would pass over all gradients
            rows, columns = x.sum(dim=2) / x.shape[2], x.sum(dim=1) / x.shape[1]
        else:
            kept = x * cells[..., None]
            rows = kept.sum(dim=2) / cells.sum(dim=2, keepdim=True).clamp(min=1)
            columns = kept.sum(dim=1) / cells.sum(dim=1)[..., None].clamp(min=1)
        made = self.mlp(torch.cat([rows, columns], dim=1))
        over, across = made.split([x.shape[1], x.shape[2]], dim=1)
        return over[:, :, None], across[:, None]


class LessBlock(nn.Module):
    """Pre-norm residual block.

    Args:
        shape: of the attention.
        mlp: `tokens` on every cell (published), `pooled` see `PooledMlp`.
        mlp_ratio: hidden width of the MLP over D.
        layer_scale: initial value of LayerScale; None leaves it out.
    """

    def __init__(
        self,
        shape: AttentionShape,
        *,
        mlp: Literal["tokens", "pooled"] = "tokens",
        mlp_ratio: float = 4.0,
        layer_scale: float | None = 1.0,
    ) -> None:
        super().__init__()
        if mlp not in MLPS:
            raise UsageError(f"mlp={mlp!r}: give one of {', '.join(MLPS)}")

        def scale() -> nn.Module:
            return nn.Identity() if layer_scale is None else LayerScale(shape.width, layer_scale)

        self.norm1, self.norm2 = norm(shape.width), norm(shape.width)
        self.attn = LessAttention(shape)
        self.ls1, self.ls2 = scale(), scale()
        self.mlp: Mlp | PooledMlp
        if mlp == "pooled":
            self.mlp = PooledMlp(shape.width, mlp_ratio)
        else:
            self.mlp = Mlp(shape.width, int(shape.width * mlp_ratio))

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Update cells `[B, C, N, D]`, class row and column first."""
        x = x + self.ls1(self.attn(self.norm1(x), context))
        y = self.norm2(x)
        if isinstance(self.mlp, PooledMlp):
            over, across = self.mlp(y, context.cells)
            return x + (self.ls2(over) + self.ls2(across))
        return x + self.ls2(self.mlp(y))
