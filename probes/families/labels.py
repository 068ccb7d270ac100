"""Fewer labels: which training samples a protocol may use."""

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

from fm.errors import UsageError
from probes.benchmarks.base import Data


def subset(data: Data, rows: np.ndarray, per_class: int | None, seed: int) -> np.ndarray:
    """Draw at most `per_class` of the given samples of each class, without replacement.

    Sets of several labels or numbers are cut to `per_class` times the labels or targets. The draw
    depends on the benchmark and the seed alone, so every model gets the same one.
    """
    if per_class is None:
        return rows
    order = np.random.Generator(np.random.PCG64([seed, 1])).permutation(rows)
    if data.targets.ndim == 2:
        return np.sort(order[: per_class * len(data.classes)])
    targets = data.targets[order]
    kept = [order[targets == k][:per_class] for k in range(len(data.classes))]
    return np.sort(np.concatenate(kept))


def draw(
    data: Data,
    rows: np.ndarray,
    *,
    per_class: int | None,
    fraction: float | None,
    seed: int,
    attempt: int = 0,
) -> np.ndarray:
    """Draw a fixed list of few samples, never one twice.

    The list is a function of (dataset manifest, amount, seed, attempt) and of `rows` alone.

    * `per_class`, one class a sample: that many of each class, or all of a smaller one.
    * `per_class`, several labels: samples come in random order, and one is taken when it holds a
      label that has fewer than `per_class` samples yet; each label then has at least that many
      (or all), and common labels more. One without any label is never taken.
    * `fraction`, one class a sample: the nearest whole number of samples, split over the classes
      in proportion to their size (largest remainders), at least one of each while that fits.
    * `fraction`, several labels: iterative stratification (Sechidis et al., ECML 2011) into the
      drawn part and the rest.
    * `fraction`, numbers or maps: uniform.

    Args:
        data: the benchmark, opened.
        rows: samples to draw from.
        per_class: number of each class; None leaves it to `fraction`.
        fraction: share of `rows`; None with `per_class` None draws all.
        seed: of the run.
        attempt: number of the try, from 0.

    Returns:
        sample numbers, ascending.

    Raises:
        UsageError: `per_class` where there are no classes, or a fraction that is no sample.
    """
    if per_class is None and fraction is None:
        return rows
    generator = _generator(data, per_class, fraction, seed, attempt)
    order = generator.permutation(np.sort(rows))
    kind = _kind(data)
    targets = data.targets[order]
    if per_class is not None:
        if kind == "other":
            raise UsageError("per_class: this benchmark has no classes; give fraction instead")
        if kind == "labels":
            taken = _cover(targets, per_class)
        else:
            taken = np.concatenate(
                [np.flatnonzero(targets == k)[:per_class] for k in range(len(data.classes))]
            )
        return np.sort(order[taken])
    count = round(float(fraction or 0) * len(order))
    if count < 1:
        raise UsageError(f"fraction {fraction:g} of {len(order)} training samples is none")
    if kind == "labels":
        taken = _stratified_labels(targets, count)
    elif kind == "class":
        taken = _stratified_classes(targets, count)
    else:
        taken = np.arange(count)
    return np.sort(order[taken])


def digest(data: Data, rows: np.ndarray) -> str:
    """SHA-256 of a list of samples: one line `KEY NUMBER` for each, in order."""
    lines = (f"{data.shards[row]} {row}\n" for row in rows.tolist())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def describe(data: Data, total: int, lists: list[np.ndarray]) -> str:
    """Say how many samples were drawn and which, for the notes of a result."""
    counts = sorted({len(rows) for rows in lists})
    size = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    names = ", ".join(digest(data, rows) for rows in lists)
    word = "list" if len(lists) == 1 else "lists"
    return f"trained on {size} of {total} training samples, {word} (sha256): {names}"


def told(data: Data, whole: np.ndarray, rows: np.ndarray) -> list[str]:
    """The note of one list, see `describe`; none where every sample was used."""
    return [describe(data, len(whole), [rows])] if len(rows) < len(whole) else []


def _generator(
    data: Data, per_class: int | None, fraction: float | None, seed: int, attempt: int
) -> np.random.Generator:
    """Randomness that depends on the data, the amount, the seed and the try, and nothing else."""
    about = json.dumps([data.manifest_hash, per_class, fraction, seed, attempt])
    words = np.frombuffer(hashlib.sha256(about.encode()).digest(), np.uint32)
    return np.random.Generator(np.random.PCG64(words.tolist()))


def _kind(data: Data) -> str:
    if data.maps is not None or data.targets.dtype.kind == "f":
        return "other"
    return "labels" if data.targets.ndim == 2 else "class"


def _cover(targets: np.ndarray, wanted: int) -> NDArray[np.int64]:
    """Places of the samples, in order, that hold a label which still lacks samples."""
    have = np.zeros(targets.shape[1], np.int64)
    taken = []
    for place, labels in enumerate(targets):
        if (labels & (have < wanted)).any():
            have += labels
            taken.append(place)
    return np.array(taken, np.int64)


def _stratified_classes(targets: np.ndarray, count: int) -> NDArray[np.int64]:
    """Places of `count` samples whose classes are as frequent as in all of them."""
    present, sizes = np.unique(targets, return_counts=True)
    ideal = sizes * count / len(targets)
    quota = np.floor(ideal).astype(np.int64)
    if count >= len(present):
        quota = np.maximum(quota, 1)
    while quota.sum() < count:
        quota[np.argmax(np.where(quota < sizes, ideal - quota, -np.inf))] += 1
    while quota.sum() > count:
        quota[np.argmin(np.where(quota > 1, ideal - quota, np.inf))] -= 1
    kept = [np.flatnonzero(targets == k)[:n] for k, n in zip(present, quota, strict=True)]
    return np.concatenate(kept)


def _stratified_labels(targets: np.ndarray, count: int) -> NDArray[np.int64]:
    """Places of `count` samples, by iterative stratification into these and the rest.

    The label with the fewest samples left is dealt first; a sample goes to the part that lacks
    more of the label, then to the one that lacks more samples; a full part takes none.
    """
    total = len(targets)
    room = np.array([count, total - count], np.int64)
    share = room / total
    lacking = share[:, None] * targets.sum(0)
    part = np.full(total, -1)
    while (part < 0).any():
        left = part < 0
        remaining = (targets & left[:, None]).sum(0)
        if not remaining.any():
            # samples without any label fill what is left, in their random order
            places = np.flatnonzero(left)
            part[places] = np.arange(len(places)) >= room[0]
            break
        label = int(np.argmin(np.where(remaining > 0, remaining, total + 1)))
        for place in np.flatnonzero(left & targets[:, label]):
            want = [(lacking[p, label], room[p]) if room[p] else (-np.inf, 0) for p in (0, 1)]
            chosen = 0 if want[0] > want[1] else 1
            part[place] = chosen
            lacking[chosen] -= targets[place]
            room[chosen] -= 1
    return np.flatnonzero(part == 0)
