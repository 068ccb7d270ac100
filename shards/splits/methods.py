"""Splits: of a dataset by place, time or chance, kept as lists of keys; of one scene by blocks.

A `Split` is made once, written to a file with a hash of every list, and applied by key, so that
everybody who names the file trains and tests on the same samples whatever becomes of this code.
All draws are hashes of counters and of what is drawn (a block's number, a sample's key): they do
not depend on the order of the samples. No sample is in two parts, and a sample with the same
pixels as another (`duplicate_of` in the index) is never in another part than that one.
"""

import datetime
import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import xxhash

from fm.errors import FMError, UsageError
from fm.geo import block_id
from fm.splitmix import splitmix64
from shards.ordering.order import hashed
from shards.seeing.scan import has_column, scan
from shards.splits.splitfile import Split

if TYPE_CHECKING:
    from shards.dataset import Dataset

SPLITS = ("train", "val", "test")
_BLOCKS, _SAMPLES = 11, 12
_LISTED = 20
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def read_part(
    path: str | os.PathLike[str], part: str, *, manifest_hash: str | None = None
) -> Sequence[str]:
    """Return the keys of one part of a split file; see `Split.read` for what is checked."""
    return Split.read(path, manifest_hash).keys(part)


def by_block(
    ds: "Dataset",
    km: float = 100.0,
    shares: Mapping[str, float] | None = None,
    seed: int = 0,
    buffer_km: float = 0.0,
    *,
    missing: str = "error",
    name: str = "block",
) -> Split:
    """Divide by whole blocks of the equal-area grid of `fm.geo`.

    The blocks that hold samples are put in the order of a hash of (seed, block) and cut where the
    samples so far reach the shares; a part departs from its share by at most the samples of the
    largest block.

    Args:
        ds: a dataset, perhaps filtered.
        km: side of a block.
        shares: part to share, summing to 1; None is train 0.8, val 0.1, test 0.1.
        seed: any integer.
        buffer_km: samples closer than this to a block of another part (one that holds samples)
            are in no part, so that no two samples of different parts are closer than this.
        missing: what to do with samples without coordinates: `error`, or `leave` them in no part.
        name: of the split.

    Raises:
        FMError: samples without coordinates, or a part that would get no sample.
        UsageError: an argument out of range.
    """
    shares = _shares(shares)
    if not 0 <= buffer_km <= 1000:
        raise UsageError(f"buffer_km={buffer_km}: give a distance from 0 to 1000 km")
    blocks = block_id(ds.lonlat, km)
    known = blocks >= 0
    left = _missing(ds, ~known, "coordinates", missing)
    numbers, inverse, counts = np.unique(blocks[known], return_inverse=True, return_counts=True)
    ranks = splitmix64(hashed(seed, _BLOCKS) ^ splitmix64(numbers.astype(np.uint64)))
    part_of = np.empty(len(numbers), np.int64)
    order = np.argsort(ranks)
    part_of[order] = _cut(counts[order], list(shares.values()))
    parts = np.full(len(ds), -1, np.int64)
    parts[known] = part_of[inverse]
    what = f"{len(numbers)} blocks of {km:g} km with samples: choose smaller blocks or fewer parts"
    _all_used(parts, shares, what)
    if buffer_km:
        from shards.splits.buffer import near_other

        near = near_other(ds.lonlat[known], inverse, numbers, part_of, km, buffer_km * 1000)
        left["buffer"] = int(near.sum())
        parts[np.flatnonzero(known)[near]] = -1
        _all_used(parts, shares, f"the buffer of {buffer_km:g} km: choose a smaller one")
    parameters = {"km": km, "shares": shares, "seed": seed, "buffer_km": buffer_km}
    return _split(ds, name, "block", parameters, list(shares), parts, left)


