"""Presto: each pixel's series of many sensors is a sequence of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from fm.errors import UsageError
from fm.hardware import full_precision
from fm.models.backbone import Backbone
from fm.models.embed.patches import to_physical
from fm.models.features import Features, pool
from fm.models.inputs import Inputs, Scaling
from fm.models.layout import Group
from fm.models.month_and_place import month_codes, month_table, unit_vectors
from fm.normalize import Normalisation
from fm.sensors import Band

GROUPS = {
    "S1": ("VV", "VH"),
    "S2_RGB": ("B02", "B03", "B04"),
    "S2_Red_Edge": ("B05", "B06", "B07"),
    "S2_NIR_10m": ("B08",),
    "S2_NIR_20m": ("B8A",),
    "S2_SWIR": ("B11", "B12"),
    "ERA5": ("temperature_2m", "total_precipitation"),
    "SRTM": ("elevation", "slope"),
    "NDVI": ("B08", "B04"),
}
"""Bands that make one token, in the order of the released file's codes of channels."""
STATIC, INDEX = "SRTM", "NDVI"
CODES = len(GROUPS) + 1
"""One code of channels more: the classes of Dynamic World, which are labels and not taken here."""
AT_ONCE = 4096
"""Pixels whose sequences are encoded together, so that large images fit the memory."""


