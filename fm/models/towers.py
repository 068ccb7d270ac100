"""One backbone for each token group, side by side: encoders of two sensors that share nothing."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from fm.errors import UsageError
from fm.models.backbone import Backbone
from fm.models.features import Features
from fm.models.inputs import Inputs
from fm.models.intake import Intake
from fm.models.layout import Member


class Towers(Backbone):
    """A backbone of its own for each group of tokens (DeCUR, arXiv 2309.05300).

    Tokens are those of the towers that have pixels, one tower after another; `pooled` is the mean
    of theirs, without the towers in which a sample has no valid token. Keys are each tower's own
    under `towers.GROUP.`.

    Args:
        intake: one group of tokens a tower.
        tower: name of the model that each is, one for all groups or one a group; all of one width.
        tower_options: its options; where `tower` has one a group, group to options.
    """

    def __init__(
        self,
        intake: Intake,
        *,
        tower: str | Mapping[str, str],
        tower_options: Mapping[str, Any] | None = None,
    ) -> None:
        from fm.models.registry import family_of  # which knows this class too

        super().__init__(intake)
        if not isinstance(tower, str) and set(tower) != set(self.groups):
            raise UsageError(f"tower names {sorted(tower)}; the groups are {sorted(self.groups)}")
        self.towers = nn.ModuleDict()
        for name, group in self.groups.items():
            kind = tower if isinstance(tower, str) else tower[name]
            given = dict(tower_options or {})
            if not isinstance(tower, str):
                given = dict(given.get(name, {}))
            family, size = family_of(kind)
            if issubclass(family.kind, Towers):
                raise UsageError(f"tower: {kind} is made of towers itself; name one backbone")
            if wrong := sorted(set(given) - set(family.options)):
                raise UsageError(f"tower_options: {kind} has no option {wrong[0]!r}")
            own = {member.modality for member in group.members}
            self.towers[name] = family.kind(
                Intake(
                    [group],
                    bands={m: intake.bands[m] for m in own},
                    normalisation={m: intake.normalisation[m] for m in own},
                    scaling={m: intake.scaling[m] for m in own},
                ),
                **{**family.defaults, **size, **given},
            )
        widths = {name: self.tower(name).width for name in self.groups}
        if len(set(widths.values())) > 1:
            raise UsageError(f"towers of one model have one width; got {widths}")
        self.width = next(iter(widths.values()))
        self.metric = all(self.tower(name).metric for name in self.groups)
        self.series = all(self.tower(name).series for name in self.groups)

    def tower(self, group: str) -> Backbone:
        """Return the backbone of a group."""
        return cast(Backbone, self.towers[group])

    def takes_other_bands(self, modality: str) -> bool:
        """Say whether every tower that takes `modality` may have it with other bands."""
        towers = (self.tower(name) for name in self.groups)
        return all(t.takes_other_bands(modality) for t in towers if modality in t.bands)

    def bases(self) -> list[tuple[Member, Any]]:
        """Return the spectral bases of all towers."""
        return [pair for name in self.groups for pair in self.tower(name).bases()]

    def block_modules(self) -> list[nn.Module]:
        """Return the blocks of all towers."""
        return [block for name in self.groups for block in self.tower(name).block_modules()]

    def of(self, group: str, inputs: Inputs) -> Inputs:
        """Return what the tower of a group sees of a batch."""
        own = self.tower(group).bands
        return replace(
            inputs,
            pixels={m: x for m, x in inputs.pixels.items() if m in own},
            valid=None
            if inputs.valid is None
            else {m: x for m, x in inputs.valid.items() if m in own},
        )

    def _encode(self, inputs: Inputs, hidden: bool) -> Features:
        grids = self.grids(inputs.pixels)
        made = [self.tower(n)._encode(self.of(n, inputs), hidden) for n in grids]
        masked = any(features.mask is not None for features in made)
        masks = [_mask(features) for features in made]
        # a tower without a valid token has nothing to say
        seen = torch.stack([mask.any(dim=1) for mask in masks], dim=1).float()[..., None]
        pooled = torch.stack([features.pooled.float() for features in made], dim=1)
        if len({len(features.hidden) for features in made}) > 1:
            raise UsageError("towers of unlike depth have no common layers; ask one tower for them")
        return Features(
            tokens=torch.cat([features.tokens for features in made], dim=1),
            pooled=(pooled * seen).sum(dim=1) / seen.sum(dim=1).clamp(min=1),
            grid=grids,
            hidden=tuple(
                torch.cat(step, dim=1) for step in zip(*(f.hidden for f in made), strict=True)
            ),
            mask=torch.cat(masks, dim=1) if masked else None,
            images=inputs.images,
        )


def _mask(features: Features) -> Tensor:
    if features.mask is not None:
        return features.mask
    shape = features.tokens.shape[:2]
    return torch.ones(shape, dtype=torch.bool, device=features.tokens.device)
