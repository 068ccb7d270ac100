"""Distillation: a student's features, through a head, are those of a frozen teacher.

Hinton et al. (arXiv 1503.02531) match what models say of classes; models that know no classes are
matched by their features: FitNets (Romero et al., arXiv 1412.6550), relations (Park et al., arXiv
1904.05068), feature distillation (Wei et al., arXiv 2205.14141), AM-RADIO (Ranzinger et al., arXiv
2312.06709). Both see the same ground, as consistent teaching asks (Beyer et al., arXiv 2106.05237).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fm.card import Card
from fm.errors import UsageError
from fm.hardware import full_precision
from fm.models import Backbone, Features, Inputs
from fm.resample import finest
from fm.rng import CounterRng
from fm.sensors import Band
from pretrain.augment import ViewConfig, draw_view, seasons
from pretrain.frozen import frozen
from pretrain.losses import (
    angle_relations,
    cosine_distance,
    distance_relations,
    mean_of_valid,
    smooth_l1,
    squared_error,
    whitened,
)
from pretrain.objective import Objective, ObjectiveBatch, Output
from pretrain.objectives.contrast.batch_norm import over_all_ranks
from pretrain.objectives.contrast.rows import placed, readable, shown, taken
from pretrain.objectives.contrast.whole import empty_view, whole_view
from pretrain.objectives.distill.config import DistillConfig, FeatureTerm
from pretrain.objectives.distill.look import look, matched
from pretrain.objectives.distill.maps import parts, regridded, there
from pretrain.ranks import collective


@dataclass(frozen=True)
class Taught:
    """By whom a student is taught.

    Attributes:
        model: the teacher.
        bands: modality to the bands of the samples' channels, of which both see some.
    """

    model: Backbone
    bands: Mapping[str, tuple[Band, ...]]


class Distill(Objective):
    """Learn what a teacher says of samples: its pooled features, its tokens, or both.

    The loss of a sample is the sum of its terms: of the pooled features, the mean over its valid
    tokens, and its relations to the other samples of the global batch. A sample that has no valid
    pixel for one of the two counts nothing. One whose view happens to show one of them nothing adds
    no loss and is related to no other, but stays in the sum of weights that the loss is divided by:
    that sum is told by `weight` before views are drawn. Of series one image is shown to both.

    Args:
        backbone: the student, for some of the bands; its batch norms become ones over all ranks.
        config: see `DistillConfig`.
        taught: the teacher, which is frozen here: in `eval()`, without gradient, not a parameter,
            in no checkpoint.

    Raises:
        UsageError: bands or groups of the two do not go together.
    """

    teacher: Backbone

    def __init__(self, backbone: Backbone, config: DistillConfig, taught: Taught) -> None:
        super().__init__()
        self.config = config
        if config.view is not None:
            config.view.check(backbone.bands, "objective.view")
        self.look = look(backbone, taught.bands, "model")
        self.teachers_look = look(taught.model, taught.bands, "objective.teacher")
        over_all_ranks(backbone)
        self.norms = any(isinstance(part, _BatchNorm) for part in backbone.modules())
        self.whole_batch = self.norms or config.relating
        self.takes_one = not config.relating
        self.backbone, self.bands = backbone, dict(taught.bands)
        wide, narrow = taught.model.width, backbone.width
        terms = {"pooled": config.pooled.weight, "tokens": config.tokens.weight}
        self.heads = nn.ModuleDict(
            {name: _head(config.head, narrow, wide) for name, weight in terms.items() if weight}
        )
        self.teacher = frozen(taught.model)

    def train(self, mode: bool = True) -> "Distill":
        """Train; the teacher stays as it is in use."""
        super().train(mode)
        self.teacher.eval()
        return self

    @property
    def takes_series(self) -> bool:
        """One image of a series is shown to both."""
        return True

    def grids(self, pixels: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
        """Return the token grid of each group of the student for pixels as stored.

        Raises:
            UsageError: sizes or bands do not fit one of the two, or groups do not match.
        """
        view = self.config.view
        ours = empty_view(self.look.shown(pixels), None if view is None else view.size)
        grids = self.backbone.grids(ours)
        size = self.config.teacher_size or (None if view is None else view.size)
        height, width = finest(pixels)
        if self.config.teacher_size and height != width and (view is None or view.size is None):
            raise UsageError(
                f"objective.teacher_size: samples of {height} x {width} pixels would be cut to a "
                f"square for the teacher alone; give objective.view.size too"
            )
        self.teachers_look.check(pixels, "objective.teacher")
        theirs = empty_view(self.teachers_look.shown(pixels), size)
        try:
            self.teacher.inputs(theirs, bands={m: self.teachers_look.bands[m] for m in theirs})
            found = self.teacher.grids(theirs)
        except UsageError as error:
            raise UsageError(f"objective.teacher: {error}") from None
        if self.config.tokens.weight:
            matched(list(grids), list(found), self.config.groups)
        return grids

    def weight(self, batch: ObjectiveBatch) -> Tensor:
        """Return the weight of the samples that show something to both."""
        return self._weights(batch).sum()

    def forward(self, batch: ObjectiveBatch, rng: CounterRng) -> Output:
        """Compare what both say of a batch.

        Args:
            batch: with the bands of both.
            rng: of the same samples.

        Returns:
            the sum over samples of weight times loss; as metrics its terms, and `cosine`, between
            the pooled features and the teacher's.
        """
        weights = self._weights(batch)
        ours, theirs = self._views(batch, rng)
        rows = readable(weights) if self.norms else None
        with torch.no_grad():
            wanted = self.teacher._encode(taken(self.teachers_look.inputs(theirs), rows), False)
        seen = self.backbone._encode(taken(self.look.inputs(ours), rows), False)
        with full_precision(weights.device):
            terms, alike = self._compared(seen, wanted)
            count = len(weights)
            terms = {name: placed(term[:, None], rows, count)[:, 0] for name, term in terms.items()}
            # what counts nothing may not be a number, and is related to nothing
            known = weights > 0
            both = _and(there(seen), there(wanted))
            if both is not None:
                known = known & (placed(both[:, None].float(), rows, count)[:, 0] > 0)
            if self.config.relating:
                student, teacher = (placed(x.pooled.float(), rows, count) for x in (seen, wanted))
                terms |= self._related(student, teacher, known)
            factors = {
                "pooled": self.config.pooled.weight,
                "tokens": self.config.tokens.weight,
                "distance": self.config.relations.distance,
                "angle": self.config.relations.angle,
            }
            sums = {
                name: (torch.where(known, term, 0.0) * weights).sum()
                for name, term in terms.items()
            }
            loss = torch.stack([factors[name] * value for name, value in sums.items()]).sum()
            metrics = {f"loss_{name}": value.detach() for name, value in sums.items()}
            if alike is not None:
                alike = placed(alike[:, None], rows, count)[:, 0]
                metrics["cosine"] = (torch.where(known, alike, 0.0) * weights).sum().detach()
        return Output(loss, weights.sum(), metrics)

    def _compared(
        self, seen: Features, wanted: Features
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return the terms `[R]` of features, and the cosine of the pooled ones."""
        terms: dict[str, Tensor] = {}
        alike = None
        both = _and(there(seen), there(wanted))
        if "pooled" in self.heads:
            made, target = self._headed("pooled", seen.pooled), wanted.pooled.float()
            alike = 1.0 - cosine_distance(made, target).detach()
            terms["pooled"] = _apart(self.config.pooled, made, target)
            if both is not None:
                terms["pooled"] = torch.where(both, terms["pooled"], 0.0)
                alike = torch.where(both, alike, 0.0)
        if "tokens" in self.heads:
            pairs = matched(list(seen.grid), list(wanted.grid), self.config.groups)
            told = {name: (tokens, mask) for name, tokens, mask in parts(wanted)}
            losses, masks = [], []
            for name, tokens, mask in parts(seen):
                source = pairs[name]
                target, known = regridded(*told[source], wanted.grid[source], seen.grid[name])
                made = self._headed("tokens", tokens)
                losses.append(_apart(self.config.tokens, made, target.float()))
                masks.append(_and(mask, known))
            full = [
                torch.ones_like(loss, dtype=torch.bool) if mask is None else mask
                for loss, mask in zip(losses, masks, strict=True)
            ]
            valid = torch.cat(full, dim=1) if any(m is not None for m in masks) else None
            terms["tokens"] = mean_of_valid(torch.cat(losses, dim=1), valid)
        return terms, alike

    def _headed(self, name: str, features: Tensor) -> Tensor:
        """Bring features of the student to the teacher's width, in float32."""
        head = self.heads[name]
        own = next(head.parameters()).dtype
        made: Tensor = head(features.to(own))
        return made.float()

    def _related(self, ours: Tensor, theirs: Tensor, known: Tensor) -> dict[str, Tensor]:
        """Return the terms `[B]` of relations among the samples of the global batch."""
        counted = collective.gather_rows(known.float()) > 0
        first = collective.rank() * len(known)
        rows = torch.arange(first, first + len(known), device=known.device)
        student, teacher = collective.gather_rows(ours), collective.gather_rows(theirs.detach())
        terms = {}
        if self.config.relations.distance:
            terms["distance"] = distance_relations(student, teacher, rows=rows, counted=counted)
        if self.config.relations.angle:
            terms["angle"] = angle_relations(student, teacher, rows=rows, counted=counted)
        return terms

    def _weights(self, batch: ObjectiveBatch) -> Tensor:
        """Return how much each sample counts: `[B]`."""
        if batch.valid is None:
            return batch.weight
        known = torch.ones_like(batch.weight)
        for each in (self.look, self.teachers_look):
            seen = each.of(batch)
            known = known * shown(seen.pixels, seen.valid)
        return batch.weight * known

    def _views(
        self, batch: ObjectiveBatch, rng: CounterRng
    ) -> tuple[ObjectiveBatch, ObjectiveBatch]:
        """Return what the student and the teacher see of a batch: the same ground."""
        view, size = self.config.view, self.config.teacher_size
        plain = whole_view(None) if view is None else _without_effects(view)
        clean, image = batch, None
        if view is not None or any(x.ndim == 5 for x in batch.pixels.values()):
            (image,) = seasons(batch, batch.rng, 1)
            clean = draw_view(batch, rng, "shown", plain, image, bands=self.bands)
        theirs = clean
        if size is not None:
            plain = plain.model_copy(update={"size": size})
            theirs = draw_view(batch, rng, "shown", plain, image, bands=self.bands)
        ours = self.look.of(clean)
        if view is not None:
            ours = draw_view(ours, rng, "student", _effects_of(view), bands=self.backbone.bands)
        return ours, self.teachers_look.of(theirs)

    def inputs(self, batch: ObjectiveBatch) -> Inputs:
        """Return a batch as the student takes it."""
        return self.look.inputs(self.look.of(batch))

    def features(self, batch: ObjectiveBatch) -> Tensor:
        """Return the student's pooled features of whole samples, series by one image: `[B, D]`."""
        (image,) = seasons(batch, batch.rng, 1)
        how = whole_view(None if self.config.view is None else self.config.view.size)
        own = self.look.of(batch)
        made = draw_view(own, batch.rng, "whole", how, image, bands=self.backbone.bands)
        return self.backbone._encode(self.look.inputs(made), hidden=False).pooled

    def compiled_modules(self) -> list[nn.Module]:
        """Return the blocks of the student and those of the teacher."""
        return [*self.block_modules(), *self.teacher.block_modules()]

    def parents(self) -> Sequence[Card]:
        """Return the teacher's card."""
        return () if self.teacher.card is None else (self.teacher.card,)


