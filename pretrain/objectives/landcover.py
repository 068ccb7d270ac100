"""Land cover as a target: the share of each class in a sample (AgriFM, arXiv 2505.21357).

AgriFM regresses the fractions of eight classes with an L1 loss. Alone it is supervised
pretraining; beside another objective it is a further term on the same backbone.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Literal, Optional

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fm.card import Card
from fm.config import Config
from fm.errors import UsageError
from fm.hardware import full_precision
from fm.models import Backbone, Inputs
from fm.rng import CounterRng
from pretrain.objective import MomentumPair, Objective, ObjectiveBatch, Output, Panel, Parts
from pretrain.objectives.contrast.batch_norm import over_all_ranks
from pretrain.objectives.contrast.rows import placed, readable, taken
from pretrain.objectives.one_image import one_image
from pretrain.settings.kinds import Positive

if TYPE_CHECKING:
    from pretrain.objectives import ObjectiveConfig


class LandCoverConfig(Config):
    """Regression of land-cover fractions.

    Attributes:
        kind: tells objectives apart.
        label: of the dataset: fractions, or a class (which is all of a sample).
        classes: of the label.
        beside: another objective; its loss is added, and it decides how samples count.
        weight: of the fractions' loss beside that of another objective.
    """

    kind: Literal["landcover"] = "landcover"
    label: str = "landcover"
    classes: Positive
    beside: Optional["ObjectiveConfig"] = None
    weight: float = Field(1.0, gt=0)


class LandCover(Objective):
    """Predict the share of each class from pooled features of the whole sample.

    The loss of a sample is the mean over classes of |predicted - true|; predictions are a softmax,
    so they are shares of 1. Samples without a label count nothing. Of a series, a backbone of
    series sees all images and predicts the mean of their labels; a backbone of single images sees
    one of them, drawn by the sample's position, and predicts its own.

    Args:
        backbone: any; its batch norms become ones over all ranks.
        config: see `LandCoverConfig`.
        beside: the other objective, built around the same backbone.
    """

    def __init__(
        self, backbone: Backbone, config: LandCoverConfig, beside: Objective | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.beside = beside
        over_all_ranks(backbone)
        self.norms = any(isinstance(part, _BatchNorm) for part in backbone.modules())
        if beside is None:
            self.backbone = backbone
            self.whole_batch = self.norms  # else samples do not see each other
            self.takes_one = True
        else:  # it holds the backbone: weights are there once
            vars(self)["backbone"] = backbone
            self.whole_batch, self.takes_one = beside.whole_batch, beside.takes_one
            self.needs_places = beside.needs_places
            self.most_places, self.needs_years = beside.most_places, beside.needs_years
            self.between_ranks = beside.between_ranks
            if config.label in beside.label_names:
                raise UsageError(
                    f"objective.label: {config.label} is the label of objective.beside too; name "
                    f"another, such as the fractions of the same classes"
                )
        others = () if beside is None else beside.label_names
        self.label_names = (*others, config.label)
        sizes = {} if beside is None else dict(beside.label_sizes)
        self.label_sizes = {**sizes, config.label: config.classes}
        kinds = {} if beside is None else dict(beside.label_kinds)
        self.label_kinds = {**kinds, config.label: ("fractions", "class")}
        self.head = nn.Linear(backbone.width, config.classes)
        nn.init.zeros_(self.head.bias)
        nn.init.normal_(self.head.weight, std=0.02)

    @property
    def takes_series(self) -> bool:
        """Images of a series are shown one by one where the backbone takes single ones."""
        return True if self.beside is None else self.beside.takes_series

    def weight(self, batch: ObjectiveBatch) -> Tensor:
        """Return the weight of the labelled samples, or that of the other objective."""
        if self.beside is not None:
            return self.beside.weight(batch)
        return (batch.weight * self._known(self._seen(batch))).sum()

    def forward(self, batch: ObjectiveBatch, rng: CounterRng) -> Output:
        """Compute the loss of a batch.

        Args:
            batch: with the label among its labels.
            rng: of the same samples.

        Returns:
            the sum of weight times loss over labelled samples. Beside another objective, its loss
            plus this term, in which a sample counts as it does there: where all count alike and
            have labels, the two means are added.
        """
        seen = self._seen(batch)
        known = self._known(seen)
        rows = readable(batch.weight) if self.norms else None
        inputs = taken(self._inputs(seen), rows)
        pooled = self.backbone._encode(inputs, hidden=False).pooled
        made = self.head(placed(pooled, rows, len(batch.weight)))
        with full_precision(batch.weight.device):
            made = made.float().softmax(dim=-1)
            losses = (made - torch.nan_to_num(self._target(seen))).abs().mean(dim=1)
            losses = torch.where(known, losses, 0.0)
            if self.beside is None:
                weights = batch.weight * known
                return Output((losses * weights).sum(), weights.sum())
        weights = self._shares(batch)
        term = (losses * weights).sum()
        output = self.beside(batch, rng)
        named = {"loss_landcover": term, "landcover_labelled": (known * weights).sum()}
        metrics = {name: value.detach() for name, value in named.items()}
        metrics["loss_beside"] = output.loss_sum.detach()
        loss = output.loss_sum + self.config.weight * term
        return Output(loss, output.weight, {**output.metrics, **metrics})

    def _shares(self, batch: ObjectiveBatch) -> Tensor:
        """Return how much each sample is of the other objective's weight: `[B]`.

        That weight is a sum over samples of their own weights, so its derivative tells.
        """
        assert self.beside is not None
        if batch.weight.is_meta:
            return batch.weight
        with torch.enable_grad():
            asked = copy(batch)
            asked.weight = batch.weight.detach().clone().requires_grad_()
            (each,) = torch.autograd.grad(self.beside.weight(asked), asked.weight)
        return each * batch.weight

    def _seen(self, batch: ObjectiveBatch) -> ObjectiveBatch:
        """Return the batch as the backbone takes it: one image of each series, or all."""
        return one_image(batch, self.backbone, "landcover")

    def _inputs(self, seen: ObjectiveBatch) -> Inputs:
        return super().inputs(seen)

    def _target(self, seen: ObjectiveBatch) -> Tensor:
        """Return `[B, classes]`; of images with labels of their own, the mean of those known."""
        label = seen.labels[self.config.label]
        return label if label.ndim == 2 else label.nanmean(dim=1)

    def _known(self, seen: ObjectiveBatch) -> Tensor:
        return self._target(seen).isfinite().all(dim=1) & (seen.weight > 0)

    def take_classes(self, classes: Mapping[str, tuple[str, ...]]) -> None:
        """Give the other objective the classes of its labels, too."""
        super().take_classes(classes)
        if self.beside is not None:
            self.beside.take_classes(classes)

    def inputs(self, batch: ObjectiveBatch) -> Inputs:
        """Return a batch as the backbone takes it."""
        return self._inputs(self._seen(batch)) if self.beside is None else self.beside.inputs(batch)

    def grids(self, pixels: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
        """Return the token grid of each group, as the other objective sees it."""
        return super().grids(pixels) if self.beside is None else self.beside.grids(pixels)

    def features(self, batch: ObjectiveBatch) -> Tensor:
        """Return the backbone's pooled features of whole samples: `[B, D]`."""
        return super().features(batch) if self.beside is None else self.beside.features(batch)

    def panels(self, batch: ObjectiveBatch, rng: CounterRng) -> list[list[Panel]]:
        """Return the other objective's pictures."""
        return [] if self.beside is None else self.beside.panels(batch, rng)

    def parts(self, batch: ObjectiveBatch, rng: CounterRng) -> Parts:
        """Return the other objective's losses of each band."""
        return {} if self.beside is None else self.beside.parts(batch, rng)

    def block_modules(self) -> list[nn.Module]:
        """Return the blocks of the backbone, and of the other objective."""
        return super().block_modules() if self.beside is None else self.beside.block_modules()

    def compiled_modules(self) -> list[nn.Module]:
        """Return those that the other objective compiles, or the blocks."""
        return super().compiled_modules() if self.beside is None else self.beside.compiled_modules()

    def parents(self) -> Sequence[Card]:
        """Return the other objective's."""
        return () if self.beside is None else self.beside.parents()

    def momentum_pairs(self) -> Sequence[MomentumPair]:
        """Return the other objective's teachers."""
        return () if self.beside is None else self.beside.momentum_pairs()

    def exported(self) -> Mapping[str, nn.Module]:
        """Return what the other objective exports, or the backbone."""
        return super().exported() if self.beside is None else self.beside.exported()
