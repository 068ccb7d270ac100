"""The Vision Transformer trunk and what a user calls: `encode`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from fm.errors import UsageError
from fm.models.layout import Group
from fm.models.patch_embed import PatchEmbed
from fm.models.positions import sincos_2d
from fm.normalize import Normalisation
from fm.sensors import Band

if TYPE_CHECKING:
    from fm.card import Card

Scaling = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Features:
    """What a model says about a batch.

    Attributes:
        tokens: `[B, N, D]`, the groups one after the other, row-major inside a group.
        pooled: `[B, D]`, the mean of the valid tokens.
        grid: group to its token grid (rows, columns), in the order of `tokens`.
        hidden: the tokens after each block, when asked for.
        mask: `[B, N]` bool, False for tokens that had no valid pixel; None when all are valid.
    """

    tokens: Tensor
    pooled: Tensor
    grid: dict[str, tuple[int, int]]
    hidden: tuple[Tensor, ...] = ()
    mask: Tensor | None = None


class VisionTransformer(nn.Module):
    """A ViT (Dosovitskiy et al., arXiv 2010.11929) on native-grid tokens.

    The trunk's state-dict keys are timm's (`cls_token`, `blocks.{i}...`, `norm`). Positions are
    fixed 2-D sine-cosine codes of the token grid (He et al., arXiv 2111.06377, appendix A), made
    for whatever grid comes in. A learned code tells the groups apart when there are several.

    Args:
        groups: the token groups, see `fm.models.layout`.
        tokenizers: group to `"linear"` or `"spectral_adapter"`.
        normalisation: modality to its normalisation, in physical units.
        scaling: modality to (scale, offset) of its stored integers.
        width: D.
        depth: number of blocks.
        heads: attention heads; must divide `width`.
        mlp_ratio: hidden width of the MLP over D.
        architecture: the arguments of `fm.create_model`, stored in the card.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        *,
        tokenizers: Mapping[str, str],
        normalisation: Mapping[str, Normalisation],
        scaling: Scaling,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        architecture: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if width % heads or width % 4:
            raise UsageError(f"width {width} must be a multiple of 4 and of heads {heads}")
        self.groups = {group.name: group for group in groups}
        self.width, self.depth = width, depth
        self.architecture = dict(architecture or {})
        self.card: Card | None = None
        self.patch_embed = nn.ModuleDict(
            {
                g.name: PatchEmbed(g, width, tokenizers[g.name], normalisation, scaling)
                for g in groups
            }
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.group_embed = nn.ParameterDict()
        if len(self.groups) > 1:
            self.group_embed.update(
                {name: nn.Parameter(torch.zeros(1, 1, width)) for name in self.groups}
            )
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.ModuleList(
            Block(width, heads, mlp_ratio, qkv_bias=True, norm_layer=norm) for _ in range(depth)
        )
        self.norm = norm(width)
        self.apply(_init_weights)
        nn.init.normal_(self.cls_token, std=0.02)
        for code in self.group_embed.values():
            nn.init.normal_(code, std=0.02)

    @property
    def bands(self) -> dict[str, tuple[Band, ...]]:
        """Modality to the bands the model takes, in channel order."""
        return {m.modality: m.bands for g in self.groups.values() for m in g.members}

    @property
    def normalisation(self) -> dict[str, Normalisation]:
        """Modality to its normalisation (physical units)."""
        return {k: v for g in self.groups for k, v in self.embedding(g).normalisation.items()}

    @property
    def scaling(self) -> dict[str, tuple[float, float]]:
        """Modality to (scale, offset) of stored integers."""
        return {k: v for g in self.groups for k, v in self.embedding(g).scaling.items()}

    def embedding(self, group: str) -> PatchEmbed:
        """Return what makes the tokens of a group."""
        return cast(PatchEmbed, self.patch_embed[group])

    def grids(self, pixels: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
        """Return the token grid of each group that is present.

        Raises:
            UsageError: a modality the model does not know, no known one, or sizes that do not
                fit its tokens.
        """
        unknown = sorted(set(pixels) - set(self.bands))
        if unknown:
            raise UsageError(
                f"the model does not take {', '.join(unknown)}; it takes {', '.join(self.bands)}"
            )
        grids = {name: group.grid(pixels) for name, group in self.groups.items()}
        present = {name: grid for name, grid in grids.items() if grid is not None}
        if not present:
            raise UsageError(f"no pixels given; the model takes {', '.join(self.bands)}")
        return present

    def embed(
        self,
        pixels: Mapping[str, Tensor],
        keep: Mapping[str, Tensor] | None = None,
        valid: Mapping[str, Tensor] | None = None,
        scaling: Scaling | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Make positioned tokens of all groups.

        Args:
            pixels: modality to `[B, C, H, W]`.
            keep: group to `[B, K]` tokens to keep; None keeps all.
            valid: modality to `[B, H, W]` bool.
            scaling: overrides of the model's own.

        Returns:
            tokens `[B, sum K, D]` and validity `[B, sum K]` (or None).
        """
        tokens, masks = [], []
        for name, grid in self.grids(pixels).items():
            index = keep[name] if keep is not None else None
            made, mask = self.embedding(name)(pixels, index, valid, scaling)
            code = sincos_2d(self.width, *grid, device=made.device).to(made.dtype)
            made = made + (code[index] if index is not None else code)
            if name in self.group_embed:
                made = made + self.group_embed[name]
            if mask is None:
                mask = torch.ones(made.shape[:2], dtype=torch.bool, device=made.device)
            tokens.append(made)
            masks.append(mask)
        return torch.cat(tokens, dim=1), torch.cat(masks, dim=1) if valid else None

    def trunk(
        self, tokens: Tensor, mask: Tensor | None = None, hidden: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run the blocks.

        Args:
            tokens: `[B, N, D]`.
            mask: `[B, N]` bool; False tokens are seen by no other token.
            hidden: also return the output of each block.

        Returns:
            `[B, 1 + N, D]` after the final norm, the class token first, and the hidden outputs.
        """
        x = torch.cat([self.cls_token.expand(len(tokens), -1, -1).to(tokens.dtype), tokens], dim=1)
        attend = None
        if mask is not None:
            attend = torch.cat([mask.new_ones(len(mask), 1), mask], dim=1)[:, None, None, :]
        outputs = []
        for block in self.blocks:
            x = block(x, attn_mask=attend)
            if hidden:
                outputs.append(x)
        return self.norm(x), tuple(outputs)

    def encode(
        self,
        pixels: Mapping[str, Tensor],
        *,
        bands: Mapping[str, Sequence[Band | str]] | None = None,
        valid: Mapping[str, Tensor] | None = None,
        lonlat: Tensor | None = None,
        time: Tensor | None = None,
        gsd: Mapping[str, float] | None = None,
        scaling: Scaling | None = None,
        hidden: bool = False,
    ) -> Features:
        """Encode images.

        Args:
            pixels: modality to `[B, C, H, W]`. Integer tensors are stored numbers and are scaled
                with the model's (or the given) scale and offset; floating ones are physical
                already (reflectance as a fraction, dB).
            bands: modality to the bands of the channels as given; they are put into the model's
                order by name. None says that they are in the model's order.
            valid: modality to `[B, H, W]` bool; invalid pixels are not used and tokens without a
                valid pixel are left out of attention and pooling.
            lonlat: `[B, 2]` degrees; this architecture does not use it.
            time: `[B]` seconds since 1970 UTC; this architecture does not use it.
            gsd: modality to metres; must be the model's own when given.
            scaling: modality to (scale, offset) of integer pixels, where it is not the model's.
            hidden: also return the tokens after each block.

        Raises:
            UsageError: modalities, bands, sizes or sampling distance do not fit the model.
        """
        del lonlat, time
        self._check_gsd(gsd)
        pixels = self._in_order(pixels, bands)
        grid = self.grids(pixels)
        tokens, mask = self.embed(pixels, valid=valid, scaling=scaling)
        out, outputs = self.trunk(tokens, mask, hidden)
        return Features(
            tokens=out[:, 1:],
            pooled=pool(out[:, 1:], mask),
            grid=grid,
            hidden=tuple(x[:, 1:] for x in outputs),
            mask=mask,
        )

    def forward(self, pixels: Mapping[str, Tensor], **options: Any) -> Features:
        """Same as `encode`."""
        return self.encode(pixels, **options)

    def _check_gsd(self, gsd: Mapping[str, float] | None) -> None:
        for modality, metres in (gsd or {}).items():
            own = {band.gsd_m for band in self.bands.get(modality, ())}
            if own and own != {metres}:
                raise UsageError(
                    f"{modality}: pixels of {metres:g} m, the model takes {own.pop():g} m; "
                    f"resample them first"
                )

    def _in_order(
        self, pixels: Mapping[str, Tensor], bands: Mapping[str, Sequence[Band | str]] | None
    ) -> dict[str, Tensor]:
        result = dict(pixels)
        for modality, given in (bands or {}).items():
            if modality not in self.bands or modality not in pixels:
                continue
            have = [band if isinstance(band, str) else band.name for band in given]
            want = [band.name for band in self.bands[modality]]
            if have == want:
                continue
            if len(set(have)) != len(have) or len(have) != pixels[modality].shape[1]:
                raise UsageError(
                    f"{modality}: {pixels[modality].shape[1]} channels with the band list "
                    f"{', '.join(have)}; name each channel once"
                )
            missing = [name for name in want if name not in have]
            extra = [name for name in have if name not in want]
            if missing or extra:
                raise UsageError(
                    f"{modality}: the bands do not match the model's: "
                    f"missing {', '.join(missing) or 'none'}; "
                    f"not known {', '.join(extra) or 'none'}; "
                    f"give the model's bands or adapt it with fm.adapt.to_bands"
                )
            order = [have.index(name) for name in want]
            result[modality] = pixels[modality][:, order]
        return result


def pool(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Average tokens `[B, N, D]` over the valid ones (mask `[B, N]`), in float32: `[B, D]`.

    A sample without any valid token pools to zeros.
    """
    tokens = tokens.float()
    if mask is None:
        return tokens.mean(dim=1)
    weight = mask.float()[..., None]
    return (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def _init_weights(module: nn.Module) -> None:
    """Xavier-uniform linear layers with zero bias, as MAE's reference initialisation."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