def by_continent(
    ds: "Dataset",
    parts: Mapping[str, Sequence[str]] | None = None,
    *,
    rest: str | None = "train",
    missing: str = "error",
    name: str = "continent",
    **named: Sequence[str],
) -> Split:
    """Divide by continent, such as `by_continent(ds, test=["Africa"])`.

    Args:
        ds: a dataset, perhaps filtered.
        parts: part to continents; parts may also be given by keyword.
        rest: part of all other continents; None leaves them in no part.
        missing: as in `by_block`.
        name: of the split.
        named: part to continents.

    Raises:
        FMError: samples without coordinates, a part that would get no sample, or a package that
            is not installed (see `shards.splits.continents`).
        UsageError: an unknown continent, or one in two parts.
    """
    from shards.splits.continents import check_continent, continents

    wanted = {part: list(names) for part, names in {**(parts or {}), **named}.items()}
    if not wanted:
        raise UsageError("name the continents of a part, such as test=['Africa']")
    names = [*wanted, *([rest] if rest is not None and rest not in wanted else [])]
    _names(names)
    table = np.full(8, -1 if rest is None else names.index(rest), np.int64)
    table[-1] = -1
    taken = dict[str, str]()
    for part, listed in wanted.items():
        for continent in listed:
            if continent in taken:
                raise UsageError(f"{continent} is in {taken[continent]!r} and in {part!r}")
            taken[continent] = part
            table[check_continent(continent)] = names.index(part)
    found = continents(ds.lonlat)
    left = _missing(ds, found < 0, "coordinates", missing)
    assigned = table[found]
    _all_used(assigned, names, "it: no sample lies on its continents")
    if rest is None:
        left["other continents"] = int(((assigned < 0) & (found >= 0)).sum())
    return _split(ds, name, "continent", {"parts": wanted, "rest": rest}, names, assigned, left)


def by_time(
    ds: "Dataset",
    parts: Mapping[str, str] | None = None,
    *,
    missing: str = "error",
    name: str = "time",
    **named: str,
) -> Split:
    """Divide by time, such as `by_time(ds, train="..2020", test="2021..")`.

    A range is `FROM..TO` with a year, month, day or moment (UTC) on either side or none; both ends
    belong to it, `..2020` to the end of 2020 and `..2020-06-01T12:00` to that moment. A series of
    several times belongs to a part when all of them do. Samples in no range are in no part.

    Args:
        ds: a dataset, perhaps filtered.
        parts: part to range; parts may also be given by keyword.
        missing: what to do with samples without a time: `error`, or `leave` them in no part.
        name: of the split.
        named: part to range.

    Raises:
        FMError: samples without a time, or a part that would get no sample.
        UsageError: no range, or two that overlap.
    """
    wanted = {**(parts or {}), **named}
    names = _names(wanted)
    ranges = {part: time_range(text) for part, text in wanted.items()}
    in_order = sorted(names, key=lambda part: ranges[part][0])
    for before, after in itertools.pairwise(in_order):
        if ranges[before][1] > ranges[after][0]:
            raise UsageError(
                f"{before}={wanted[before]!r} and {after}={wanted[after]!r} overlap; let one begin "
                "after the other ends"
            )
    first, last = _times(ds)
    left = _missing(ds, np.isnan(first), "a time", missing)
    assigned = np.full(len(ds), -1, np.int64)
    for place, part in enumerate(names):
        start, stop = ranges[part]
        assigned[(first >= start) & (last < stop)] = place
    _all_used(assigned, names, "it: no sample lies in its range")
    left["other times"] = int(((assigned < 0) & ~np.isnan(first)).sum())
    return _split(ds, name, "time", {"parts": wanted}, names, assigned, left)


