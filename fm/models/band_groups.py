"""Groups of named bands that make a token each: what Presto and Galileo share."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from fm.errors import UsageError
from fm.hardware import full_precision
from fm.models.backbone import Backbone
from fm.models.embed.patches import to_physical
from fm.models.inputs import Inputs

Groups = Mapping[str, tuple[str, ...]]
"""Group to the names of its bands."""

INDEX = "NDVI"
"""The group that is computed of two bands, near infrared and red, and has no value of its own."""


def present_groups(model: str, groups: Groups, names: Sequence[str]) -> list[str]:
    """Return the groups whose bands are there.

    Args:
        model: for errors.
        groups: all that the model knows.
        names: of the bands that there are.

    Raises:
        UsageError: a band of none, twice, or a group of which a part is there.
    """
    known = {name for own in groups.values() for name in own}
    if wrong := [name for name in names if name not in known]:
        raise UsageError(f"{model} has no band {wrong[0]}; it has {', '.join(sorted(known))}")
    if len(set(names)) < len(names):
        raise UsageError(f"{model} takes each band once; a name is in two modalities")
    present = []
    for group, own in groups.items():
        missing = [name for name in own if name not in names]
        if missing and len(missing) < len(own) and group != INDEX:
            raise UsageError(
                f"{model}'s {group} is {', '.join(own)}; {', '.join(missing)} is missing"
            )
        if not missing:
            present.append(group)
    return present


def group_values(inputs: Inputs, groups: Groups) -> dict[str, tuple[Tensor, Tensor]]:
    """Return what a batch says of each group all of whose bands it has.

    NDVI is of physical values, not of the normalised ones, and 0 where both bands are.

    Returns:
        group to its normalised values, 0 where invalid, and where each is valid; both
        `[B, n, T * H, W]`, n bands (1 of NDVI).
    """
    made: dict[str, Tensor] = {}
    physical: dict[str, Tensor] = {}
    there: dict[str, Tensor] = {}
    for modality, x in inputs.pixels.items():
        with full_precision(x.device):
            raw = to_physical(x, *inputs.scaling[modality])
            normal = inputs.normalisation[modality](raw, band_axis=1)
        mask = (inputs.valid or {}).get(modality)
        mask = torch.ones_like(normal, dtype=torch.bool) if mask is None else mask
        mask = (mask[:, None] if mask.ndim == 3 else mask).expand_as(normal)
        normal, raw = torch.where(mask, normal, 0.0), torch.where(mask, raw, 0.0)
        for number, band in enumerate(inputs.bands[modality]):
            made[band.name], physical[band.name] = normal[:, number], raw[:, number]
            there[band.name] = mask[:, number]
    found = {}
    for group, names in groups.items():
        if not all(name in made for name in names):
            continue
        values = torch.stack([made[name] for name in names], dim=1)
        valid = torch.stack([there[name] for name in names], dim=1)
        if group == INDEX:
            near, red = (physical[name] for name in names)
            total = near + red
            share = (near - red) / torch.where(total > 0, total, 1.0)
            values = torch.where(total > 0, share, 0.0)[:, None]
            valid = valid.all(dim=1, keepdim=True)
        found[group] = values, valid
    return found


def grid_of_series(model: Backbone, longest: int, inputs: Inputs) -> tuple[str, int, int]:
    """Return the one grid of a batch: its name, and the token rows and columns of an image.

    Args:
        model: one of a single token group.
        longest: images that it knows the places of.
        inputs: the batch.

    Raises:
        UsageError: longer series.
    """
    if inputs.images > longest:
        raise UsageError(f"series of {inputs.images} images, the model knows {longest} at most")
    ((name, (rows, columns)),) = model.grids(inputs.pixels).items()
    return name, rows // inputs.images, columns


def through_blocks(blocks: Iterable[nn.Module], x: Tensor, mask: Tensor) -> Iterator[Tensor]:
    """Yield tokens `[B, N, D]` after each block, which see those that are known (`mask` `[B, N]`).

    A sample without any would have no key at all: its tokens see all.
    """
    keys = (mask | ~mask.any(dim=1, keepdim=True))[:, None, None]
    for block in blocks:
        x = block(x, attn_mask=keys)
        yield x
