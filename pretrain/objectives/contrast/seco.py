"""Seasonal contrast in three subspaces (SeCo: Manas et al., arXiv 2103.16607).

Each space is asked about the same plain view of one season. The first is invariant to season and
augmentation, the second to the season alone, the third to augmentation alone; in the last two the
keys of the other views are negatives. Views in the order of SSL4Eco (Plekhanova et al., arXiv
2504.18256, and its release), whose seasons are those of vegetation and drawn without replacement.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from fm.errors import UsageError
from fm.models import Backbone, Inputs
from fm.rng import CounterRng
from pretrain.augment import draw_view, repeated, seasons
from pretrain.losses import normalised, subspace_contrast
from pretrain.objective import MomentumPair, ObjectiveBatch, Output
from pretrain.objectives.contrast.heads import perceptron
from pretrain.objectives.contrast.rows import encoded
from pretrain.objectives.contrast.shuffle import keys_of, norms_of_ranks
from pretrain.objectives.contrast.siamese import pooled
from pretrain.objectives.contrast.teacher import pairs_of, teacher_of
from pretrain.objectives.contrast.viewed import Viewed, ViewedConfig
from pretrain.objectives.queue import Queue
from pretrain.ranks import collective
from pretrain.settings.kinds import Positive
from pretrain.settings.ramp import Momentum

SPACES = 3

Keys = list[list[Tensor]]
"""`[s][v]`: view v by the key head of space s, `[n, D]`."""
NamedView = tuple[str, Inputs]
"""The name that a view's random numbers are drawn under, and the view of all samples."""


class SubspacesConfig(ViewedConfig):
    """What seasonal contrasts share.

    Attributes:
        view: how augmented views are made; plain ones are only cut like them.
        season_label: label of the dataset that says the season of each image of a series, such as
            the phenological one; views are then of different seasons. Null takes each image for a
            season.
        legacy_seasons_with_replacement: draw each view's image on its own (SeCo).
        legacy_shuffle_bn: batch norms take the moments of each rank's own rows, and the samples
            change ranks before the teacher and back, each view in another order, as SeCo and CACo
            are released: a batch is another on another number of ranks.
        temperature: divides the cosines.
        momentum: share of the teacher that stays in each step.
        queue: keys that each space holds; random directions at first.
        hidden: width inside the heads; null is that of the features.
        width: of the rows that are compared.
    """

    season_label: str | None = None
    legacy_seasons_with_replacement: bool = False
    legacy_shuffle_bn: bool = False
    temperature: float = Field(0.07, gt=0)
    momentum: Momentum = 0.999
    queue: Positive = 16384
    hidden: Positive | None = None
    width: Positive = 128

    def keys_of(self, batch_size: int) -> int:
        """Return how many keys a batch puts into a queue."""
        return batch_size


class SeCoConfig(SubspacesConfig):
    """Seasonal contrast, see `SubspacesConfig`.

    Attributes:
        kind: tells objectives apart.
    """

    kind: Literal["seco"] = "seco"


