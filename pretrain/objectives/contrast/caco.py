"""Change-aware seasonal contrast (CACo: Mall, Hariharan and Bala, CVPR 2023).

Seasonal contrast within each of two eras of a place, years apart. The keys of the other era are
negatives in every subspace, but those of the same place only where it has changed: unchanged ground
of another decade is no other place. Whether it has is learned on the way: the distance between the
eras over that between seasons, and a mixture of two normal distributions over all places.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from fm.errors import UsageError
from fm.models import Backbone
from fm.rng import CounterRng
from pretrain.augment import repeated
from pretrain.augment.season import there
from pretrain.losses import normalised, subspace_contrast
from pretrain.objective import ObjectiveBatch, Output
from pretrain.objectives.contrast.places import Places, place_ids
from pretrain.objectives.contrast.seco import (
    Keys,
    Subspaces,
    SubspacesConfig,
    gathered,
    told,
)
from pretrain.ranks import collective
from pretrain.settings.kinds import Positive

YEAR = 365.25 * 86400
ERAS = 2
SEASON = 1
"""The subspace, and the view, that differ from the asking view in the season alone."""
LEAST = 1e-4
"""Added to the distance between seasons."""


class CACoConfig(SubspacesConfig):
    """Change-aware seasonal contrast, see `SubspacesConfig`; queues are halved between the eras.

    Attributes:
        kind: tells objectives apart.
        era_years: least gap in the times of a place's images that divides them into two eras (the
            largest gap does); a place without one has one era.
        places: rows of the table of places, about twice their number; 20 bytes each.
    """

    kind: Literal["caco"] = "caco"
    era_years: float = Field(2.0, gt=0)
    places: Positive = 262144

    def keys_of(self, batch_size: int) -> int:
        """Return how many keys a batch puts into the queues of a space: of each era its own."""
        return ERAS * batch_size


class CACo(Subspaces):
    """Seasonal contrast within two eras, each repelled by the other where a place has changed.

    Args:
        backbone: as of `Subspaces`.
        config: see `CACoConfig`.

    Raises:
        UsageError: a queue that cannot be halved.
    """

    config: CACoConfig
    needs_places = True

    def __init__(self, backbone: Backbone, config: CACoConfig) -> None:
        if config.queue % ERAS:
            raise UsageError(
                f"objective.queue={config.queue} is halved between two eras; give an even number"
            )
        super().__init__(backbone, config, eras=ERAS)
        self.places = Places(config.places)
        self.most_places, self.needs_years = config.places, config.era_years

    def forward(self, batch: ObjectiveBatch, rng: CounterRng) -> Output:
        """Compare views of each era with their keys in three spaces.

        Args:
            batch: series whose images are of two eras, with their times and where they are.
            rng: of the same samples.

        Returns:
            the sum over samples of weight times the three spaces' losses, of both eras their mean.
        """
        if batch.times is None:
            raise UsageError("objective.kind=caco needs the times of the images; write times=")
        usable = there(batch)
        era = eras_of(batch.times, usable, self.config.era_years)
        has = [(usable & (era == e)).any(dim=1) for e in range(ERAS)]
        asked: list[list[Tensor]] = []
        keys: list[Keys] = []
        again = torch.zeros_like(batch.weight)
        for e in range(ERAS):
            images = self.chosen(batch, rng, among=era == e, purpose=f"seasons:era{e}")
            views = self.views(batch, rng, images, name=f"era{e}:")
            asked.append(self.asked(views[0], batch.weight))
            keys.append(self.answered(views, batch, rng))
            again = again + repeated(images) / ERAS
        ids = place_ids(batch.lonlat, batch.weight)
        changed = self.places.changed_at(ids)
        both = has[0] & has[1] & (batch.weight > 0)
        ratios = change_ratio(keys)
        self.places.add(ids, ratios, both)
        answers = [[views[1:] for views in spaces] for spaces in keys]
        first = collective.rank() * len(batch.weight)
        # which columns there are: of samples that could be read and have images of the era
        counted = [collective.gather_rows(batch.weight * x) > 0 for x in has]
        joined = [gathered(own) for own in answers]
        loss = torch.zeros_like(batch.weight)
        found: dict[str, Tensor] = {}
        for e in range(ERAS):
            held = [queue.read() for queue in self.queues_of(e)]
            losses = subspace_contrast(
                asked[e],
                joined[e],
                temperature=self.config.temperature,
                own=first,
                readable=counted[e],
                queues=[rows_ for rows_, _ in held],
                queue_allowed=[filled for _, filled in held],
                others=[spaces[s] for s, spaces in enumerate(joined[1 - e])],
                others_allowed=repelled(changed, counted[1 - e], first),
            )
            for s, queue in enumerate(self.queues_of(e)):
                queue.add(normalised(answers[e][s][s]), has[e] & (batch.weight > 0))
            share = has[e] / (has[0].float() + has[1].float()).clamp(min=1)
            loss = loss + losses.sum(dim=1) * share
            for name, value in told(losses, asked[e], answers[e]).items():
                found[name] = found.get(name, torch.zeros_like(value)) + value * share
        found |= {
            "one_season": again,
            "one_era": 1.0 - both.float(),
            "unplaced": (ids == 0).float(),
            "changed": changed.float(),
            "change_ratio": torch.where(both, ratios, 0.0),
        }
        sums = {name: (value * batch.weight).sum().detach() for name, value in found.items()}
        return Output((loss * batch.weight).sum(), self.weight(batch), sums)


def eras_of(times: Tensor, usable: Tensor, years: float) -> Tensor:
    """Divide the images of each place by the largest gap in their times.

    Args:
        times: `[B, T]` seconds since 1970 UTC, NaN where unknown.
        usable: `[B, T]` bool, images that count.
        years: least gap; a place without one has the first era alone.

    Returns:
        `[B, T]` int64: 0 or 1; -1 where the time is unknown or the image does not count.
    """
    known = usable & torch.isfinite(times)
    ordered = torch.where(known, times, torch.inf).sort(dim=1).values
    gaps = (ordered[:, 1:] - ordered[:, :-1]).nan_to_num(nan=0.0, posinf=0.0)
    if not gaps.shape[1]:
        return torch.where(known, 0, -1)
    widest, place = gaps.max(dim=1, keepdim=True)
    last = ordered.gather(1, place)
    late = (times > last) & (widest >= years * YEAR)
    return torch.where(known, late.to(torch.int64), -1)


def change_ratio(keys: list[Keys]) -> Tensor:
    """Return how far the eras of a place are apart, over how far its seasons are: `[B]`.

    Distances are between rows of the teacher in the space that is invariant to seasons: of the
    asking views of both eras, and of an era's asking view and that of another season.

    Args:
        keys: of each era the teacher's rows of the asking view and of those that answer.
    """
    asks = [normalised(own[SEASON][0]) for own in keys]
    other = [normalised(own[SEASON][1 + SEASON]) for own in keys]
    far = (asks[0] - asks[1]).norm(dim=1)
    near = sum((a - b).norm(dim=1) for a, b in zip(asks, other, strict=True)) / ERAS
    return far / (near + LEAST)


def repelled(changed: Tensor, counted: Tensor, first: int) -> Tensor:
    """Say which keys of the other era are negatives: `[n, m]` bool.

    Args:
        changed: `[n]` bool, of this process's places.
        counted: `[m]` bool, keys of the whole batch that there are.
        first: the column of the first own place.
    """
    rows, columns = len(changed), len(counted)
    own = torch.zeros(rows, columns, dtype=torch.bool, device=changed.device)
    index = torch.arange(rows, device=changed.device)
    own[index, first + index] = True
    return counted & (~own | changed[:, None])
