"""CROMA: a radar encoder, an optical one, and one that joins them by cross-attention."""

import math
from typing import cast

import torch
from torch import Tensor, nn

from fm.errors import UsageError
from fm.models.backbone import Backbone
from fm.models.embed import PatchEmbed
from fm.models.features import Features, pool
from fm.models.inputs import Inputs
from fm.models.intake import Intake
from fm.models.layout import Group

RADAR, OPTICAL = "s1", "s2"


class Croma(Backbone):
    """CROMA (Fuller et al., arXiv 2311.00566, section 3) on native-grid tokens.

    Tokens have no position code; attention is biased by the distance of two tokens (2-D ALiBi),
    so any grid may come in. The radar and the joint encoder have half the optical one's blocks.
    Keys are those of the released files, but for the patch projection.

    With both sensors, the tokens at radar's places are those of the joint encoder (radar that has
    seen the optical image), and `pooled` is their mean; with one, both are that encoder's own.

    Args:
        intake: one group of radar bands (they have a polarisation), one of optical bands, or
            either.
        width: D.
        depth: blocks of the optical encoder, even.
        heads: attention heads, a power of 2 (the slopes of the distance bias).
        mlp_ratio: hidden width of the MLP over D.

    Raises:
        UsageError: two groups of one kind, a group of both, or sizes that do not fit.
    """

    def __init__(
        self,
        intake: Intake,
        *,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
    ) -> None:
        super().__init__(intake)
        if heads < 1 or heads & (heads - 1) or width % heads or depth < 2 or depth % 2:
            raise UsageError(
                f"CROMA needs heads a power of 2 that divides width, and an even depth; got "
                f"{heads} heads, width {width}, depth {depth}"
            )
        self.width, self.depth, self.heads = width, depth, heads
        self.role = {_role(group): group.name for group in intake.groups}
        if len(self.role) != len(intake.groups):
            raise UsageError(
                f"CROMA takes one group of radar bands and one of optical; got "
                f"{', '.join(self.groups)}"
            )
        self.patch_embed = nn.ModuleDict(
            {g.name: PatchEmbed(g, width, "linear") for g in intake.groups}
        )
        sizes = width, heads, mlp_ratio
        if RADAR in self.role:
            self.s1_encoder = _Encoder(*sizes, depth // 2)
            self.s1_GAP_FFN = _Pooled(width, mlp_ratio)
        if OPTICAL in self.role:
            self.s2_encoder = _Encoder(*sizes, depth)
            self.s2_GAP_FFN = _Pooled(width, mlp_ratio)
        if len(self.role) == 2:
            self.joint_encoder = _Blocks(*sizes, depth // 2, cross=True)

    def block_modules(self) -> list[nn.Module]:
        """Return the attentions and MLPs, of which the blocks are lists."""
        return [module for module in self.modules() if isinstance(module, _Attention | _MLP)]

    def _encode(self, inputs: Inputs, hidden: bool) -> Features:
        grids = self.grids(inputs.pixels)
        if any(grid != next(iter(grids.values())) for grid in grids.values()):
            raise UsageError(f"the sensors must cover the same tokens; got {grids}")
        tokens: dict[str, Tensor] = {}
        masks: dict[str, Tensor | None] = {}
        layers: dict[str, list[Tensor]] = {}
        pooled = None
        for role, name in self.role.items():
            if name not in grids:
                continue
            made, mask = self.patch_embed[name](inputs)
            bias = distance_bias(grids[name], self.heads, made.device)
            encoder = self.s1_encoder if role == RADAR else self.s2_encoder
            out, layers[name] = encoder.transformer(made, _masked(bias, mask))
            head = self.s1_GAP_FFN if role == RADAR else self.s2_GAP_FFN
            pooled = head(pool(out, mask))
            tokens[name], masks[name] = out, mask
        if len(tokens) == 2:
            radar, optical = (self.role[role] for role in (RADAR, OPTICAL))
            joined, steps = self.joint_encoder(
                tokens[radar],
                _masked(bias, masks[radar]),
                tokens[optical],
                _masked(bias, masks[optical]),
            )
            pooled = pool(joined, masks[radar])
            tokens[radar], layers[radar] = joined, steps
            layers[optical] = layers[optical][1::2]
        assert pooled is not None, "grids refuses a batch without pixels"
        mask = None
        if inputs.valid:
            mask = torch.cat([_full(masks[name], tokens[name]) for name in grids], dim=1)
        steps = [torch.cat(step, dim=1) for step in zip(*(layers[n] for n in grids), strict=True)]
        return Features(
            tokens=torch.cat([tokens[name] for name in grids], dim=1),
            pooled=pooled.float(),
            grid=grids,
            hidden=tuple(steps) if hidden else (),
            mask=mask,
        )


def distance_bias(grid: tuple[int, int], heads: int, device: torch.device | None = None) -> Tensor:
    """Make the bias of attention scores: minus the distance of two tokens times a head's slope.

    Two-dimensional ALiBi (arXiv 2311.00566, section 3.2): distances in tokens, slopes the geometric
    sequence of Press et al. (arXiv 2108.12409) from 2^(-8/heads).

    Returns:
        `[1, heads, N, N]` float32, tokens row-major.
    """
    rows, columns = grid
    place = torch.cartesian_prod(
        torch.arange(rows, dtype=torch.float64, device=device),
        torch.arange(columns, dtype=torch.float64, device=device),
    ).reshape(-1, 2)
    first = 2.0 ** (-8.0 / heads)
    slopes = torch.tensor([first ** (i + 1) for i in range(heads)], device=device)
    distance = (place[:, None] - place[None]).square().sum(dim=-1).sqrt()
    return -(slopes.double()[:, None, None] * distance).float()[None]


def _role(group: Group) -> str:
    kinds = {band.polarisation is not None for member in group.members for band in member.bands}
    if len(kinds) > 1:
        raise UsageError(f"{group.name}: radar and optical bands in one group; split them")
    return RADAR if kinds.pop() else OPTICAL


def _masked(bias: Tensor, mask: Tensor | None) -> Tensor:
    """Add that invalid tokens `[B, N]` are seen by none."""
    if mask is None:
        return bias
    hidden = torch.where(mask, 0.0, -math.inf)[:, None, None, :]
    # a sample without any valid token would have no key at all: it sees all of them
    return bias + torch.where(mask.any(dim=1)[:, None, None, None], hidden, 0.0)


def _full(mask: Tensor | None, tokens: Tensor) -> Tensor:
    if mask is None:
        return torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    return mask


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, cross: bool = False) -> None:
        super().__init__()
        self.heads = heads
        if cross:
            self.to_q = nn.Linear(width, width, bias=False)
            self.to_k = nn.Linear(width, width, bias=False)
            self.to_v = nn.Linear(width, width, bias=False)
        else:
            self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Linear(width, width)
        self.input_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, bias: Tensor, context: Tensor | None = None) -> Tensor:
        x = self.input_norm(x)
        if context is None:
            parts = self.to_qkv(x).chunk(3, dim=-1)
        else:
            context = self.input_norm(context)
            parts = self.to_q(x), self.to_k(context), self.to_v(context)
        query, key, value = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in parts)
        seen = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias.to(query.dtype)
        )
        return self.to_out(seen.transpose(1, 2).flatten(2))


