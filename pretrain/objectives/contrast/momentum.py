"""Two views of each sample, a student of one and a slow teacher of the other.

What MoCo (arXiv 1911.05722, 2003.04297, 2104.02057), SoftCon (2405.20462) and their kin share:
views, seasons, Siamese masking, the teacher, and the rows that a query is compared with. Rows are
gathered from all ranks and batch norms take the moments of all of them, so any number of ranks
learns the same.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from fm.errors import UsageError
from fm.models import Backbone, Inputs, VisionTransformer
from fm.rng import CounterRng
from pretrain.augment import View, draw_view, repeated, seasons
from pretrain.losses import normalised
from pretrain.losses.precision import wide
from pretrain.objective import MomentumPair, ObjectiveBatch, Output
from pretrain.objectives.contrast.heads import normed_perceptron, perceptron
from pretrain.objectives.contrast.rows import placed, readable, taken
from pretrain.objectives.contrast.shuffle import SETTING, keys_of, norms_of_ranks
from pretrain.objectives.contrast.siamese import pooled, visible
from pretrain.objectives.contrast.teacher import pairs_of, teacher_of
from pretrain.objectives.contrast.viewed import TwoViews, TwoViewsConfig
from pretrain.objectives.queue import Queue
from pretrain.ranks import collective
from pretrain.settings.kinds import Positive
from pretrain.settings.ramp import Momentum, Ramp

VIEWS = ("first", "second")
"""Names of the two views, which their random numbers are drawn under."""


class MomentumConfig(TwoViewsConfig):
    """What contrasts with a momentum teacher share.

    Attributes:
        version: `v2` compares the first view with keys of earlier steps in a queue, its head is a
            perceptron (MoCo-v2); `v3` compares both views with the keys of the whole batch, its
            heads have batch norms, and the student has a predictor (MoCo-v3).
        legacy_seasons_with_replacement: draw the two seasons on their own, so that one pair in
            four seasons is one image under two crops (SSL4EO-S12).
        legacy_shuffle_bn: of `v2`, batch norms take the moments of each rank's own rows, and the
            samples change ranks before the teacher and back (MoCo, section 3.3): a batch is another
            on another number of ranks.
        temperature: divides the cosines.
        momentum: share of the teacher that stays in each step; null is 0.999 for `v2` and a cosine
            from 0.99 to 1 for `v3`.
        queue: keys that `v2` holds; random directions at first.
        hidden: width inside the heads; null is that of the features for `v2`, 4096 for `v3`.
        width: of the rows that are compared; null is 128 for `v2`, 256 for `v3`.
        symmetric: also the second view asks and the first answers; null is true for `v3`.
        mask_ratio: share of the tokens that the student does not see (Siamese masking); the
            teacher sees all.
        frozen_embedding: keep the random tokenizers of a ViT as they are (MoCo-v3, section 4.2);
            not where `init.first_layer` makes new ones for weights of other bands.
        export: which of the two is the model.
    """

    version: Literal["v2", "v3"] = "v3"
    legacy_seasons_with_replacement: bool = False
    legacy_shuffle_bn: bool = False
    temperature: float = Field(0.2, gt=0)
    momentum: Momentum | None = None
    queue: Positive = 65536
    hidden: Positive | None = None
    width: Positive | None = None
    symmetric: bool | None = None
    mask_ratio: float = Field(0.0, ge=0, lt=1)
    frozen_embedding: bool = False
    export: Literal["student", "teacher"] = "student"

    @model_validator(mode="after")
    def _of_this_version(self) -> Self:
        # by value: the config of a run has all fields, and is read again
        if self.version == "v3" and self.queue != type(self).model_fields["queue"].default:
            raise ValueError(
                f"queue={self.queue} is of version=v2; version=v3 compares with the keys of the "
                f"batch alone: leave it out"
            )
        return self

    @property
    def both_ask(self) -> bool:
        """Each view asks and answers."""
        return self.version == "v3" if self.symmetric is None else self.symmetric

    def keys_of(self, batch_size: int) -> int:
        """Return how many keys a batch puts into the queue."""
        return 0 if self.version == "v3" else batch_size * (1 + self.both_ask)


@dataclass(frozen=True)
class Compared:
    """What the queries of this rank are compared with, one after another in the columns.

    Attributes:
        weight: `[n]` of the queries.
        keys: `[m, D]` rows of this step.
        own: `[n]` the column of each query's own key.
        allowed: `[m]` or `[n, m]` bool, the columns that a query is compared with.
        queue: `[K, D]` rows of earlier steps, none but for `v2`.
        filled: `[K]` bool, which of them hold something.
        labels: `[m + K, C]` of all columns, where the objective reads some.
    """

    weight: Tensor
    keys: Tensor
    own: Tensor
    allowed: Tensor
    queue: Tensor | None = None
    filled: Tensor | None = None
    labels: Tensor | None = None


class MomentumContrast(TwoViews):
    """Base of the contrasts between a student and its momentum teacher.

    Args:
        backbone: of single images; its batch norms become ones over all ranks.
        config: see `MomentumConfig`.
        classes: of the labels that wait in the queue beside their keys; 0 for none.
    """

    config: MomentumConfig
    whole_batch = True

    def __init__(self, backbone: Backbone, config: MomentumConfig, classes: int = 0) -> None:
        super().__init__(backbone, config)
        vit = isinstance(backbone, VisionTransformer)
        if config.frozen_embedding:
            if not vit:
                raise UsageError(
                    f"objective.frozen_embedding is for the tokenizers of a ViT, the model is "
                    f"{backbone.architecture.get('name')}; leave it out"
                )
            cast(VisionTransformer, backbone).patch_embed.requires_grad_(False)
        if config.legacy_shuffle_bn:
            if config.version != "v2":
                raise UsageError(
                    f"{SETTING} is of MoCo-v2, the batch norms of version=v3 are over all ranks; "
                    f"leave it out, or take version=v2"
                )
            self.between_ranks = norms_of_ranks(backbone)
        self.queue: Queue | None = None
        self.queued_labels: Queue | None = None
        self.predictor: nn.Module = nn.Identity()
        if config.version == "v2":
            out = config.width or 128
            self.projector = perceptron(backbone.width, config.hidden or backbone.width, out)
            self.queue = Queue(config.queue, out, normalised(torch.randn(config.queue, out)))
            if classes:  # zeros are no label
                start = torch.zeros(config.queue, classes)
                self.queued_labels = Queue(config.queue, classes, start)
        else:
            out, inside = config.width or 256, config.hidden or 4096
            more = (inside,) * (2 if vit else 1)
            self.projector = normed_perceptron(backbone.width, *more, out)
            self.predictor = normed_perceptron(out, inside, out, last="plain" if vit else "none")
        self.teacher = teacher_of(backbone=backbone, projector=self.projector)

    @property
    def symmetric(self) -> bool:
        """Both views ask."""
        return self.config.both_ask

    def momentum_pairs(self) -> list[MomentumPair]:
        """Return the teacher's backbone and projector; the predictor has no teacher."""
        momentum = self.config.momentum
        if momentum is None:
            momentum = 0.999 if self.config.version == "v2" else Ramp(start=0.99, end=1.0)
        return pairs_of(self, self.teacher, momentum)

    def exported(self) -> Mapping[str, nn.Module]:
        """Return the student's or the teacher's backbone, as the config says."""
        if self.config.export == "teacher":
            return {"backbone": self.teacher["backbone"]}
        return super().exported()

    @abstractmethod
    def terms(self, query: Tensor, labels: Tensor | None, compared: Compared) -> dict[str, Tensor]:
        """Return the loss of each query.

        Args:
            query: `[n, D]`, zeros where a sample could not be read.
            labels: `[n, C]` of the queries' images, where the objective reads some.
            compared: what they are compared with.

        Returns:
            `loss` `[n]`, and more by name for the metrics.
        """

    def forward(self, batch: ObjectiveBatch, rng: CounterRng) -> Output:
        """Compare the views of each sample with those of all.

        Args:
            batch: single images, or series whose images are the seasons of a place.
            rng: of the same samples.

        Returns:
            the sum over samples of weight times loss, of both directions where both ask: their sum
            for MoCo-v3 as published, else their mean.
        """
        chosen = self.seasons(batch, rng)
        views = self.views(batch, rng, chosen)
        inputs = [self.inputs(view) for view in views]
        directions = [(0, 1), (1, 0)] if self.symmetric else [(0, 1)]
        with torch.no_grad():
            keys = {
                answers: self._key(inputs[answers], batch, rng, VIEWS[answers])
                for _, answers in directions
            }
        rows, count = readable(batch.weight), len(batch.weight)
        found: dict[str, Tensor] = {}
        for asks, answers in directions:
            query = self._query(taken(inputs[asks], rows), VIEWS[asks], rng, rows, count)
            labels = [self.labels_of(views[i]) for i in (asks, answers)]
            compared = self._compared(keys[answers], batch.weight, labels[1])
            terms = self.terms(query, labels[0], compared)
            own = (normalised(query).detach() * normalised(compared.keys[compared.own])).sum(dim=1)
            for name, value in {**terms, "cosine_of_pairs": own}.items():
                found[name] = found.get(name, torch.zeros_like(value)) + value / len(directions)
        self._enqueue(keys, views, batch.weight)
        if any(x.ndim == 5 for x in batch.pixels.values()):
            found["one_season"] = repeated(chosen)
        sums = {name: (value * batch.weight).sum() for name, value in found.items()}
        loss = sums.pop("loss")
        return Output(loss, self.weight(batch), {n: value.detach() for n, value in sums.items()})

    def seasons(self, batch: ObjectiveBatch, rng: CounterRng) -> list[Tensor]:
        """Choose the image of each view `[B]`: different ones where a sample has several."""
        again = self.config.legacy_seasons_with_replacement
        return seasons(batch, rng, len(VIEWS), replace=again)

    def views(self, batch: ObjectiveBatch, rng: CounterRng, chosen: list[Tensor]) -> list[View]:
        """Make the two views of a batch."""
        return [
            draw_view(batch, rng, name, settings, image, bands=self.backbone.bands)
            for name, settings, image in zip(VIEWS, self.how, chosen, strict=True)
        ]

    def labels_of(self, view: View) -> Tensor | None:
        """Return the labels of a view's images `[B, C]`; None for an objective without labels."""
        del view
        return None

    def _query(
        self, inputs: Inputs, view: str, rng: CounterRng, rows: Tensor | None, count: int
    ) -> Tensor:
        keep = None
        if self.config.mask_ratio:
            grids = self.backbone.grids(inputs.pixels)
            keep = visible(grids, rng, view, self.config.mask_ratio)
            keep = {name: x if rows is None else x[rows] for name, x in keep.items()}
        made = self.predictor(self.projector(pooled(self.backbone, inputs, keep)))
        return placed(wide(made), rows, count)

    def _key(self, inputs: Inputs, batch: ObjectiveBatch, rng: CounterRng, view: str) -> Tensor:
        backbone = cast(Backbone, self.teacher["backbone"])

        def encode(some: Inputs) -> Tensor:
            made: Tensor = self.teacher["projector"](pooled(backbone, some, None))
            return made

        shuffled = self.config.legacy_shuffle_bn
        return keys_of(inputs, batch, rng, view, encode, shuffled=shuffled)

    def _compared(self, key: Tensor, weight: Tensor, labels: Tensor | None) -> Compared:
        own = torch.arange(len(key), device=key.device)
        if self.queue is None:
            first = collective.rank() * len(key)
            there = collective.gather_rows(weight) > 0
            told = None if labels is None else collective.gather_rows(labels)
            return Compared(weight, collective.gather_rows(key), own + first, there, labels=told)
        rows, filled = self.queue.read()
        if labels is not None and self.queued_labels is not None:
            labels = torch.cat([labels, self.queued_labels.read()[0]])
        alone = torch.eye(len(key), dtype=torch.bool, device=key.device) & (weight > 0)
        return Compared(weight, key, own, alone, rows, filled, labels)

    def _enqueue(self, keys: Mapping[int, Tensor], views: list[View], weight: Tensor) -> None:
        """Put the keys of this pass into the queue, those of a sample next to each other."""
        if self.queue is None:
            return
        keep = (weight > 0).repeat_interleave(len(keys))
        made = torch.stack([normalised(keys[i]) for i in sorted(keys)], dim=1)
        self.queue.add(made.flatten(0, 1), keep)
        if self.queued_labels is not None:
            told = [self.labels_of(views[i]) for i in sorted(keys)]
            labels = torch.stack([x for x in told if x is not None], dim=1)
            self.queued_labels.add(torch.nan_to_num(labels).flatten(0, 1), keep)
