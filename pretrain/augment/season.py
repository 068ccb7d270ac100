"""Which images of a series the views of a sample are of."""

import torch
from torch import Tensor

from fm.rng import CounterRng
from pretrain.objective import ObjectiveBatch


def there(batch: ObjectiveBatch) -> Tensor:
    """Say which images of each sample hold a valid pixel of any modality: `[B, T]` bool.

    Single images are one each, and count as there.
    """
    several = {name: x for name, x in batch.pixels.items() if x.ndim == 5}
    if not several:
        return torch.ones(len(batch.weight), 1, dtype=torch.bool, device=batch.weight.device)
    first = next(iter(several.values()))
    found = torch.zeros(first.shape[:2], dtype=torch.bool, device=first.device)
    for name, x in several.items():
        mask = (batch.valid or {}).get(name)
        found |= True if mask is None else mask.view(*x.shape[:2], -1).any(dim=2)
    return found


def seasons(
    batch: ObjectiveBatch,
    rng: CounterRng,
    count: int,
    replace: bool = False,
    *,
    among: Tensor | None = None,
    of: Tensor | None = None,
    purpose: str = "seasons",
) -> list[Tensor]:
    """Choose images of each sample for its views, all different where it has as many.

    Only images with a valid pixel are chosen. A sample with fewer than `count` of them shows some
    again, one after the other (`repeated` counts such views).

    Args:
        batch: series `[B, T, C, H, W]`, or single images, whose number is 0.
        rng: of the same samples.
        count: of views.
        replace: draw each on its own, so that two views may be of one image though there are
            others (SSL4EO-S12, SeCo).
        among: `[B, T]` bool, the images that may be chosen; all if None.
        of: `[B, T]` int64, the season of each image, negative where unknown (then it is not
            chosen): views are of different seasons, by one image of each. Each image is a season
            if None.
        purpose: of the draws.

    Returns:
        for each view `[B]` int64 image numbers.
    """
    usable = there(batch)
    if among is not None:
        usable = usable & among
    if of is not None:
        usable = usable & _one_of_each(rng, purpose, usable, of)
    images = usable.shape[1]
    number = usable.sum(dim=1).clamp(min=1)
    # those that are there in random order, the others behind
    mixed = rng.permutation(purpose, images)
    behind = (~usable.gather(1, mixed)).to(torch.int64).argsort(dim=1, stable=True)
    order = mixed.gather(1, behind)
    if replace:
        drawn = rng.uniform(f"{purpose}:each", count)
        place = (drawn * number[:, None]).to(torch.int64)
    else:
        place = torch.arange(count, device=number.device) % number[:, None]
    return list(order.gather(1, place).unbind(1))


def _one_of_each(rng: CounterRng, purpose: str, usable: Tensor, of: Tensor) -> Tensor:
    """Choose one usable image of each season, by chance: `[B, T]` bool."""
    images = of.shape[1]
    place = rng.permutation(f"{purpose}:images", images).argsort(dim=1)
    rival = usable & (of >= 0)
    alike = (of[:, :, None] == of[:, None, :]) & rival[:, None, :]
    before = place[:, None, :] < place[:, :, None]
    return rival & ~(alike & before).any(dim=2)


def repeated(chosen: list[Tensor]) -> Tensor:
    """Return how many of a sample's views show an image that an earlier one shows: `[B]` float32.

    Args:
        chosen: as `seasons` returns it.
    """
    several = torch.stack(chosen, dim=1)
    earlier = (several[:, :, None] == several[:, None, :]).tril(diagonal=-1).any(dim=2)
    return earlier.sum(dim=1).float()
