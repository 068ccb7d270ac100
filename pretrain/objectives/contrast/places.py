"""What is known of the places of a run: how much each has changed between two eras (CACo).

A place is where its samples are, to 1e-5 degrees (a metre), so the table is the same for any order,
number of ranks and sample key. It is the module's buffers and so in every checkpoint.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fm.errors import FMError
from fm.rng import mix
from pretrain.after_step import AfterStep

PROBES = 32
"""Rows of the table that are tried for a place."""
KEPT = 0.8
"""Share of a place's ratio that stays when it is seen again (Mall et al. 2023)."""
ROUNDS = 100
"""Of expectation and maximisation."""


class Places(AfterStep):
    """A ratio for each place, smoothed, and whether it is one of a changed place.

    Each time more places have been seen than are known, a mixture of two normal distributions is
    fitted to all ratios; those that rather belong to the higher one are of changed places until
    the next fit. Before the first fit, and where nothing is known, nothing has changed.

    Args:
        size: rows of the table; about twice the places of the data.
    """

    ids: Tensor
    ratios: Tensor
    changed: Tensor
    seen: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("ids", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("ratios", torch.zeros(size))
        self.register_buffer("changed", torch.zeros(size, dtype=torch.bool))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []

    def changed_at(self, ids: Tensor) -> Tensor:
        """Say which places `[n]` (as `place_ids` gives them) have changed."""
        row, found = self._find(ids)
        return self.changed[row] & found

    def add(self, ids: Tensor, ratios: Tensor, keep: Tensor) -> None:
        """Note ratios of this pass, to be taken in when the step is done.

        Args:
            ids: `[B]` as `place_ids` gives them.
            ratios: `[B]`.
            keep: `[B]` bool; the others say nothing.
        """
        self._waiting.append((ids, ratios.detach().float(), keep & (ids != 0)))

    def drop(self) -> None:
        """Forget what was noted since the last step."""
        self._waiting = []

    @torch.no_grad()
    def take(self, gather: Callable[[Tensor], Tensor]) -> None:
        """Take in what was noted; called by the engine on every rank, after the step.

        Raises:
            FMError: there are more places than the table can hold.
        """
        if not self._waiting:
            return
        ids, ratios, keep = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
        self.drop()
        ids, ratios, keep = gather(ids), gather(ratios), gather(keep.to(torch.uint8)).bool()
        ids, ratios = ids[keep], ratios[keep]
        if not len(ids):
            return
        self.seen += len(ids)
        place, which = ids.unique(return_inverse=True)
        number = torch.zeros(len(place), device=ids.device).index_add(
            0, which, torch.ones_like(ratios)
        )
        mean = torch.zeros_like(number).index_add(0, which, ratios) / number
        known, found = self._find(place)
        row = torch.where(found, known, self._insert(place, found))
        smooth = KEPT * self.ratios[row] + (1 - KEPT) * mean
        self.ratios[row] = torch.where(found, smooth, mean)
        there = self.ids != 0
        if self.seen > there.sum():
            self.changed[there] = higher(self.ratios[there])
            self.seen.zero_()

    def _rows(self, ids: Tensor) -> Tensor:
        # drawn for each place anew, not next to each other: full rows would gather
        tried = torch.arange(PROBES, device=ids.device)
        return mix(ids[:, None] ^ mix(tried + 1)) % len(self.ids)

    def _find(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the row of each place, and whether it is there."""
        rows = self._rows(ids)
        match = (self.ids[rows] == ids[:, None]) & (ids != 0)[:, None]
        return rows.gather(1, match.int().argmax(dim=1, keepdim=True))[:, 0], match.any(dim=1)

    def _insert(self, place: Tensor, found: Tensor) -> Tensor:
        """Give new places a row; those of one row in the order of their numbers."""
        rows = self._rows(place)
        result = torch.zeros_like(place)
        left = ~found
        order = torch.arange(len(place), device=place.device)
        for probe in range(PROBES):
            at = rows[:, probe]
            wants = left & (self.ids[at] == 0)
            first = torch.full((len(self.ids),), len(place), device=place.device)
            first = first.scatter_reduce(0, at[wants], order[wants], "amin")
            wins = wants & (first[at] == order)
            self.ids[at[wins]] = place[wins]
            result = torch.where(wins, at, result)
            left = left & ~wins
            if not left.any():
                break
        if left.any():
            raise FMError(
                f"objective.places={len(self.ids)} rows do not hold the places of the data; give "
                f"twice their number, in a new run"
            )
        return result


def place_ids(lonlat: Tensor | None, like: Tensor) -> Tensor:
    """Return a number for where each sample is, `[B]` int64; 0 where unknown.

    Args:
        lonlat: `[B, 2]` degrees, NaN where unknown; None when unknown for all.
        like: `[B]` of the same device.
    """
    if lonlat is None:
        return torch.zeros(like.shape, dtype=torch.int64, device=like.device)
    known = torch.isfinite(lonlat).all(dim=1)
    steps = (lonlat.double().nan_to_num() * 1e5).round().to(torch.int64)
    made = mix(mix(steps[:, 0] + 1) ^ steps[:, 1])
    return torch.where(known, torch.where(made == 0, 1, made), 0)


def higher(values: Tensor) -> Tensor:
    """Say which values rather belong to the higher of two normal distributions.

    The distributions are fitted by expectation and maximisation in float64, from the two means
    that values are nearest to (Lloyd's, from the smallest and the largest value). A value below
    the lower mean is never of the higher one.

    Args:
        values: `[n]`, finite.
    """
    x = values.double()
    low, high = x.min(), x.max()
    if not bool(high > low):
        return torch.zeros_like(values, dtype=torch.bool)
    for _ in range(ROUNDS):
        upper = x > (low + high) / 2
        low, high = x[~upper].mean(), x[upper].mean()
    share = torch.stack([(~upper).double(), upper.double()])
    floor = 1e-6 * x.var(correction=0)
    for _ in range(ROUNDS):
        total = share.sum(dim=1)
        mean = (share * x).sum(dim=1) / total
        variance = (share * (x - mean[:, None]).square()).sum(dim=1) / total + floor
        log = (total / len(x)).log() - 0.5 * variance.log()
        share = (log[:, None] - 0.5 * (x - mean[:, None]).square() / variance[:, None]).softmax(0)
    # the rounds do not exchange the two, but nothing forbids it
    upper_one = int(mean.argmax())
    return (share[upper_one] > 0.5) & (x > mean.min())
