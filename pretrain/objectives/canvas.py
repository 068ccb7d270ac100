"""From the outputs of token groups to images of modalities."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from einops import rearrange
from torch import Tensor

from fm.errors import UsageError
from fm.models.layout import Group


def unpatchify(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Put all tokens `[B, R*Q, C, p, p]` back into images `[B, C, R*p, Q*p]`."""
    return rearrange(patches, "b (r q) c p w -> b c (r p) (q w)", r=grid[0], q=grid[1])


def output_groups(groups: Mapping[str, Group], *, legacy: bool) -> dict[str, Group]:
    """Say which bands each group's outputs stand for.

    Args:
        groups: of the backbone.
        legacy: SatMAE and SatMAE++ compare the outputs of all groups, one group after another,
            with the image's bands in the image's order; with groups (0, 1, 2, 6), (3, 4, 5, 7),
            (8, 9) the first group's head so predicts bands 0 to 3. Released decoders need this.

    Returns:
        the groups as they are, or with the bands that `legacy` gives them.

    Raises:
        UsageError: `legacy` where groups are not parts of one modality.
    """
    if not legacy:
        return dict(groups)
    members = [member for group in groups.values() for member in group.members]
    if len({(m.modality, m.patch) for m in members}) > 1 or len(members) != len(groups):
        raise UsageError(
            "objective.legacy_channel_order needs model.token_groups that split the bands of one "
            "modality into tokens of one size"
        )
    table = {
        channel: band
        for member in members
        for channel, band in zip(
            member.channels or range(len(member.bands)), member.bands, strict=True
        )
    }
    result, start = {}, 0
    for name, group in groups.items():
        (member,) = group.members
        slots = tuple(range(start, start + len(member.bands)))
        start += len(slots)
        other = replace(member, bands=tuple(table[i] for i in slots), channels=slots)
        result[name] = replace(group, members=(other,))
    return result


def by_modality(
    images: Mapping[str, Mapping[str, Tensor]], groups: Mapping[str, Group]
) -> dict[str, Tensor]:
    """Join what groups hold of a modality, its channels in the modality's order.

    Args:
        images: group to modality to `[B, C, H, W]`.
        groups: which channels those are.

    Returns:
        modality to `[B, all its C, H, W]`.
    """
    parts: dict[str, list[Tensor]] = {}
    order: dict[str, list[int]] = {}
    for name, group in groups.items():
        for member in group.members:
            if member.modality not in images.get(name, {}):
                continue
            parts.setdefault(member.modality, []).append(images[name][member.modality])
            channels = member.channels or range(len(member.bands))
            order.setdefault(member.modality, []).extend(channels)
    result = {}
    for modality, found in parts.items():
        joined = torch.cat(found, dim=1) if len(found) > 1 else found[0]
        back = sorted(range(len(order[modality])), key=order[modality].__getitem__)
        result[modality] = joined if back == list(range(len(back))) else joined[:, back]
    return result
