"""Where and when a dataset's samples are, held against what an objective needs of them."""

from collections.abc import Mapping

import numpy as np
import pyarrow.compute as pc

import shards
from fm.errors import UsageError
from pretrain.objective import Objective

YEAR = 365.25 * 86400
METRE = 1e-5
"""Degrees of latitude: places that are nearer are one."""


def check_whereabouts(objective: Objective, parts: Mapping[str, shards.Dataset]) -> None:
    """Refuse data that an objective can learn nothing of, before a run begins.

    Args:
        objective: says by `needs_places`, `most_places` and `needs_years` what it needs.
        parts: name to dataset.

    Raises:
        UsageError: no sample has a place, there are more places than it can hold, or no sample's
            images are far enough apart in time.
    """
    names = ", ".join(str(ds.place) for ds in parts.values())
    if objective.needs_places and not any(_placed(ds).any() for ds in parts.values()):
        raise UsageError(
            f"{names}: the objective needs to know where samples are, and none of the "
            f"{sum(map(len, parts.values()))} has a place; write it with the samples (lonlat=), "
            f"or take another objective"
        )
    least = objective.needs_years
    gaps = [_widest_years(ds) if least else np.zeros(len(ds)) for ds in parts.values()]
    if least:
        widest = max(gap.max(initial=0.0) for gap in gaps)
        if widest < least:
            raise UsageError(
                f"{names}: no sample has images {least:g} years apart, one after the other (the "
                f"widest gap is {widest:.2g}), so that no place has two eras; lower "
                f"objective.era_years, or take kind=seco"
            )
    if (most := objective.most_places) is not None:
        kept = [_places(ds, gap >= least) for ds, gap in zip(parts.values(), gaps, strict=True)]
        found = len(np.unique(np.concatenate(kept)))
        if found > most:
            raise UsageError(
                f"{names}: {found} places do not go into objective.places={most} rows; give twice "
                f"their number"
            )


def _placed(ds: shards.Dataset) -> np.ndarray:
    """Say which samples have a place: `[N]` bool."""
    known: np.ndarray = np.isfinite(ds.lonlat).all(axis=1)
    return known


def _places(ds: shards.Dataset, counted: np.ndarray) -> np.ndarray:
    """Return a number for the place of each of the samples `counted` `[N]` that has one."""
    kept = _placed(ds) & counted
    steps = np.rint(np.asarray(ds.lonlat, np.float64)[kept] / METRE).astype(np.int64)
    numbers: np.ndarray = steps[:, 0] * 10**9 + steps[:, 1]
    return numbers


def _widest_years(ds: shards.Dataset) -> np.ndarray:
    """Return the widest gap between successive images of each sample, 0 without two: `[N]`."""
    table = ds.index
    widest = np.zeros(len(table))
    if "times" not in table.column_names:
        return widest
    column = table.column("times").combine_chunks()
    moments = pc.list_flatten(column).cast("int64").to_numpy(zero_copy_only=False)
    samples = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
    order = np.lexsort((moments, samples))
    gaps = np.diff(moments[order].astype(np.float64)) / 1e6
    within = (np.diff(samples[order]) == 0) & np.isfinite(gaps)
    np.maximum.at(widest, samples[order][1:][within], gaps[within])
    return widest / YEAR
