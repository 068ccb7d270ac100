"""What convolutional backbones share: an image without gaps in, the places of a map out."""

from collections.abc import Iterable, Mapping

from einops import rearrange
from torch import Tensor, nn

from fm.hardware import full_precision
from fm.models.embed.patches import fill_invalid, gather_patches, to_physical
from fm.models.features import Features, pool
from fm.models.inputs import Inputs
from fm.models.layout import Member


def filled_image(member: Member, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
    """Scale, normalise and fill the image of a convolutional backbone.

    Returns:
        `[B, C, H, W]` float32, where an invalid value has the mean of its band's valid ones in
        the token, and `[B, N]` bool, False for a token without a valid pixel (None when no mask
        was given).
    """
    name, patch = member.modality, member.patch
    x = inputs.pixels[name]
    with full_precision(x.device):
        physical = to_physical(x, *inputs.scaling[name])
        values = inputs.normalisation[name](physical, band_axis=1)
    mask = (inputs.valid or {}).get(name)
    if mask is None:
        return values, None
    mask = mask[:, None] if mask.ndim == 3 else mask
    cut = gather_patches(mask, patch, None)
    filled = fill_invalid(gather_patches(values, patch, None), cut)
    rows = x.shape[-2] // patch
    whole = rearrange(filled, "b (r q) c p w -> b c (r p) (q w)", r=rows)
    return whole, cut.flatten(2).any(dim=2)


def through_stages(
    stages: Iterable[nn.Module], x: Tensor, hidden: bool
) -> tuple[Tensor, list[Tensor]]:
    """Run a map `[B, F, H, W]` through stages.

    Returns:
        the last map, and with `hidden` the tokens `[B, N, F]` after each stage.
    """
    outputs = []
    for stage in stages:
        x = stage(x)
        if hidden:
            outputs.append(x.flatten(2).mT)
    return x, outputs


def map_features(
    x: Tensor, mask: Tensor | None, grid: Mapping[str, tuple[int, int]], hidden: Iterable[Tensor]
) -> Features:
    """Return features whose tokens are the places of a map `[B, D, H, W]`, pooled by their mean.

    Args:
        x: the last map.
        mask: `[B, N]` bool, see `Features`.
        grid: group to its rows and columns.
        hidden: tokens after each stage.
    """
    tokens = x.flatten(2).mT
    return Features(
        tokens=tokens, pooled=pool(tokens, mask), grid=dict(grid), hidden=tuple(hidden), mask=mask
    )