class Subspaces(Viewed):
    """Base of the seasonal contrasts: a student, its teacher, a head and queues for each space.

    Args:
        backbone: of single images; its batch norms become ones over all ranks.
        config: see `SubspacesConfig`.
        eras: queues of each space, `config.queue / eras` keys each.
    """

    config: SubspacesConfig
    whole_batch = True

    def __init__(self, backbone: Backbone, config: SubspacesConfig, eras: int = 1) -> None:
        super().__init__(backbone, config)
        if config.legacy_shuffle_bn:
            self.between_ranks = norms_of_ranks(backbone)
        self.plain = config.view.without_effects()
        self.label_names = () if config.season_label is None else (config.season_label,)
        self.label_kinds = dict.fromkeys(self.label_names, ("class",))
        inside, out = config.hidden or backbone.width, config.width
        self.heads = nn.ModuleList([perceptron(backbone.width, inside, out) for _ in range(SPACES)])
        size = config.queue // eras
        self.queues = nn.ModuleList(
            [Queue(size, out, normalised(torch.randn(size, out))) for _ in range(SPACES * eras)]
        )
        self.teacher = teacher_of(backbone=backbone, heads=self.heads)

    def grids(self, pixels: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
        """Return the token grid of each group in a view of pixels as stored.

        Raises:
            UsageError: single images, which have no seasons.
        """
        if all(x.ndim == 4 for x in pixels.values()):
            kind = getattr(self.config, "kind", "seco")
            raise UsageError(
                f"objective.kind={kind} contrasts the images of series, the samples are single "
                f"images; give series of a place, or take kind=moco"
            )
        return super().grids(pixels)

    def momentum_pairs(self) -> list[MomentumPair]:
        """Return the teacher's backbone and heads."""
        return pairs_of(self, self.teacher, self.config.momentum)

    def chosen(
        self,
        batch: ObjectiveBatch,
        rng: CounterRng,
        among: Tensor | None = None,
        purpose: str = "seasons",
    ) -> list[Tensor]:
        """Choose three images of each sample, of different seasons where it has as many."""
        return seasons(
            batch,
            rng,
            SPACES,
            replace=self.config.legacy_seasons_with_replacement,
            among=among,
            of=self._seasons_of(batch),
            purpose=purpose,
        )

    def views(
        self, batch: ObjectiveBatch, rng: CounterRng, images: Sequence[Tensor], name: str = ""
    ) -> list[NamedView]:
        """Make the view that asks and those that answer, one a space.

        Args:
            batch: series.
            rng: of the same samples.
            images: three image numbers `[B]` of each sample.
            name: put before the views' names.
        """
        first, second, third = images
        made = [
            (f"{name}asks", self.plain, first),
            (f"{name}both", self.config.view, second),
            (f"{name}season", self.plain, third),
            (f"{name}augmented", self.config.view, first),
        ]
        bands = self.backbone.bands
        return [
            (label, self.inputs(draw_view(batch, rng, label, how, image, bands=bands)))
            for label, how, image in made
        ]

    def asked(self, view: NamedView, weight: Tensor) -> list[Tensor]:
        """Return the student's rows of a view of samples of weights `[B]`, by space: `[B, D]`."""
        made = encoded(view[1], weight, _all_spaces(self.backbone, self.heads))
        return list(made.chunk(SPACES, dim=1))

    @torch.no_grad()
    def answered(self, views: Sequence[NamedView], batch: ObjectiveBatch, rng: CounterRng) -> Keys:
        """Return the teacher's rows of each view in each space, of this process's samples."""
        encode = _all_spaces(
            cast(Backbone, self.teacher["backbone"]), cast(nn.ModuleList, self.teacher["heads"])
        )
        shuffled = self.config.legacy_shuffle_bn
        made = [
            keys_of(inputs, batch, rng, name, encode, shuffled=shuffled).chunk(SPACES, dim=1)
            for name, inputs in views
        ]
        return [list(of_space) for of_space in zip(*made, strict=True)]

    def queues_of(self, era: int = 0) -> list[Queue]:
        """Return the queue of each space."""
        return [cast(Queue, self.queues[era * SPACES + s]) for s in range(SPACES)]

    def _seasons_of(self, batch: ObjectiveBatch) -> Tensor | None:
        name = self.config.season_label
        if name is None:
            return None
        label = batch.labels[name]
        if label.is_meta:  # of no batch that is trained on
            return None
        if label.ndim != 3:
            raise UsageError(
                f"objective.season_label: {name} is a label of samples; give one of each image"
            )
        known = torch.isfinite(label).all(dim=2) & (label > 0).any(dim=2)
        return torch.where(known, label.nan_to_num().argmax(dim=2), -1)


class SeCo(Subspaces):
    """Tell the view of a place from others in three subspaces; the loss is their sum."""

    config: SeCoConfig

    def forward(self, batch: ObjectiveBatch, rng: CounterRng) -> Output:
        """Compare a plain view of each sample with its keys in three spaces.

        Args:
            batch: series whose images are the seasons of a place.
            rng: of the same samples.

        Returns:
            the sum over samples of weight times the three spaces' losses.
        """
        images = self.chosen(batch, rng)
        asks, *answer = self.views(batch, rng, images)
        query = self.asked(asks, batch.weight)
        own_keys = self.answered(answer, batch, rng)
        held = [queue.read() for queue in self.queues_of()]
        losses = subspace_contrast(
            query,
            gathered(own_keys),
            temperature=self.config.temperature,
            own=collective.rank() * len(batch.weight),
            readable=collective.gather_rows(batch.weight) > 0,
            queues=[keys for keys, _ in held],
            queue_allowed=[filled for _, filled in held],
        )
        for s, queue in enumerate(self.queues_of()):
            queue.add(normalised(own_keys[s][s]), batch.weight > 0)
        found = told(losses, query, own_keys)
        found["one_season"] = repeated(images)
        sums = {name: (value * batch.weight).sum().detach() for name, value in found.items()}
        return Output((losses.sum(dim=1) * batch.weight).sum(), self.weight(batch), sums)


def _all_spaces(backbone: Backbone, heads: nn.ModuleList) -> Callable[[Inputs], Tensor]:
    """Say how samples become rows: those of all spaces beside each other."""

    def encode(some: Inputs) -> Tensor:
        found = pooled(backbone, some, None)
        return torch.cat([head(found) for head in heads], dim=1)

    return encode


def gathered(keys: Keys) -> Keys:
    """Join the keys of all ranks."""
    return [[collective.gather_rows(view) for view in views] for views in keys]


def told(losses: Tensor, query: Sequence[Tensor], keys: Keys) -> dict[str, Tensor]:
    """Return what is worth a look: the loss of each space and the cosine of its pairs, `[n]`."""
    found = {}
    for s, name in enumerate(("both", "season", "augmented")):
        found[f"loss_{name}"] = losses[:, s].detach()
        found[f"cosine_{name}"] = (normalised(query[s]).detach() * normalised(keys[s][s])).sum(
            dim=1
        )
    return found