def _head(kind: str, narrow: int, wide: int) -> nn.Module:
    """Make what brings the student's width to the teacher's."""
    if kind == "linear":
        return nn.Linear(narrow, wide)
    return nn.Sequential(
        nn.Linear(narrow, wide), nn.LayerNorm(wide), nn.GELU(), nn.Linear(wide, wide)
    )


def _apart(term: FeatureTerm, made: Tensor, target: Tensor) -> Tensor:
    """Return how far vectors `[..., D]` are apart: `[...]`."""
    if term.whiten:
        target = whitened(target)
    found = torch.zeros_like(made[..., 0])
    if term.squared:
        found = found + term.squared * squared_error(made, target)
    if term.cosine:
        found = found + term.cosine * cosine_distance(made, target)
    if term.smooth_l1:
        found = found + term.smooth_l1 * smooth_l1(made, target, beta=term.beta)
    return found


def _and(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a & b


def _without_effects(view: ViewConfig) -> ViewConfig:
    """Return views that are cut and turned alike, with their numbers as they are."""
    return view.without_effects().model_copy(update={"flips": view.flips})


def _effects_of(view: ViewConfig) -> ViewConfig:
    """Return views that are neither cut nor turned, with the effects on their numbers."""
    whole = {"size": None, "scale": (1.0, 1.0), "ratio": (1.0, 1.0), "resize": True}
    return view.model_copy(update={**whole, "flips": "none"})