class _MLP(nn.Module):
    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        inside = int(width * ratio)
        # the released keys count a dropout at place 2
        layers = nn.Linear(width, inside), nn.GELU(), nn.Identity(), nn.Linear(inside, width)
        self.net = nn.Sequential(*layers)
        self.input_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.input_norm(x))


class _Blocks(nn.Module):
    def __init__(
        self, width: int, heads: int, ratio: float, depth: int, cross: bool = False
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for _ in range(depth):
            parts: list[nn.Module] = [_Attention(width, heads)]
            if cross:
                parts.append(_Attention(width, heads, cross=True))
            self.layers.append(nn.ModuleList([*parts, _MLP(width, ratio)]))
        self.norm_out = nn.LayerNorm(width)

    def forward(
        self,
        x: Tensor,
        bias: Tensor,
        context: Tensor | None = None,
        context_bias: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        outputs = []
        for layer in self.layers:
            attention, *cross, mlp = cast(nn.ModuleList, layer)
            x = x + attention(x, bias)
            for part in cross:
                x = x + part(x, context_bias, context)
            x = x + mlp(x)
            outputs.append(x)
        return self.norm_out(x), outputs


class _Encoder(nn.Module):
    def __init__(self, width: int, heads: int, ratio: float, depth: int) -> None:
        super().__init__()
        self.transformer = _Blocks(width, heads, ratio, depth)


class _Pooled(nn.Sequential):
    def __init__(self, width: int, ratio: float) -> None:
        inside = int(width * ratio)
        super().__init__(
            nn.LayerNorm(width), nn.Linear(width, inside), nn.GELU(), nn.Linear(inside, width)
        )
