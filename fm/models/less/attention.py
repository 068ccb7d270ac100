"""Attention over the grid of channels and positions as a Kronecker product of two attentions.

LESS ViT (arXiv 2503.12843, section on LESS attention; 2605.18541): tokens of a grid of C channels
by N positions are pooled into C channel vectors and N position vectors of low width, each set
attends to itself, and the outer product of the results is the output of every cell. That applies
the operator A_c (x) A_s to a value tensor of rank one at the cost of C^2 + N^2 scores instead of
(C N)^2. Index 0 of both axes is the class row and the class column.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from fm.errors import UsageError
from fm.models.less.rope import Turn, rotate

norm = partial(nn.LayerNorm, eps=1e-6)

AGGREGATIONS = ("sum", "mean")
POOLS = ("low", "full")


@dataclass(frozen=True)
class AttentionShape:
    """The sizes of one attention.

    Attributes:
        width: D.
        heads: h; a head is D / h wide.
        channel_dim: c, the width of a head in the channel branch; the spatial branch has
            D / h / c.
        rank: r, number of Kronecker products, each with its own queries and keys.
        aggregation: `sum` over ranks of one shared value (v1), or `mean` with a value a rank (v2).
        pool: `low` projects tokens first and pools in the low width (published code), `full` pools
            at width D and projects the result (the earlier version).
    """

    width: int
    heads: int
    channel_dim: int = 4
    rank: int = 1
    aggregation: str = "mean"
    pool: str = "low"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("aggregation", self.aggregation, AGGREGATIONS),
            ("pool", self.pool, POOLS),
        ):
            if value not in known:
                raise UsageError(f"{name}={value!r}: give one of {', '.join(known)}")
        if self.rank < 1 or self.heads < 1 or self.channel_dim < 1:
            raise UsageError("rank, heads and channel_dim must be at least 1")
        if self.width % (self.heads * self.channel_dim):
            raise UsageError(
                f"width {self.width} must be a multiple of heads {self.heads} times channel_dim "
                f"{self.channel_dim}"
            )

    @property
    def spatial_dim(self) -> int:
        """The width of a head in the spatial branch."""
        return self.width // self.heads // self.channel_dim


@dataclass(frozen=True)
class Context:
    """What the attentions of all blocks are told about the grid; T counts the class index.

    Attributes:
        channel_turn: `[B or 1, 1, h or 1, C, c / 2]` rotations by wavelength, None without.
        spatial_turn: `[B or 1, 1, h or 1, N, s / 2]` rotations by place.
        near: `[B or 1, N, N]` bool, which positions see each other.
        cells: `[B, C, N]` bool, False for cells without any valid pixel. The class cell of a
            channel or position is True where any cell of it is; the first of all is True.
    """

    channel_turn: Turn | None = None
    spatial_turn: Turn | None = None
    near: Tensor | None = None
    cells: Tensor | None = None

    @property
    def channel_mask(self) -> Tensor | None:
        """Return which channels are seen: `[B, 1, C]`."""
        return None if self.cells is None else self.cells[:, None, :, 0]

    @property
    def spatial_mask(self) -> Tensor | None:
        """Return which positions each position sees: `[B or 1, N, N]` or `[B, 1, N]`."""
        if self.cells is None:
            return self.near
        columns = self.cells[:, None, 0]
        return columns if self.near is None else columns & self.near


class AttentionPool(nn.Module):
    """Multi-head attention with the first token as the only query.

    With one query, keys and values need not be made: the key matrix is folded into the query and
    the value matrix is applied to the mean of the tokens. That is the same function at 2 h w
    operations a token instead of 2 w^2. (The key's bias shifts all scores alike and drops out.)

    Args:
        width: w of the tokens.
        heads: must divide `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """Pool `[..., T, w]` to `[..., w]`; `seen` `[..., T]` bool leaves tokens out."""
        key, value = self.kv.weight.unflatten(0, (2, self.heads, -1))
        query = self.q(x[..., 0, :]).unflatten(-1, (self.heads, -1))
        folded = torch.einsum("...hd,hdw->...hw", query * query.shape[-1] ** -0.5, key)
        scores = folded @ x.transpose(-2, -1)
        if seen is not None:
            # not minus infinity: a row with nothing seen must not give NaN
            scores = scores.masked_fill(~seen[..., None, :], torch.finfo(scores.dtype).min)
        read = scores.softmax(dim=-1).to(x.dtype) @ x
        made = torch.einsum("...hw,hdw->...hd", read, value).flatten(-2)
        return self.proj(made + self.kv.bias[len(self.kv.bias) // 2 :])


class LowDimPool(nn.Module):
    """Channel vectors and position vectors of a grid of tokens."""

    def __init__(self, shape: AttentionShape) -> None:
        super().__init__()
        channel, spatial = shape.channel_dim * shape.heads, shape.spatial_dim * shape.heads
        self.low = shape.pool == "low"
        self.channel_linear = nn.Linear(shape.width, channel)
        self.spatial_linear = nn.Linear(shape.width, spatial)
        if self.low:
            self.channel_norm, self.spatial_norm = norm(channel), norm(spatial)
        else:
            channel = spatial = shape.width
        self.channel_pool = AttentionPool(channel, shape.heads)
        self.spatial_pool = AttentionPool(spatial, shape.heads)

    def forward(self, x: Tensor, cells: Tensor | None) -> tuple[Tensor, Tensor]:
        """Pool `[B, C, N, D]` to `[B, C, c h]` and `[B, N, s h]`; `cells` `[B, C, N]` bool."""
        across = None if cells is None else cells.transpose(1, 2)
        if self.low:
            rows, columns = self.channel_linear(x), self.spatial_linear(x).transpose(1, 2)
            pooled = self.channel_pool(self.channel_norm(rows), cells)
            over = self.spatial_pool(self.spatial_norm(columns), across)
            return rows[:, :, 0] + pooled, columns[:, :, 0] + over
        turned = x.transpose(1, 2)
        rows = self.channel_linear(x[:, :, 0] + self.channel_pool(x, cells))
        return rows, self.spatial_linear(turned[:, :, 0] + self.spatial_pool(turned, across))


class Branch(nn.Module):
    """Self-attention of one axis, r times with queries and keys of their own.

    Args:
        width: of the vectors, a head's width times h.
        heads: h.
        rank: r.
        shared_value: all ranks have one value.
    """

    def __init__(self, width: int, heads: int, rank: int, shared_value: bool) -> None:
        super().__init__()
        self.heads, self.rank = heads, rank
        self.qk = nn.Linear(width, 2 * rank * width)
        self.v = nn.Linear(width, width if shared_value else rank * width)

    def parts(self, x: Tensor, turn: Turn | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotated queries and keys, and values: each `[B, r, h, T, d]`."""
        qk = self.qk(x).unflatten(-1, (2, self.heads, self.rank, -1))
        query, key = qk.permute(2, 0, 4, 3, 1, 5)
        if turn is not None:
            query, key = rotate(query, turn), rotate(key, turn)
        value = self.v(x).unflatten(-1, (self.heads, -1, query.shape[-1])).permute(0, 3, 2, 1, 4)
        return query, key, value.expand(-1, self.rank, -1, -1, -1)

    def forward(self, x: Tensor, turn: Turn | None, seen: Tensor | None) -> Tensor:
        """Attend over `[B, T, w]`: `[B, r, h, T, d]`; `seen` `[B or 1, 1 or T, T]` bool."""
        query, key, value = self.parts(x, turn)
        # ranks and heads are one axis: fused kernels take four dimensions
        made = functional.scaled_dot_product_attention(
            query.flatten(1, 2),
            key.flatten(1, 2),
            value.flatten(1, 2),
            attn_mask=None if seen is None else seen[:, None],
        )
        return made.unflatten(1, (self.rank, self.heads))


class Kronecker(nn.Module):
    """Both branches and their fusion."""

    def __init__(self, shape: AttentionShape) -> None:
        super().__init__()
        self.shape = shape
        shared = shape.aggregation == "sum"
        build = partial(Branch, heads=shape.heads, rank=shape.rank, shared_value=shared)
        self.channel_branch = build(shape.channel_dim * shape.heads)
        self.spatial_branch = build(shape.spatial_dim * shape.heads)
        self.proj = nn.Linear(shape.width, shape.width)

    def forward(self, rows: Tensor, columns: Tensor, context: Context) -> Tensor:
        """Fuse `[B, C, c h]` and `[B, N, s h]` to `[B, C, N, D]`."""
        channel = self.channel_branch(rows, context.channel_turn, context.channel_mask)
        spatial = self.spatial_branch(columns, context.spatial_turn, context.spatial_mask)
        if self.shape.aggregation == "mean":
            channel = channel / self.shape.rank
        return self.fuse(channel, spatial)

    def fuse(self, channel: Tensor, spatial: Tensor) -> Tensor:
        """Project the sum over ranks of outer products.

        A head of cell (c, n) is the sum over ranks of channel[c] (outer) spatial[n], the spatial
        index fastest. Where that is less work, the projection is applied to the spatial side
        first, which leaves r c h instead of D products for each number of the output.

        Args:
            channel: `[B, r, h, C, c]`.
            spatial: `[B, r, h, N, s]`.

        Returns:
            `[B, C, N, D]`.
        """
        shape, count = self.shape, channel.shape[3]
        low = shape.channel_dim * shape.heads
        if shape.rank * (shape.width + count * low) > count * shape.width:
            cells = torch.einsum("brhci,brhnj->bcnhij", channel, spatial)
            return self.proj(cells.flatten(3))
        weight = self.proj.weight.unflatten(1, (shape.heads, shape.channel_dim, -1))
        side = torch.einsum("brhnj,ehij->brhine", spatial, weight)
        rows = channel.permute(0, 3, 1, 2, 4).flatten(2)
        made = rows @ side.flatten(4).flatten(1, 3)
        return made.unflatten(2, (spatial.shape[3], -1)) + self.proj.bias


class LessAttention(nn.Module):
    """Pooling, both branches, fusion; state-dict keys as published (v2)."""

    def __init__(self, shape: AttentionShape) -> None:
        super().__init__()
        self.low_dim_pool = LowDimPool(shape)
        self.channel_norm = norm(shape.channel_dim * shape.heads)
        self.spatial_norm = norm(shape.spatial_dim * shape.heads)
        self.attn = Kronecker(shape)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Attend over `[B, C, N, D]`, class row and column first."""
        rows, columns = self.low_dim_pool(x, context.cells)
        return self.attn(self.channel_norm(rows), self.spatial_norm(columns), context)
