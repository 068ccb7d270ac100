"""Benchmark samples near what pretraining saw: counted, told, and left out on request.

A card lists equal-area cells that pretraining images lie in and the months they are of, not the
places themselves. So a distance is a pair of bounds: no image of a cell is nearer than the cell's
border, and every cell holds at least one image, no farther than its farthest corner. `near` counts
samples that may lie within the distance, `certain` those that must. Exclusion goes by `near`.
Places are the samples' centres (a block's, where samples are cut from one).

What a card does not say is unknown, never zero.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

import shards
from fm.errors import FMError, UsageError
from probes.benchmarks.base import Data
from probes.checks.overlap import places

Array = NDArray[np.float64]
SHOWN_KM = (0.0, 10.0, 100.0)
"""Distances that every result tells."""
SPHERE = 0.006
"""Largest relative error of a great circle against the ellipsoid; bounds are widened by it."""
EXCLUDED = "excluded"
"""The split of test samples that were left out."""


@dataclass(frozen=True)
class Rule:
    """What counts as near.

    Attributes:
        km: distance.
        days: between the sample and some month that pretraining saw; None takes all times.
    """

    km: float
    days: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `KM` or `KM,DAYS`.

        Raises:
            UsageError: it is neither.
        """
        words = text.split(",")
        try:
            numbers = [float(word) for word in words]
        except ValueError:
            numbers = []
        if not 1 <= len(numbers) <= 2 or not all(0 <= n < np.inf for n in numbers):
            raise UsageError(f"--exclude-near {text}: give KM or KM,DAYS, such as 10 or 10,30")
        return cls(*numbers)

    def __str__(self) -> str:
        days = "" if self.days is None else f" and {self.days:g} days"
        return f"{self.km:g} km{days}"


@dataclass(frozen=True)
class Seen:
    """What a card says of place and time.

    Attributes:
        parts: of each dataset: cells [n, 4] west, south, east, north, and months [m, 2] of its
            begin and end in seconds since 1970 (None where the card has none).
        cell_km: size of the cells, of each part.
        missing: why `parts` is not all that was seen; empty when it is.
    """

    parts: tuple[tuple[Array, Array | None], ...]
    cell_km: tuple[float, ...]
    missing: tuple[str, ...]


def seen(model: Any) -> Seen:
    """Read a model's card."""
    from fm.geo import blocks_bounds  # here, because it loads pyproj

    card = getattr(model, "card", None)
    data = dict(getattr(card, "data", None) or {})
    listed = dict(data.get("parts") or ({"": data} if data else {}))
    parts, sizes, missing = [], [], []
    if not listed:
        missing.append("the model's card does not say what it was pretrained on")
    for name, part in listed.items():
        which = name or part.get("name") or "the dataset"
        cells, size = part.get("cells") or [], part.get("cell_km")
        if not cells or not size:
            missing.append(f"the card does not say where {which} lies")
            continue
        known, total = part.get("located"), part.get("samples")
        if known is not None and total is not None and known < total:
            missing.append(f"{total - known} of {total} samples of {which} have no place")
        months = [_month(text) for text in part.get("months") or []]
        bounds = blocks_bounds(np.array(cells, np.int64), float(size))
        parts.append((bounds, np.array(months) if months else None))
        sizes.append(float(size))
    if parent := getattr(card, "parent", None):
        missing.append(f"the card does not say what its starting weights ({parent}) saw")
    return Seen(tuple(parts), tuple(sizes), tuple(missing))


