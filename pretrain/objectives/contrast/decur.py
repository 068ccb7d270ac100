"""Two sensors, each with its own backbone, that share a part of what they say (DeCUR).

Wang et al., arXiv 2309.05300: the cross-correlation of views of one sensor becomes the identity;
that of two sensors the identity in the common dimensions and zero in the unique ones.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from fm.errors import UsageError
from fm.models import Backbone, Inputs
from fm.models.towers import Towers
from fm.rng import CounterRng, purpose_bits
from pretrain.augment import ViewConfig, draw_view, seasons
from pretrain.augment.season import there
from pretrain.losses import correlation, decoupled, redundancy
from pretrain.objective import ObjectiveBatch, Output
from pretrain.objectives.contrast.crops import together
from pretrain.objectives.contrast.heads import normed_perceptron
from pretrain.objectives.contrast.rows import numbers, placed, shown, taken
from pretrain.objectives.contrast.siamese import pooled
from pretrain.objectives.contrast.viewed import TwoViews, TwoViewsConfig
from pretrain.ranks import collective
from pretrain.settings.kinds import Positive


class DeCURConfig(TwoViewsConfig):
    """Decoupled common and unique representations of two sensors.

    Attributes:
        kind: tells objectives apart.
        view: how the first view of each sensor is made; `second_view` likewise.
        same_season: views of the two sensors are of one image of a series, one that both have
            where there is any; each sensor's two views are of different ones either way. As
            published the seasons of all four are drawn apart, so that what the sensors share is
            the place.
        legacy_seasons_with_replacement: draw the seasons of a sensor's two views each on its own.
        hidden: width inside the projectors, one a sensor.
        width: dimensions that are correlated.
        common: share of the dimensions that the sensors have in common.
        off_diagonal: weight of the squares beside the diagonal.
    """

    kind: Literal["decur"] = "decur"
    same_season: bool = False
    legacy_seasons_with_replacement: bool = False
    hidden: Positive = 8192
    width: int = Field(8192, ge=2)
    common: float = Field(0.875, gt=0, lt=1)
    off_diagonal: float = Field(0.0051, ge=0)


class DeCUR(TwoViews):
    """Barlow Twins within each sensor and, decoupled, between the first views of the two.

    Args:
        backbone: two towers, one a sensor; batch norms become ones over all ranks.
        config: see `DeCURConfig`.

    Raises:
        UsageError: not two towers, or a share that leaves no common or no unique dimension.
    """

    whole_batch = True
    backbone: Towers
    config: DeCURConfig

    def __init__(self, backbone: Backbone, config: DeCURConfig) -> None:
        if not isinstance(backbone, Towers) or len(backbone.groups) != 2:
            raise UsageError(
                f"objective.kind=decur needs a backbone for each of two sensors: set model.name to "
                f"towers_resnet_50 or towers_vit_small, and two sensors in data.modalities; got "
                f"{backbone.architecture.get('name')} of {', '.join(backbone.groups)}"
            )
        super().__init__(backbone, config)
        self.common = round(config.common * config.width)
        if not 0 < self.common < config.width:
            raise UsageError(
                f"objective.common={config.common:g} of objective.width={config.width} leaves no "
                f"common or no unique dimension"
            )
        inside = (config.hidden, config.hidden)
        self.projectors = nn.ModuleDict(
            {
                name: normed_perceptron(backbone.width, *inside, config.width, last="none")
                for name in backbone.groups
            }
        )

    def grids_of(
        self, pixels: Mapping[str, Tensor], view: ViewConfig
    ) -> dict[str, tuple[int, int]]:
        """Return the token grid of each sensor in a view that is made in some way.

        Raises:
            UsageError: a sensor is missing.
        """
        grids: dict[str, tuple[int, int]] = {}
        for name in self.backbone.groups:
            own = self._own(name, pixels)
            if not own:
                raise UsageError(f"objective.kind=decur compares two sensors; no {name} given")
            grids |= super().grids_of(own, view)
        return grids

    def forward(self, batch: ObjectiveBatch, rng: CounterRng) -> Output:
        """Correlate the views of each sensor, and the first views of the two.

        Args:
            batch: both sensors; single images, or series whose images are the seasons of a place.
            rng: of the same samples.

        Returns:
            the loss of the whole global batch times the weight of this process's samples. Samples
            with a weight count alike in the correlations, each in those whose views have a valid
            pixel; a correlation of fewer than two counts nothing.
        """
        by = self.config.off_diagonal
        first, second = (self._embedded(name, batch, rng) for name in self.backbone.groups)
        found = {}
        for name, (one, other, counts) in zip(self.backbone.groups, (first, second), strict=True):
            matrix = correlation(one, other, weight=counts, reduce=collective.sum_over_ranks)
            found[f"within_{name}"] = redundancy(matrix, off_diagonal=by) * enough(counts)
        both = first[2] & second[2]
        between = correlation(
            first[0], second[0], weight=both, reduce=collective.sum_over_ranks
        ) * enough(both)
        apart = decoupled(between, common=self.common, off_diagonal=by)
        found["common"], found["unique"] = (term * enough(both) for term in apart)
        within = sum(value for name, value in found.items() if name.startswith("within"))
        loss = (within + (found["common"] + found["unique"]) / 2) / 3
        diagonal = between.diagonal().detach()
        found["cosine_common"] = diagonal[: self.common].mean()
        found["cosine_unique"] = diagonal[self.common :].mean()
        own = self.weight(batch)
        metrics = {name: value.detach() * own for name, value in found.items()}
        metrics["one_sensor"] = (batch.weight * ~both).sum()
        return Output(loss * own, own, metrics)

    def _own(self, name: str, pixels: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a sensor's tower takes of a mapping by modality."""
        bands = self.backbone.tower(name).bands
        return {modality: x for modality, x in pixels.items() if modality in bands}

    def _alone(self, name: str, batch: ObjectiveBatch) -> ObjectiveBatch:
        """Return a batch as one sensor sees it."""
        alone = copy.copy(batch)
        alone.pixels = self._own(name, batch.pixels)
        alone.valid = self._own(name, batch.valid or {}) or None
        return alone

    def _shared(self, batch: ObjectiveBatch) -> Tensor | None:
        """Say which images both sensors have: `[B, T]` bool, all of a sample that shares none.

        None where one sensor has but one image.
        """
        first, second = (there(self._alone(name, batch)) for name in self.backbone.groups)
        if first.shape != second.shape:
            return None
        both = first & second
        return both | ~both.any(dim=1, keepdim=True)

    def _embedded(
        self, name: str, batch: ObjectiveBatch, rng: CounterRng
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the projections of a sensor's two views `[B, K]`, and which there are `[B]`."""
        alone = self._alone(name, batch)
        drawn, among = rng, None
        if self.config.same_season:
            among = self._shared(batch)
        else:  # by numbers of its own
            drawn = replace(rng, seed=rng.seed ^ purpose_bits(f"sensor:{name}"))
        again = self.config.legacy_seasons_with_replacement
        chosen = seasons(alone, drawn, 2, replace=again, among=among)
        views: list[Inputs] = []
        for number, (how, image) in enumerate(zip(self.how, chosen, strict=True)):
            view = draw_view(alone, rng, f"{name}:{number}", how, image, bands=self.backbone.bands)
            views.append(self.backbone.of(name, self.inputs(view)))
        counts = batch.weight > 0
        for inputs in views:
            counts = counts & shown(inputs.pixels, inputs.valid)
        count, projector = len(counts), self.projectors[name]
        if not counts.is_meta and not bool(enough(counts)):
            # nothing is encoded, but what is learned must be found in the graph
            still = next(projector.parameters()).float().sum() * 0.0
            nothing = still.expand(count, self.config.width)
            return nothing, nothing, torch.zeros_like(counts)
        rows = numbers(counts)
        features = pooled(
            self.backbone.tower(name), together([taken(view, rows) for view in views]), None
        )
        one, other = projector(features).chunk(2)
        return placed(one, rows, count), placed(other, rows, count), counts


def enough(counts: Tensor) -> Tensor:
    """Say whether samples of all ranks `[B]` bool make a correlation: 1 from two on, else 0."""
    return (collective.all_reduce_sum(counts.sum()) > 1).float()
