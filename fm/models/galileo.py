"""Galileo: tokens of groups of bands over space and time, over space, over time and of neither."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional

from fm.errors import UsageError
from fm.models.backbone import Backbone
from fm.models.band_groups import (
    INDEX,
    grid_of_series,
    group_values,
    present_groups,
    through_blocks,
)
from fm.models.embed.patch_size import resize_matrix
from fm.models.embed.patches import fill_invalid, gather_patches
from fm.models.features import Features, pool
from fm.models.inputs import Inputs
from fm.models.intake import Intake
from fm.models.month_and_place import month_codes, month_table, place_token
from fm.models.positions import crossed

WORLD = (
    "DW_water",
    "DW_trees",
    "DW_grass",
    "DW_flooded_vegetation",
    "DW_crops",
    "DW_shrub_and_scrub",
    "DW_built",
    "DW_bare",
    "DW_snow_and_ice",
)
"""Shares of the classes of Dynamic World."""
CROPS = (
    "WC_temporarycrops",
    "WC_maize",
    "WC_wintercereals",
    "WC_springcereals",
    "WC_irrigation",
)
"""Maps of WorldCereal."""
GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "space_time": {
        "S1": ("VV", "VH"),
        "S2_RGB": ("B02", "B03", "B04"),
        "S2_Red_Edge": ("B05", "B06", "B07"),
        "S2_NIR_10m": ("B08",),
        "S2_NIR_20m": ("B8A",),
        "S2_SWIR": ("B11", "B12"),
        "NDVI": ("B08", "B04"),
    },
    "space": {"SRTM": ("elevation", "slope"), "DW": WORLD, "WC": CROPS},
    "time": {
        "ERA5": ("temperature_2m", "total_precipitation"),
        "TC": ("def", "soil", "aet"),
        "VIIRS": ("avg_rad",),
    },
    "static": {
        "LS": ("population",),
        "location": ("x", "y", "z"),
        "DW_static": tuple(f"{name}_static" for name in WORLD),
        "WC_static": tuple(f"{name}_static" for name in CROPS),
    },
}
"""Kind to its groups, in the order of the released codes of channels, and each one's bands."""
PLACE = "location"
CHANNELS = {"space_time": "s_t", "space": "sp", "time": "t", "static": "st"}
REFERENCE_M = 10.0
"""Ground, in metres, that the distance 1 of the codes of places is."""


