"""Counting where and when samples lie, in blocks of equal area: what a map is drawn from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fm.console import progress
from fm.errors import FMError, UsageError
from fm.geo import block_id
from shards.dataset import Dataset
from shards.index.columns import UNKNOWN
from shards.seeing.overview import NO_SPLIT, months_of
from shards.splits.splitfile import Split

SEASONS = ("winter", "spring", "summer", "autumn", "unknown")
"""Meteorological seasons of the sample's own hemisphere; the last is for unknown times."""
KINDS = ("season", "split", "dataset")
MONTHS = 13
"""Twelve months and one for unknown times."""
_AT_ONCE = 2**18


@dataclass(frozen=True)
class Tally:
    """Samples by block and by what they are.

    Attributes:
        km: side of the blocks.
        blocks: numbers (`fm.geo.block_id`) of those with samples, rising, `[M]`.
        names: by kind (`season`, `split`, `dataset`) the K things that are counted.
        counts: by kind, samples of each block, `[M, K]`.
        months: by kind, samples of each month (the last: unknown), `[13, K]`, with a place or not.
        samples: all.
        unplaced: without coordinates; they are in no block.
    """

    km: float
    blocks: np.ndarray
    names: dict[str, list[str]]
    counts: dict[str, np.ndarray]
    months: dict[str, np.ndarray]
    samples: int
    unplaced: int


def tally(datasets: Mapping[str, Dataset], km: float = 100.0, split: Split | None = None) -> Tally:
    """Count the samples of some datasets, in bounded memory.

    Args:
        datasets: by the name they are shown under.
        km: side of a block, 25 to 1000.
        split: whose parts to count instead of the index's column `split`; of the one dataset.

    Raises:
        FMError: the split of another dataset.
        UsageError: no dataset, or several and a split, or a size out of range.
    """
    if not 25 <= km <= 1000:
        raise UsageError(f"--km {km:g}: give 25 to 1000 km")
    if not datasets or (split is not None and len(datasets) > 1):
        raise UsageError("a split divides one dataset; give one dataset")
    total = int(block_id(np.array([180 - 1e-9, 90.0]), km)) + 1
    names = {"season": list(SEASONS), "split": _split_names(datasets, split)}
    names["dataset"] = list(datasets)
    counts = {kind: np.zeros((total, len(names[kind])), np.int64) for kind in KINDS}
    months = {kind: np.zeros((MONTHS, len(names[kind])), np.int64) for kind in KINDS}
    samples = sum(len(ds) for ds in datasets.values())
    unplaced = 0
    with progress("counting samples", samples) as bar:
        for number, ds in enumerate(datasets.values()):
            part_of = _parts(ds, names["split"], split)
            for start in range(0, len(ds), _AT_ONCE):
                places = np.arange(start, min(start + _AT_ONCE, len(ds)))
                rows = places if ds.rows is None else ds.rows[places]
                lonlat = np.stack([ds.columns.take(n, rows) for n in ("lon", "lat")], axis=1)
                month = _month(ds.columns.take("time", rows))
                which = {
                    "season": _season(month, lonlat[:, 1]),
                    "split": part_of[ds.columns.take("split", rows) if split is None else places],
                    "dataset": np.full(len(rows), number),
                }
                block = block_id(lonlat, km)
                known = block >= 0
                unplaced += int((~known).sum())
                for kind in KINDS:
                    np.add.at(counts[kind], (block[known], which[kind][known]), 1)
                    np.add.at(months[kind], (month, which[kind]), 1)
                bar.advance(len(rows))
    blocks = np.flatnonzero(counts["dataset"].sum(axis=1))
    kept = {kind: found[blocks] for kind, found in counts.items()}
    return Tally(km, blocks, names, kept, months, samples, unplaced)


def _split_names(datasets: Mapping[str, Dataset], split: Split | None) -> list[str]:
    if split is not None:
        return [*split.lists, NO_SPLIT]
    found = [name for ds in datasets.values() for name in ds.columns.header["splits"]]
    return [*dict.fromkeys(found), NO_SPLIT]


def _parts(ds: Dataset, names: Sequence[str], split: Split | None) -> np.ndarray:
    """Place in `names` by the index's split number; with a split file, by place in the dataset."""
    if split is None:
        numbers = [names.index(name) for name in (NO_SPLIT, *ds.columns.header["splits"])]
        return np.array(numbers)
    if split.manifest_hash != ds.manifest_hash:
        raise FMError(f"split {split.name!r} divides another dataset; make one for {ds.place}")
    part_of = {key: place for place, part in enumerate(names[:-1]) for key in split.lists[part]}
    return np.array([part_of.get(key, len(names) - 1) for key in ds.keys])


def _month(times: np.ndarray) -> np.ndarray:
    month = np.full(len(times), MONTHS - 1)
    known = times != UNKNOWN
    month[known] = months_of(times[known])
    return month


def _season(month: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Number in `SEASONS`: December to February is winter in the north, summer in the south.

    Without a latitude (NaN) it is unknown.
    """
    season = (month + 1) % 12 // 3
    unknown = (month == MONTHS - 1) | np.isnan(lat)
    return np.where(unknown, len(SEASONS) - 1, np.where(lat < 0, (season + 2) % 4, season))