def describe(model: Any, data: Data, rule: Rule | None = None) -> dict[str, Any]:
    """Count test samples near what a model saw.

    Args:
        model: may have a `card`, see `probes.checks.overlap.describe`.
        data: the benchmark, opened; its whole test split, nothing left out yet.
        rule: counted beside `SHOWN_KM`.

    Returns:
        `statement`, `known` (false when the card does not say everything: counts are then at
        least), `cell_km`, `n_test`, `unplaced` and `undated` (test samples without place or
        time), `counts`: of each rule `km`, `days`, `near` and `certain`, None where nothing can be
        counted, and `excluded`, None.
    """
    what, test = seen(model), data.of("test")
    rules = [Rule(km) for km in SHOWN_KM]
    if rule is not None and rule not in rules:
        rules.append(rule)
    lonlat, time = places(data, test), times(data, test)
    unplaced = int((~np.isfinite(lonlat).all(1)).sum())
    counts: list[dict[str, Any]] = []
    countable = bool(what.parts) and unplaced < len(test)
    for one in rules:
        near, certain = (
            [int(mask.sum()) for mask in _near(what, lonlat, time, one)]
            if countable
            else [None, None]
        )
        counts.append({"km": one.km, "days": one.days, "near": near, "certain": certain})
    reasons = list(what.missing)
    if unplaced:
        reasons.append(f"{unplaced} of {len(test)} test samples have no place")
    if countable:
        shown = counts[-1] if rule is not None else counts[1]
        text = "at least " if reasons else ""
        statement = (
            f"{text}{shown['near']} of {len(test)} test samples may lie within "
            f"{Rule(shown['km'], shown['days'])} of what pretraining saw (distances to cells of "
            f"{', '.join(f'{km:g}' for km in sorted(set(what.cell_km)))} km)"
        )
        statement += f"; {'; '.join(reasons)}" if reasons else ""
    else:
        statement = f"unknown: {'; '.join(reasons)}"
    return {
        "statement": statement,
        "known": not reasons,
        "cell_km": sorted(set(what.cell_km)),
        "n_test": len(test),
        "unplaced": unplaced,
        "undated": int((~np.isfinite(time)).sum()),
        "counts": counts,
        "excluded": None,
    }


def exclude(model: Any, data: Data, rule: Rule) -> tuple[Data, int]:
    """Take the test samples that may be near out of the test split.

    Samples without a place stay; `describe` counts them.

    Returns:
        the benchmark with the smaller test split, and the number of samples that left it.

    Raises:
        UsageError: it cannot be told what is near, or nothing would be left.
    """
    what, test = seen(model), data.of("test")
    lonlat = places(data, test)
    if not what.parts or not np.isfinite(lonlat).all(1).any():
        side = "; ".join(what.missing) if not what.parts else "the benchmark tells no places"
        raise UsageError(
            f"--exclude-near {rule.km:g}: what is near is unknown ({side}); leave the option out"
        )
    near, _ = _near(what, lonlat, times(data, test), rule)
    if near.all():
        raise UsageError(
            f"--exclude-near: all {len(test)} test samples may lie within {rule} of what "
            f"pretraining saw; nothing is left to score"
        )
    split = data.split.astype("U8" if data.split.dtype.itemsize < 32 else data.split.dtype)
    split[test[near]] = EXCLUDED
    return replace(data, split=split), int(near.sum())


def times(data: Data, rows: NDArray[np.int64]) -> Array:
    """Times [n] of samples in seconds since 1970, NaN where the benchmark does not tell them."""
    try:
        ds = shards.open(data.folder)
    except (FMError, TypeError):  # a published folder, not a dataset of ours
        return np.full(len(rows), np.nan)
    known = dict(zip(ds.keys, np.asarray(ds.time, np.float64), strict=True))
    return np.array([known.get(key, np.nan) for key in data.shards[rows]], np.float64)