def random(
    ds: "Dataset", shares: Mapping[str, float] | None = None, seed: int = 0, *, name: str = "random"
) -> Split:
    """Divide by chance, blind to place and time: neighbours come into different parts.

    Samples are put in the order of a hash of (seed, key), those with the same pixels together, and
    cut where the samples so far reach the shares.

    Args:
        ds: a dataset, perhaps filtered.
        shares: as in `by_block`.
        seed: any integer.
        name: of the split.
    """
    shares = _shares(shares)
    originals = _originals(ds) or ds.keys
    keys = np.array([xxhash.xxh3_64_intdigest(key.encode()) for key in originals], np.uint64)
    numbers, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    order = np.argsort(splitmix64(hashed(seed, _SAMPLES) ^ splitmix64(numbers)))
    part_of = np.empty(len(numbers), np.int64)
    part_of[order] = _cut(counts[order], list(shares.values()))
    assigned = part_of[inverse]
    _all_used(assigned, shares, f"{len(ds)} samples: give it a larger share")
    parameters = {"shares": shares, "seed": seed}
    return _split(ds, name, "random", parameters, list(shares), assigned, {})


def _shares(shares: Mapping[str, float] | None) -> dict[str, float]:
    given = {"train": 0.8, "val": 0.1, "test": 0.1} if shares is None else dict(shares)
    _names(given)
    if not all(share > 0 for share in given.values()) or abs(sum(given.values()) - 1) > 1e-6:
        raise UsageError(f"shares {given}: each is above 0 and together they are 1")
    return given


def _names(parts: Iterable[str]) -> list[str]:
    names = list(parts)
    for part in names:
        if not _PART.fullmatch(part):
            raise UsageError(f"part {part!r}: a name has letters, digits, '_' and '-' only")
    if not names:
        raise UsageError("a split has at least one part; name one, such as test=...")
    return names