class Galileo(Backbone):
    """Galileo's encoder (Tseng et al., arXiv 2502.09356) on a series of images of one grid.

    A group of bands (`GROUPS`) makes a token of each patch and image (`space_time`), of each patch
    (`space`, from the first image), of each image (`time`, from the mean of its pixels) or one of
    all (`static`, likewise of the first image). Groups that are not given have no tokens; a token
    one of whose bands has no valid pixel is left out; the other invalid pixels count as the mean of
    the token's valid ones. NDVI is computed of the red and near infrared that come in, not of the
    normalised ones, and `location` of longitude and latitude.

    `tokens` are the patches, one for the whole series: the mean of all that is known of one, its
    own tokens and those of the images and of all. `pooled` is the mean of all tokens. Both are the
    authors'. Keys are those of the released encoder; the kernels keep their size and are fitted to
    the patch by FlexiViT's resize of a bicubic image.

    Args:
        intake: one group of one grid; a group's bands (`GROUPS`) all or none.
        width: D; a quarter of a code tells the group, one the place in the series, one the month,
            one the place in the image, which is the ground it stands for.
        depth: number of blocks.
        heads: attention heads.
        mlp_ratio: hidden width of the MLP over D.
        kernel: side in pixels of the kernels as they are stored.
        longest: images in the longest series.
    """

    metric = True
    series = True
    fit: Tensor | None

    def __init__(
        self,
        intake: Intake,
        *,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        kernel: int = 8,
        longest: int = 24,
    ) -> None:
        super().__init__(intake)
        patches = {member.patch for group in intake.groups for member in group.members}
        if len(intake.groups) != 1 or len(patches) != 1:
            raise UsageError(
                "Galileo makes one token group of one grid; put all bands into one of token_groups "
                "and on one sampling distance"
            )
        self.present = _present([band.name for items in intake.bands.values() for band in items])
        if width % 16 or width % heads:
            raise UsageError(f"width {width} must be a multiple of 16 and of heads {heads}")
        self.width, self.longest, self.quarter = width, longest, width // 4
        (self.patch,) = patches
        for kind, names in self.present.items():
            embeds: dict[str, nn.Module] = {}
            for name in names:
                count = 1 if name == INDEX else len(GROUPS[kind][name])
                if kind.startswith("space"):
                    proj = nn.Conv2d(count, width, kernel, stride=kernel)
                    embeds[name] = nn.ModuleDict({"proj": proj})
                else:
                    embeds[name] = nn.Linear(count, width)
            setattr(self, f"{kind}_embed", nn.ModuleDict(embeds))
            codes = torch.zeros(len(GROUPS[kind]), self.quarter)
            setattr(self, f"{CHANNELS[kind]}_channel_embed", nn.Parameter(codes))
        self.pos_embed = nn.Parameter(
            _waves(self.quarter, torch.arange(longest)), requires_grad=False
        )
        self.month_embed = nn.Embedding.from_pretrained(month_table(self.quarter), freeze=True)
        self.blocks = nn.ModuleList(_block(width, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        fit = None
        if self.patch != kernel and not self.norm.weight.is_meta:  # numpy knows no meta device
            matrix = torch.from_numpy(resize_matrix(kernel, self.patch, "bicubic"))
            fit = torch.linalg.pinv(matrix).float()
        self.register_buffer("fit", fit, persistent=False)

    def block_modules(self) -> list[nn.Module]:
        """Return the transformer blocks."""
        return list(self.blocks)

    def _encode(self, inputs: Inputs, hidden: bool) -> Features:
        images = inputs.images
        name, rows, columns = grid_of_series(self, self.longest, inputs)
        values = self._values(inputs)
        codes = self._codes(inputs, rows, columns)
        made: list[Tensor] = []
        known: list[Tensor] = []
        kinds: list[str] = []
        for kind, names in self.present.items():
            table = getattr(self, f"{CHANNELS[kind]}_channel_embed")
            for group in names:
                if group == PLACE:
                    found = self._place(inputs)
                elif group in values:
                    found = self._embed(kind, group, *values[group], images)
                else:
                    continue
                x, keep = found
                channel = table[list(GROUPS[kind]).index(group)].expand(*codes[kind].shape[:3], -1)
                made.append(x + torch.cat([channel, codes[kind]], dim=-1))
                known.append(keep)
                kinds.append(kind)
        if set(kinds) <= {"static"}:
            raise UsageError(
                "no whole group of bands is given; Galileo's are "
                + ", ".join(group for kind in GROUPS.values() for group in kind)
            )
        sizes = [keep.shape[1:] for keep in known]
        mask = torch.cat([keep.flatten(1) for keep in known], dim=1)
        x = torch.cat([x.flatten(1, 2) for x in made], dim=1)
        steps = list(through_blocks(self.blocks, x, mask))
        steps.append(self.norm(steps[-1]))
        seen = mask.new_zeros(mask.shape[0], rows * columns)
        for kind, keep in zip(kinds, known, strict=True):
            if kind.startswith("space"):
                seen = seen | keep.any(dim=1)
        maps = [_by_patch(step, mask, sizes, rows * columns) for step in steps]
        return Features(
            tokens=maps[-1],
            pooled=pool(steps[-1], mask),
            grid={name: (rows, columns)},
            hidden=tuple(maps[:-1]) if hidden else (),
            mask=seen if inputs.valid else None,
        )

    def _embed(
        self, kind: str, group: str, x: Tensor, mask: Tensor, images: int
    ) -> tuple[Tensor, Tensor]:
        """Make a group's tokens of `[B, n, T * H, W]`.

        Returns:
            `[B, T or 1, P or 1, D]` and `[B, T or 1, P or 1]`, which of them are known.
        """
        layer = getattr(self, f"{kind}_embed")[group]
        if kind.startswith("space"):
            cut = gather_patches(x, self.patch, None)
            there = gather_patches(mask, self.patch, None)
            weight = layer["proj"].weight
            if self.fit is not None:
                weight = torch.einsum("dcij,ia,jb->dcab", weight, self.fit, self.fit)
            flat = fill_invalid(cut, there).flatten(2)
            made = functional.linear(flat, weight.flatten(1), layer["proj"].bias)
            keep = there.flatten(3).any(dim=3).all(dim=2)
            made, keep = made.unflatten(1, (images, -1)), keep.unflatten(1, (images, -1))
        else:
            x = x.unflatten(2, (images, -1)).transpose(1, 2).flatten(3)
            there = mask.unflatten(2, (images, -1)).transpose(1, 2).flatten(3)
            mean = torch.where(there, x, 0.0).sum(dim=3) / there.sum(dim=3).clamp(min=1)
            made, keep = layer(mean)[:, :, None], there.any(dim=3).all(dim=2)[:, :, None]
        return (made, keep) if kind.endswith("time") else (made[:, :1], keep[:, :1])

    def _values(self, inputs: Inputs) -> dict[str, tuple[Tensor, Tensor]]:
        """Return each group's values and where they are valid, `[B, n, T * H, W]`."""
        mapped = {
            group: GROUPS[kind][group]
            for kind, names in self.present.items()
            for group in names
            if group != PLACE
        }
        return group_values(inputs, mapped)

    def _codes(self, inputs: Inputs, rows: int, columns: int) -> dict[str, Tensor]:
        """Return what is told beside the group, of each kind `[B, T or 1, P or 1, 3 D / 4]`."""
        order = self.pos_embed[: inputs.images].expand(inputs.size, -1, -1)
        months = month_codes(self.month_embed.weight, inputs)
        series = torch.cat([order, months], dim=-1)[:, :, None]
        row, column = crossed(
            torch.arange(rows, device=series.device), torch.arange(columns, device=series.device)
        )
        half, step = self.quarter // 2, self._step(inputs)
        places = torch.cat([_waves(half, x * step) for x in (column, row)], dim=-1)
        place = places.to(series)[None, None].expand(inputs.size, 1, -1, -1)
        shape = (-1, inputs.images, rows * columns, -1)
        still = torch.zeros_like
        first, corner = still(series[:, :1]), still(place[:, :, :1])
        return {
            "space_time": torch.cat([series.expand(shape), place.expand(shape)], dim=-1),
            "space": torch.cat([first.expand(-1, -1, rows * columns, -1), place], dim=-1),
            "time": torch.cat([series, corner.expand(-1, inputs.images, -1, -1)], dim=-1),
            "static": torch.cat([first, corner], dim=-1),
        }

    def _step(self, inputs: Inputs) -> float:
        """Return the distance of neighbouring tokens over `REFERENCE_M`."""
        steps = []
        for modality in inputs.pixels:
            own = self.bands[modality][0].gsd_m
            steps.append(self.patch * (inputs.gsd or {}).get(modality, own) / REFERENCE_M)
        if max(steps) - min(steps) > 1e-6 * max(steps):
            raise UsageError("the given gsd of Galileo's modalities disagree; scale all alike")
        return steps[0]

    def _place(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Return the token of the place `[B, 1, 1, D]` and where it is known `[B, 1, 1]`."""
        layer = cast(nn.Linear, self.get_submodule(f"static_embed.{PLACE}"))
        made, known = place_token(layer, inputs)
        return made[:, None, None], known[:, None, None]


class _Attention(nn.Module):
    """Attention whose queries, keys and values are three layers, as the released keys say."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, **_: Any) -> Tensor:
        parts = (layer(x).unflatten(2, (self.heads, -1)) for layer in (self.q, self.k, self.v))
        q, k, v = (part.transpose(1, 2) for part in parts)
        made = functional.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        out: Tensor = self.proj(made.transpose(1, 2).flatten(2))
        return out


def _block(width: int, heads: int, mlp_ratio: float) -> nn.Module:
    block = Block(width, heads, mlp_ratio, qkv_bias=True, norm_layer=nn.LayerNorm)
    block.attn = _Attention(width, heads)
    return block


def _present(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the groups of each kind whose bands are there; the place always is."""
    mapped = {
        group: own for kind in GROUPS.values() for group, own in kind.items() if group != PLACE
    }
    found = {PLACE, *present_groups("Galileo", mapped, names)}
    return {kind: [group for group in groups if group in found] for kind, groups in GROUPS.items()}


def _by_patch(x: Tensor, mask: Tensor, sizes: Sequence[Sequence[int]], patches: int) -> Tensor:
    """Average what is known of each patch: tokens `[B, N, D]` of groups of some sizes (T, P)."""
    total, count = x.new_zeros(()), x.new_zeros(())
    lengths = [size[0] * size[1] for size in sizes]
    parts = zip(sizes, x.float().split(lengths, 1), mask.float().split(lengths, 1), strict=True)
    for size, part, keep in parts:
        weight = keep.unflatten(1, tuple(size))[..., None]
        total = total + (part.unflatten(1, tuple(size)) * weight).sum(dim=1)
        count = count + weight.sum(dim=1)
    return (total / count.clamp(min=1)).expand(-1, patches, -1)


def _waves(width: int, x: Tensor) -> Tensor:
    """Encode numbers `[N]` as sines, then cosines `[N, width]`, of the released frequencies.

    They are 10000^(-k / (2 width)), k below width / 2: a quarter of the usual exponents.
    """
    turn = torch.arange(width // 2, dtype=torch.float64, device=x.device) / (2 * width)
    angles = x.double()[:, None] / 10000.0**turn
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()