def _near(
    what: Seen, lonlat: Array, time: Array, rule: Rule
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which samples [n] may be, and which must be, near some part."""
    may = np.zeros(len(lonlat), bool)
    must = may.copy()
    placed = np.isfinite(lonlat).all(1)
    for cells, months in what.parts:
        low, high = bounds(lonlat[placed], cells, rule.km)
        at_all, surely = low <= rule.km, high <= rule.km
        if rule.days is not None:
            surely[:] = False  # the months of the whole set are known, those of a cell are not
            if months is not None:
                # a sample or a card without a date is not far in time: that is not known
                dated = np.isfinite(time[placed])
                at_all &= ~dated | (_gap_days(time[placed], months) <= rule.days)
        may[placed] |= at_all
        must[placed] |= surely
    return may, must


def bounds(lonlat: Array, cells: Array, most_km: float) -> tuple[Array, Array]:
    """Bounds of the distance from places to the nearest of some cells.

    Args:
        lonlat: [n, 2] degrees.
        cells: [m, 4] west, south, east, north in degrees.
        most_km: distances above are infinite.

    Returns:
        [n] kilometres to the nearest border (0 inside) and to the farthest corner of the cell
        whose farthest corner is nearest, widened by `SPHERE`.
    """
    from fm.geo import EARTH_RADIUS_M, great_circle_m

    middle = np.stack([cells[:, [0, 2]].mean(1), cells[:, [1, 3]].mean(1)], 1)
    corners = np.stack([cells[:, [i, j]] for i in (0, 2) for j in (1, 3)], 1)
    radius = great_circle_m(middle[:, None], corners).max(1) / 1000
    # a wide cell around a pole: over the pole no point is farther from its middle
    around = cells[:, 2] - cells[:, 0] > 90
    over = _to_pole(cells, middle[:, 1]) / 1000
    radius = np.where(around, over, radius)
    centre, place = _unit(middle), _unit(lonlat)
    low, high = np.full(len(lonlat), np.inf), np.full(len(lonlat), np.inf)
    reach = np.minimum(most_km * (1 + SPHERE) + radius, np.pi * EARTH_RADIUS_M / 1000)
    least = np.cos(reach / (EARTH_RADIUS_M / 1000)) - 1e-12
    for start in range(0, len(lonlat), 64):
        rows, columns = np.nonzero(place[start : start + 64] @ centre.T >= least)
        rows = rows + start
        near, far = _to_cells(lonlat[rows], cells[columns], around[columns])
        np.minimum.at(low, rows, near * (1 - SPHERE))
        np.minimum.at(high, rows, far * (1 + SPHERE))
    return low, high


def _to_cells(place: Array, cells: Array, around: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Kilometres [k] from places [k, 2] to the nearest and farthest point of cells [k, 4]."""
    from fm.geo import EARTH_RADIUS_M, great_circle_m

    lon, lat = place.T
    west, south, east, north = cells.T
    within = ((lon - west) % 360 <= east - west) | around
    inside = within & (south <= lat) & (lat <= north)
    straight = np.radians(np.maximum(south - lat, lat - north)) * EARTH_RADIUS_M
    candidates = []
    for edge in (west, east):
        # the point of this meridian that is nearest: tan(lat') = tan(lat) / cos(dlon)
        turn = np.radians(edge - lon)
        sine, cosine = np.sin(np.radians(lat)), np.cos(np.radians(lat))
        best = np.degrees(np.arctan2(sine, cosine * np.cos(turn)))
        for at in (south, north, np.clip(best, south, north)):
            candidates.append(great_circle_m(place, np.stack([edge, at], 1)))
    near = np.where(within, straight, np.min(candidates, 0))
    corners = np.max([candidates[i] for i in (0, 1, 3, 4)], 0)
    far = np.where(around, _to_pole(cells, lat), corners)
    return np.where(inside, 0.0, near) / 1000, far / 1000


def _to_pole(cells: Array, lat: Array) -> Array:
    """Metres [k] from latitudes [k] to the pole of each cell's half and on to its far edge."""
    from fm.geo import EARTH_RADIUS_M

    south, north = cells[:, 1], cells[:, 3]
    pole = np.where(north + south > 0, 90.0, -90.0)
    farthest = np.maximum(np.abs(pole - south), np.abs(pole - north))
    return np.asarray(np.radians(np.abs(pole - lat) + farthest) * EARTH_RADIUS_M)


def _gap_days(time: Array, months: Array) -> Array:
    """Days from each time [n] to the nearest of the months [m, 2]; 0 within one."""
    with np.errstate(invalid="ignore"):
        gap = np.maximum(months[:, 0] - time[:, None], time[:, None] - months[:, 1])
        return np.asarray(np.maximum(gap, 0).min(1) / 86400)


def _month(text: str) -> tuple[float, float]:
    begin = np.datetime64(text, "M")
    both = (begin.astype("datetime64[s]"), (begin + 1).astype("datetime64[s]"))
    first, last = (float(value.astype(np.int64)) for value in both)
    return first, last


def _unit(lonlat: Array) -> Array:
    lon, lat = np.radians(lonlat).T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], 1)