def _cut(counts: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Part of each of some groups in their order: where its middle sample falls."""
    middle = np.cumsum(counts) - counts / 2
    edges = np.cumsum(shares[:-1]) * counts.sum()
    return np.searchsorted(edges, middle, side="right")


def _all_used(assigned: np.ndarray, parts: Iterable[str], why: str) -> None:
    for place, part in enumerate(parts):
        if not (assigned == place).any():
            raise FMError(f"part {part!r} gets no sample from {why}")


def _missing(ds: "Dataset", where: np.ndarray, what: str, missing: str) -> dict[str, int]:
    if missing not in ("error", "leave"):
        raise UsageError(f"missing={missing!r}: say 'error' or 'leave'")
    rows = np.flatnonzero(where)
    if len(rows) and missing == "error":
        listed = ", ".join(ds.keys[row] for row in rows[:_LISTED].tolist())
        more = f" and {len(rows) - _LISTED} more" if len(rows) > _LISTED else ""
        raise FMError(
            f"{len(rows)} of {len(ds)} samples have no {what.removeprefix('a ')}: {listed}{more}; "
            "missing='leave' puts them in no part"
        )
    return {f"no {what.removeprefix('a ')}": len(rows)} if len(rows) else {}


def _split(
    ds: "Dataset",
    name: str,
    method: str,
    parameters: dict[str, Any],
    parts: list[str],
    assigned: np.ndarray,
    left: dict[str, int],
) -> Split:
    """Make the lists; a copy of a sample of another part is left out."""
    if (originals := _originals(ds)) is not None:
        _, rows, inverse = np.unique(originals, return_index=True, return_inverse=True)
        copies = (assigned >= 0) & (assigned != assigned[rows[inverse]])
        if copies.any():
            left["copies of samples elsewhere"] = int(copies.sum())
            assigned = np.where(copies, -1, assigned)
    keys = np.array(ds.keys, object)
    lists = {part: keys[assigned == place].tolist() for place, part in enumerate(parts)}
    left = {reason: count for reason, count in left.items() if count}
    return Split(name, method, parameters, ds.manifest_hash, lists, left)


def _originals(ds: "Dataset") -> list[str] | None:
    """For each sample the key of the first one with its pixels; None where nobody looked."""
    if not has_column(ds, "duplicate_of"):
        return None
    originals = list(ds.keys)
    for places, batch in scan(ds, ["duplicate_of"]):
        column = batch.column("duplicate_of")
        copies = column.is_valid().to_numpy(zero_copy_only=False)
        for place, first in zip(places[copies].tolist(), column.drop_null(), strict=True):
            originals[place] = first.as_py()
    return originals


def _times(ds: "Dataset") -> tuple[np.ndarray, np.ndarray]:
    """First and last time of each sample, seconds since 1970; NaN where unknown."""
    first, last = ds.time.copy(), ds.time.copy()
    if has_column(ds, "times"):
        for places, batch in scan(ds, ["times"]):
            column = batch.column("times")
            lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
            seconds = column.flatten().cast(pa.int64()).to_numpy(zero_copy_only=False) / 1e6
            rows = np.repeat(places, lengths)
            np.fmin.at(first, rows, seconds)
            np.fmax.at(last, rows, seconds)
    return first, last


def time_range(text: str) -> tuple[float, float]:
    """Seconds since 1970 of the first moment of a range and of the first one after it."""
    start, dots, stop = text.partition("..")
    if not dots:
        stop = start  # one year, month or day
    if not (start or stop):
        raise UsageError(f"range {text!r}: give a year, month or day before or after '..'")
    return (
        _period(start, text)[0] if start else -np.inf,
        _period(stop, text)[1] if stop else np.inf,
    )


def _period(text: str, whole: str) -> tuple[float, float]:
    found = re.fullmatch(r"(\d{4})(?:-(\d{2}))?(?:-(\d{2}))?", text)
    try:
        if found is None:
            start = datetime.datetime.fromisoformat(text)
            start = start.replace(tzinfo=start.tzinfo or datetime.UTC)
        else:
            year, month, day = (int(part or 1) for part in found.groups())
            start = datetime.datetime(year, month, day, tzinfo=datetime.UTC)
    except ValueError:
        raise UsageError(
            f"range {whole!r}: {text!r} is no time; write 2020, 2020-06, 2020-06-15 or an ISO-8601 "
            "moment"
        ) from None
    try:
        if found is None:  # times of an index have microseconds
            after = start + datetime.timedelta(microseconds=1)
        elif found[3]:
            after = start + datetime.timedelta(days=1)
        elif found[2]:
            after = (start + datetime.timedelta(days=32)).replace(day=1)
        else:
            after = start.replace(year=start.year + 1)
    except (OverflowError, ValueError):  # there is no year 10000
        return start.timestamp(), np.inf
    return start.timestamp(), after.timestamp()


def block_split(
    counts: np.ndarray,
    shares: Sequence[float] = (0.5, 0.2, 0.3),
    *,
    candidates: int = 1000,
    seed: int = 0,
) -> np.ndarray:
    """Assign blocks to train, val and test so that every class is spread as the shares ask.

    Labels in space are clumped: a plain random draw of blocks often leaves a class without a test
    or a training pixel. So the best of `candidates` seeded draws is taken, and single blocks are
    moved while that helps. Best is: fewest (class, split) pairs without a pixel, then the smallest
    worst departure from the shares, averaged over classes. The criterion reads labels only, never
    pixels or scores.

    Args:
        counts: `[blocks, classes]` labelled pixels of each class that must be spread.
        shares: of train, val and test; they sum to 1.
        candidates: draws to compare.
        seed: of the draws.

    Returns:
        `[blocks]` int64: 0 train, 1 val, 2 test.
    """
    counts = np.asarray(counts, dtype=np.int64)
    total = counts.sum(axis=0)
    if not (total > 0).all():
        raise ValueError("every class must have a pixel somewhere")

    def cost(draw: np.ndarray) -> float:
        spread = np.stack([counts[draw == split].sum(axis=0) for split in range(3)]) / total
        departure = np.abs(spread - np.asarray(shares)[:, None]).max(axis=0).mean()
        return float(departure + (spread == 0).sum())

    generator = np.random.default_rng(seed)
    draws = generator.choice(len(SPLITS), size=(candidates, len(counts)), p=shares)
    best = min(draws, key=cost)
    lowest, improved = cost(best), True
    while improved:
        improved = False
        for block in range(len(counts)):
            for split in range(len(SPLITS)):
                moved = best.copy()
                moved[block] = split
                if cost(moved) < lowest:
                    best, lowest, improved = moved, cost(moved), True
    return best
