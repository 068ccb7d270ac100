"""How well images find their places among all of a set, and places their images."""

import numpy as np
import torch
from torch import Tensor

from fm.errors import FMError
from pretrain.losses import cosines, info_nce
from pretrain.objective import Judged
from pretrain.objectives.place.places import distances_km, nearness

WITHIN_KM = (1, 25, 200, 750, 2500)
"""Street, city, region, country, continent (Weyand et al., PlaNet, arXiv 1602.05314)."""
ROWS = 256
"""Questions that are answered at once."""


def found(
    images: Tensor,
    places: Tensor,
    lonlat: Tensor,
    *,
    scale: float,
    soft_km: float | None = None,
    one_way: bool = False,
) -> Judged:
    """Ask each image for its place, and each place for its image, among all of a set.

    Answers that are equally near share what there is to win: an answer that is one of k nearest is
    found to 1 / k, and has the mean rank of those, so that embeddings that are all the same find
    what chance would.

    Args:
        images: `[N, D]` embeddings.
        places: `[N, D]` of the places of the same samples.
        lonlat: `[N, 2]` degrees.
        scale: of the cosines in the loss.
        soft_km: as in the objective.
        one_way: the loss is that of the images alone.

    Returns:
        `loss` and its halves; `found/place` and `found/image`, shares; `median_rank/place` and
        `median_rank/image`, from 1; `within_km/R`, share of the images whose nearest place is not
        further than R km from the true one, and `km/median` of those distances. About the set:
        `count`, and `chance_within_km/R` of any of the places.

    Raises:
        FMError: fewer than two samples, or embeddings that are not finite.
    """
    count = len(images)
    if count < 2:
        raise FMError(f"{count} of the held-out samples have a place (and a time, with a season)")
    if not (torch.isfinite(images).all() and torch.isfinite(places).all()):
        raise FMError("embeddings of the held-out samples are not finite")
    figures: dict[str, float] = {}
    near, chance = dict.fromkeys(WITHIN_KM, 0.0), dict.fromkeys(WITHIN_KM, 0.0)
    away = []
    for name, asks, answers in (("place", images, places), ("image", places, images)):
        loss, hits, ranks = 0.0, 0.0, []
        for start in range(0, count, ROWS):
            rows = slice(start, min(start + ROWS, count))
            own = torch.arange(rows.start, rows.stop, device=images.device)
            km = distances_km(lonlat[rows], lonlat)
            target = {"own": own} if soft_km is None else {"positives": nearness(km, soft_km)}
            missed = info_nce(asks[rows], answers, temperature=1 / scale, **target)
            loss += float(missed.double().sum())
            alike = cosines(asks[rows], answers)
            mine = alike.gather(1, own[:, None])
            above, level = (alike > mine).sum(dim=1), (alike == mine).sum(dim=1)
            hits += float(torch.where(above == 0, 1.0 / level, 0.0).double().sum())
            ranks.append((1 + above + (level - 1) / 2.0).cpu().numpy())
            if name == "place":
                best = (alike == alike.amax(dim=1, keepdim=True)).double()
                best = best / best.sum(dim=1, keepdim=True)
                away.append((best * km).sum(dim=1).cpu().numpy())
                for limit in WITHIN_KM:
                    inside = km <= limit
                    near[limit] += float((best * inside).sum())
                    chance[limit] += float(inside.double().mean(dim=1).sum())
        # the question is of an image when the answer is a place
        figures["loss_image" if name == "place" else "loss_place"] = loss / count
        figures[f"found/{name}"] = hits / count
        figures[f"median_rank/{name}"] = float(np.median(np.concatenate(ranks)))
    both = (figures["loss_image"] + figures["loss_place"]) / 2
    figures["loss"] = figures["loss_image"] if one_way else both
    figures["km/median"] = float(np.median(np.concatenate(away)))
    figures |= {f"within_km/{limit}": number / count for limit, number in near.items()}
    by_chance = {f"chance_within_km/{limit}": n / count for limit, n in chance.items()}
    return Judged(figures, {"count": count, **by_chance})
