"""Self-distillation without labels (DINO: Caron et al., arXiv 2104.14294).

The recipes of SSL4EO-S12 (arXiv 2211.07044) and SpectralEarth (2408.08447) are its published ones
for satellite images. Views are of other seasons where there are some: each large view of its own,
all small ones of a third.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fm.errors import UsageError
from fm.models import Backbone, Inputs
from fm.rng import CounterRng
from pretrain.augment import ViewConfig, draw_view, repeated, seasons
from pretrain.losses import Centre, distillation, sinkhorn
from pretrain.objective import MomentumPair, ObjectiveBatch, Output
from pretrain.objectives.contrast.crops import together
from pretrain.objectives.contrast.prototypes import DistillationHead
from pretrain.objectives.contrast.rows import readable, taken
from pretrain.objectives.contrast.siamese import pooled
from pretrain.objectives.contrast.teacher import pairs_of, teacher_of
from pretrain.objectives.contrast.viewed import TwoViews, TwoViewsConfig
from pretrain.ranks import collective
from pretrain.settings.kinds import Positive
from pretrain.settings.ramp import Momentum, Ramp

GLOBAL = ("first", "second")
"""Names of the large views, which their random numbers are drawn under."""

Temperature = Annotated[float, Field(gt=0)]


class DINOConfig(TwoViewsConfig):
    """Self-distillation over several crops.

    Attributes:
        kind: tells objectives apart.
        view: how the first large view is made; the teacher sees the large ones.
        local_view: how the small views are made, which the student alone sees.
        local_views: how many.
        legacy_seasons_with_replacement: draw the three seasons each on its own (SSL4EO-S12).
        outputs: of the head.
        hidden: width inside the head.
        bottleneck: width before the outputs.
        norm_last_layer: outputs are cosines; false learns a length for each.
        freeze_last: share of the run, from its start, in which the last layer does not learn.
        temperature: of the student.
        teacher_temperature: of the teacher; a ramp warms it up.
        centring: what keeps the teacher from saying one thing of all: the running `mean` of its
            outputs is taken off, or `sinkhorn` spreads each batch evenly over them.
        centre_momentum: share of that mean that stays in each step.
        momentum: share of the teacher that stays in each step.
        export: which of the two is the model; the teacher is the better one (section 5.1).
    """

    kind: Literal["dino"] = "dino"
    view: ViewConfig = ViewConfig(scale=(0.4, 1.0))
    local_view: ViewConfig = ViewConfig(scale=(0.05, 0.4))
    local_views: int = Field(8, ge=0)
    legacy_seasons_with_replacement: bool = False
    outputs: Positive = 65536
    hidden: Positive = 2048
    bottleneck: Positive = 256
    norm_last_layer: bool = True
    freeze_last: float = Field(0.01, ge=0, le=1)
    temperature: Temperature = 0.1
    teacher_temperature: Temperature | Ramp = 0.04
    centring: Literal["mean", "sinkhorn"] = "mean"
    centre_momentum: float = Field(0.9, ge=0, lt=1)
    momentum: Momentum = Ramp(start=0.996, end=1.0)
    export: Literal["student", "teacher"] = "teacher"

    @model_validator(mode="after")
    def _of_this_centring(self) -> Self:
        usual = type(self).model_fields["centre_momentum"].default
        if self.centring == "sinkhorn" and self.centre_momentum != usual:
            raise ValueError(
                f"centre_momentum={self.centre_momentum:g} is of centring=mean; sinkhorn keeps no "
                f"centre: leave it out"
            )
        return self


class DINO(TwoViews):
    """The student says of every view what the teacher says of the other large ones.

    Args:
        backbone: of single images; its batch norms become ones over all ranks.
        config: see `DINOConfig`.
    """

    config: DINOConfig

    def __init__(self, backbone: Backbone, config: DINOConfig) -> None:
        super().__init__(backbone, config)
        ramp = config.teacher_temperature
        if isinstance(ramp, Ramp) and min(ramp.start, ramp.end) <= 0:
            raise UsageError("objective.teacher_temperature must be above 0 at both ends")
        if config.local_views:
            config.local_view.check(backbone.bands, "objective.local_view")
        self.head = DistillationHead(
            backbone.width,
            hidden=config.hidden,
            bottleneck=config.bottleneck,
            outputs=config.outputs,
            learn_lengths=not config.norm_last_layer,
        )
        self.teacher = teacher_of(backbone=backbone, head=self.head)
        self.centre = Centre(config.outputs, config.centre_momentum)
        # else samples do not see each other, and a batch may be cut
        norms = any(isinstance(part, _BatchNorm) for part in backbone.modules())
        self.whole_batch = norms or config.centring == "sinkhorn"
        self.takes_one = config.centring == "mean"

    def grids(self, pixels: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
        """Return the token grid of each group in a large view of pixels as stored."""
        found = super().grids(pixels)
        if self.config.local_views:
            self.grids_in(pixels, self.config.local_view, "objective.local_view")
        return found

    def momentum_pairs(self) -> list[MomentumPair]:
        """Return the teacher's backbone and head."""
        return pairs_of(self, self.teacher, self.config.momentum)

    def exported(self) -> Mapping[str, nn.Module]:
        """Return the student's or the teacher's backbone, as the config says."""
        if self.config.export == "teacher":
            return {"backbone": self.teacher["backbone"]}
        return super().exported()

    def forward(self, batch: ObjectiveBatch, rng: CounterRng) -> Output:
        """Compare what student and teacher say of the views of each sample.

        Args:
            batch: single images, or series whose images are the seasons of a place.
            rng: of the same samples.

        Returns:
            the sum over samples of weight times the mean cross-entropy over all pairs of a large
            view that the teacher sees and another view that the student sees.
        """
        settings = self.config
        small = settings.local_views
        chosen = seasons(
            batch, rng, 3 if small else 2, replace=settings.legacy_seasons_with_replacement
        )
        named = list(zip(GLOBAL, self.how, chosen, strict=False))
        named += [(f"local{i}", settings.local_view, chosen[-1]) for i in range(small)]
        rows = readable(batch.weight)
        views = [
            taken(self.inputs(draw_view(batch, rng, *how, bands=self.backbone.bands)), rows)
            for how in named
        ]
        large = together(views[:2])
        targets, entropy = self._targets(large, batch)
        still = batch.clock.share() < settings.freeze_last
        said = [*self._said(large, still).chunk(2)]
        if small:
            said += self._said(together(views[2:]), still).chunk(small)
        terms = []
        for number, outputs in enumerate(said):
            others = [target for i, target in enumerate(targets) if i != number]
            # a cross-entropy is linear in its target
            wanted = torch.stack(others).sum(dim=0)
            terms.append(distillation(outputs, wanted, temperature=settings.temperature))
        loss = torch.stack(terms).sum(dim=0) / (2 * len(said) - 2)
        weight = batch.weight if rows is None else batch.weight[rows]
        metrics = {"teacher_entropy": entropy, "distance": loss.detach() - entropy}
        sums = {name: (value * weight).sum() for name, value in metrics.items()}
        if any(x.ndim == 5 for x in batch.pixels.values()):
            sums["one_season"] = (repeated(chosen) * batch.weight).sum()
        return Output((loss * weight).sum(), self.weight(batch), sums)

    def _said(self, inputs: Inputs, still: bool) -> Tensor:
        made: Tensor = self.head(pooled(self.backbone, inputs, None), still)
        return made

    @torch.no_grad()
    def _targets(self, inputs: Inputs, batch: ObjectiveBatch) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return the teacher's shares of each large view, and their mean entropy `[R]`."""
        backbone = cast(Backbone, self.teacher["backbone"])
        outputs = self.teacher["head"](pooled(backbone, inputs, None))
        warm = self.config.teacher_temperature
        temperature = warm.at(batch.clock) if isinstance(warm, Ramp) else warm
        if self.config.centring == "sinkhorn":
            shares = sinkhorn(
                outputs,
                temperature=temperature,
                reduce=collective.sum_over_ranks,
                largest=collective.largest_over_ranks,
            )
        else:
            shares = self.centre(outputs, temperature=temperature)
            keep = torch.ones(len(outputs), dtype=torch.bool, device=outputs.device)
            self.centre.add(outputs, keep)
        entropy = torch.special.entr(shares).sum(dim=1)
        return shares.chunk(2), torch.stack(entropy.chunk(2)).mean(dim=0)