class Presto(Backbone):
    """Presto (Tseng et al., arXiv 2304.14065) on a series of images of one grid.

    A group of bands (`GROUPS`) of one pixel at one time is a token; beside them stand one of
    elevation and slope and one of the place. A token that lacks a valid value is left out, as are
    groups of modalities that are not given. The vector of a pixel is the normalised mean of its
    tokens; `tokens` are the pixels, one for the whole series, and `pooled` their mean. NDVI is
    computed of red and near infrared in physical units, before their normalisation. Every pixel has
    its image's place; an unknown place has no token, the code of an unknown month is zeros. Keys
    are those of the released encoder.

    Args:
        groups: one group of one pixel a token.
        bands: modality to its bands; a group's bands all or none.
        normalisation: modality to its normalisation, in physical units.
        scaling: modality to (scale, offset) of its stored integers.
        width: D; a quarter of a code tells the month, one the group, half the place in the series.
        depth: number of blocks.
        heads: attention heads.
        mlp_ratio: hidden width of the MLP over D.
        longest: images in the longest series.
        architecture: see `Backbone`.
    """

    series = True

    def __init__(
        self,
        groups: Sequence[Group],
        *,
        bands: Mapping[str, tuple[Band, ...]],
        normalisation: Mapping[str, Normalisation],
        scaling: Scaling,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        longest: int = 24,
        architecture: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            groups,
            bands=bands,
            normalisation=normalisation,
            scaling=scaling,
            architecture=architecture,
        )
        if len(groups) != 1 or any(member.patch != 1 for member in groups[0].members):
            raise UsageError(
                "Presto makes one token group of single pixels on one grid; put all bands into "
                "one of token_groups, with token_m their sampling distance"
            )
        self.present = _present([band.name for items in bands.values() for band in items])
        if width % 8 or width % heads:
            raise UsageError(f"width {width} must be a multiple of 8 and of heads {heads}")
        self.width, self.longest = width, longest
        self.eo_patch_embed = nn.ModuleDict(
            {
                name: nn.Linear(1 if name == INDEX else len(GROUPS[name]), width)
                for name in self.present
            }
        )
        self.latlon_embed = nn.Linear(3, width)
        self.blocks = nn.ModuleList(
            Block(width, heads, mlp_ratio, qkv_bias=True, norm_layer=nn.LayerNorm)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.pos_embed = nn.Parameter(_places(longest, width // 2), requires_grad=False)
        self.month_embed = nn.Embedding.from_pretrained(month_table(width // 4), freeze=True)
        self.channel_embed = nn.Embedding(CODES, width // 4)

    def block_modules(self) -> list[nn.Module]:
        """Return the transformer blocks."""
        return list(self.blocks)

    def _encode(self, inputs: Inputs, hidden: bool) -> Features:
        images = inputs.images
        if images > self.longest:
            raise UsageError(f"series of {images} images, the model knows {self.longest} at most")
        ((name, (rows, columns)),) = self.grids(inputs.pixels).items()
        rows //= images
        values, valid = self._values(inputs, rows)
        months = month_codes(self.month_embed.weight, inputs)
        tokens, keep = [], []
        for group, embed in self.eo_patch_embed.items():
            if group not in values:
                continue
            index = torch.tensor(list(GROUPS).index(group), device=months.device)
            channel = self.channel_embed(index).expand(*months.shape[:2], -1)
            places = self.pos_embed[:, :images].expand(months.shape[0], -1, -1)
            code = torch.cat([months, channel, places], dim=-1)
            made, there = embed(values[group]), valid[group]
            if group == STATIC:
                still = torch.zeros_like
                code = torch.cat([still(months), channel, still(places)], dim=-1)[:, :1]
                made, there = made[:, :, :1], there[:, :, :1]
            tokens.append(made + code[:, None])
            keep.append(there)
        if not tokens:
            raise UsageError(f"no whole group of bands is given; Presto's are {', '.join(GROUPS)}")
        seen = torch.cat(keep, dim=2)
        place, placed = self._place(inputs)
        pixels = rows * columns
        front = place[:, None, None].expand(-1, pixels, 1, -1)
        x = torch.cat([front, *tokens], dim=2).flatten(0, 1)
        mask = torch.cat([placed[:, None, None].expand(-1, pixels, 1), seen], dim=2).flatten(0, 1)
        if torch.compiler.is_compiling():
            # a graph of any batch cannot say how many pieces there will be
            parts = [self._trunk(x, mask)]
        else:
            pieces = zip(x.split(AT_ONCE), mask.split(AT_ONCE), strict=True)
            parts = [self._trunk(*piece) for piece in pieces]
        steps = [torch.cat(step).unflatten(0, (-1, pixels)) for step in zip(*parts, strict=True)]
        told = seen.any(dim=2) if inputs.valid else None
        return Features(
            tokens=steps[-1],
            pooled=pool(steps[-1], told),
            grid={name: (rows, columns)},
            hidden=tuple(steps[:-1]) if hidden else (),
            mask=told,
        )

    def _trunk(self, x: Tensor, mask: Tensor) -> list[Tensor]:
        """Encode sequences `[P, L, D]`: their means `[P, D]` after each block, and normalised."""
        # a pixel without any token would have no key at all: it sees all of them
        mask = mask | ~mask.any(dim=1, keepdim=True)
        outputs = []
        for block in self.blocks:
            x = block(x, attn_mask=mask[:, None, None])
            outputs.append(pool(x, mask))
        return [*outputs, self.norm(outputs[-1])]

    def _values(self, inputs: Inputs, rows: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return each group's values `[B, P, T, n]` and where all of them are valid `[B, P, T]`."""
        bands: dict[str, Tensor] = {}
        raw: dict[str, Tensor] = {}
        there: dict[str, Tensor] = {}
        for modality, x in inputs.pixels.items():
            with full_precision(x.device):
                physical = to_physical(x, *inputs.scaling[modality])
                made = inputs.normalisation[modality](physical, band_axis=1)
            mask = (inputs.valid or {}).get(modality)
            mask = torch.ones_like(made, dtype=torch.bool) if mask is None else mask
            mask = (mask[:, None] if mask.ndim == 3 else mask).expand_as(made)
            made, physical = torch.where(mask, made, 0.0), torch.where(mask, physical, 0.0)
            for number, band in enumerate(inputs.bands[modality]):
                bands[band.name] = _series(made[:, number], inputs.images, rows)
                raw[band.name] = _series(physical[:, number], inputs.images, rows)
                there[band.name] = _series(mask[:, number], inputs.images, rows)
        values, valid = {}, {}
        for group in self.present:
            names = GROUPS[group]
            if not all(name in bands for name in names):
                continue
            own = [bands[name] for name in names]
            if group == INDEX:
                near, red = (raw[name] for name in names)
                total = near + red
                share = (near - red) / torch.where(total > 0, total, 1.0)
                own = [torch.where(total > 0, share, 0.0)]
            values[group] = torch.stack(own, dim=-1)
            valid[group] = torch.stack([there[name] for name in names]).all(dim=0)
        return values, valid

    def _place(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Return the token of the place `[B, D]` and of which samples it is known `[B]`."""
        weight = self.latlon_embed.weight
        if inputs.lonlat is None:
            known = torch.zeros(inputs.size, dtype=torch.bool, device=weight.device)
            return weight.new_zeros(inputs.size, self.width), known
        place, known = unit_vectors(inputs.lonlat.to(weight.device))
        return self.latlon_embed(place.to(weight.dtype)), known


def _present(names: Sequence[str]) -> list[str]:
    """Return the groups whose bands are there.

    Raises:
        UsageError: a band of none, twice, or a group of which a part is there.
    """
    known = {name for group in GROUPS.values() for name in group}
    if wrong := [name for name in names if name not in known]:
        raise UsageError(f"Presto has no band {wrong[0]}; it has {', '.join(sorted(known))}")
    if len(set(names)) < len(names):
        raise UsageError("Presto takes each band once; a name is in two modalities")
    present = []
    for group, own in GROUPS.items():
        missing = [name for name in own if name not in names]
        if missing and len(missing) < len(own) and group != INDEX:
            raise UsageError(
                f"Presto's {group} is {', '.join(own)}; {', '.join(missing)} is missing"
            )
        if not missing:
            present.append(group)
    return present


def _series(x: Tensor, images: int, rows: int) -> Tensor:
    """Lay strips `[B, T * H, W]` out as pixels' series `[B, H * W, T]`."""
    return x.unflatten(1, (images, rows)).flatten(2).mT


def _places(longest: int, width: int) -> Tensor:
    """Make codes of the place in a series `[1, T, width]`: sines and cosines in turn, base 1000."""
    turn = torch.arange(0, width, 2, dtype=torch.float64) / width
    angles = torch.arange(longest, dtype=torch.float64)[:, None] / 1000.0**turn
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).float()[None]
