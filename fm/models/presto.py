"""Presto: each pixel's series of many sensors is a sequence of its own."""

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from fm.errors import UsageError
from fm.models.backbone import Backbone
from fm.models.band_groups import (
    INDEX,
    grid_of_series,
    group_values,
    present_groups,
    through_blocks,
)
from fm.models.features import Features, pool
from fm.models.inputs import Inputs
from fm.models.intake import Intake
from fm.models.month_and_place import month_codes, month_table, place_token

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
STATIC = "SRTM"
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
        intake: one group of one pixel a token; a group's bands (`GROUPS`) all or none.
        width: D; a quarter of a code tells the month, one the group, half the place in the series.
        depth: number of blocks.
        heads: attention heads.
        mlp_ratio: hidden width of the MLP over D.
        longest: images in the longest series.
    """

    series = True

    def __init__(
        self,
        intake: Intake,
        *,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        longest: int = 24,
    ) -> None:
        super().__init__(intake)
        if len(intake.groups) != 1 or any(m.patch != 1 for m in intake.groups[0].members):
            raise UsageError(
                "Presto makes one token group of single pixels on one grid; put all bands into "
                "one of token_groups, with token_m their sampling distance"
            )
        names = [band.name for items in intake.bands.values() for band in items]
        self.present = present_groups("Presto", GROUPS, names)
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
        name, rows, columns = grid_of_series(self, self.longest, inputs)
        values = group_values(inputs, {group: GROUPS[group] for group in self.present})
        months = month_codes(self.month_embed.weight, inputs)
        tokens, keep = [], []
        for group, embed in self.eo_patch_embed.items():
            if group not in values:
                continue
            own, known = (_series(x, images, rows) for x in values[group])
            index = torch.tensor(list(GROUPS).index(group), device=months.device)
            channel = self.channel_embed(index).expand(*months.shape[:2], -1)
            places = self.pos_embed[:, :images].expand(months.shape[0], -1, -1)
            code = torch.cat([months, channel, places], dim=-1)
            made, there = embed(own), known.all(dim=3)
            if group == STATIC:
                still = torch.zeros_like
                code = torch.cat([still(months), channel, still(places)], dim=-1)[:, :1]
                made, there = made[:, :, :1], there[:, :, :1]
            tokens.append(made + code[:, None])
            keep.append(there)
        if not tokens:
            raise UsageError(f"no whole group of bands is given; Presto's are {', '.join(GROUPS)}")
        seen = torch.cat(keep, dim=2)
        place, placed = place_token(self.latlon_embed, inputs)
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
        # a pixel without any token would have no key at all: it sees all of them, and is their mean
        mask = mask | ~mask.any(dim=1, keepdim=True)
        outputs = [pool(step, mask) for step in through_blocks(self.blocks, x, mask)]
        return [*outputs, self.norm(outputs[-1])]


def _series(x: Tensor, images: int, rows: int) -> Tensor:
    """Lay strips `[B, n, T * H, W]` out as pixels' series `[B, H * W, T, n]`."""
    return x.unflatten(2, (images, rows)).flatten(3).permute(0, 3, 2, 1)


def _places(longest: int, width: int) -> Tensor:
    """Make codes of the place in a series `[1, T, width]`: sines and cosines in turn, base 1000."""
    turn = torch.arange(0, width, 2, dtype=torch.float64) / width
    angles = torch.arange(longest, dtype=torch.float64)[:, None] / 1000.0**turn
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).float()[None]
