"""What pretraining saw of a benchmark's test set, in words and in numbers."""

from typing import Any

import numpy as np

import shards
from fm.errors import FMError
from probes.benchmarks.base import Data


def describe(model: Any, data: Data) -> dict[str, Any]:
    """Compare a model's card with the test split of a benchmark.

    Args:
        model: may have a `card` with `data`: `manifest_hash`, `where`, `split`,
            `cells`, `cell_km`, or `parts`: name to the same.
        data: the benchmark, opened.

    Returns:
        `statement`, `shared_samples` (test samples whose stored pixels pretraining read; None
        when unknown) and `transductive` (true when that is known to be at least one).
    """
    card = getattr(model, "card", None)
    seen = dict(getattr(card, "data", None) or {})
    test = data.of("test")
    parts = seen.get("parts")
    if not parts:
        return _of_one(seen, data, test)
    answers = {name: _of_one(dict(part), data, test) for name, part in parts.items()}
    counts = [answer["shared_samples"] for answer in answers.values()]
    known = [count for count in counts if count is not None]
    # parts may share the same samples, so their counts are not added
    shared = max(known) if len(known) == len(counts) or any(known) else None
    statement = "; ".join(f"{name}: {answer['statement']}" for name, answer in answers.items())
    transductive = any(answer["transductive"] for answer in answers.values())
    return {"statement": statement, "shared_samples": shared, "transductive": transductive}


def _of_one(seen: dict[str, Any], data: Data, test: np.ndarray) -> dict[str, Any]:
    if not seen.get("manifest_hash"):
        return _answer("unknown: the model's card does not say what it was pretrained on", None)
    if seen["manifest_hash"] == data.manifest_hash:
        return _same_dataset(seen.get("where"), seen.get("split"), data, test)
    other = f"pretrained on another dataset ({seen.get('name') or seen['manifest_hash'][:12]})"
    return _cells(other, seen, data, test)


def none(kind: str) -> dict[str, Any]:
    """The overlap of something that was never pretrained."""
    return _answer(f"none: {kind} was not pretrained", 0)


def _same_dataset(
    where: str | None, split: dict[str, Any] | None, data: Data, test: np.ndarray
) -> dict[str, Any]:
    try:
        keys = shards.open(data.folder, where=where).keys
    except FMError as error:
        return _answer(f"unknown: the card's filter {where!r} cannot be applied ({error})", None)
    shared = int(np.isin(data.shards[test], np.array(list(keys), dtype=str)).sum())
    filtered = f"where {where}" if where else "without a filter"
    if shared and split:
        return _answer(
            f"unknown: pretraining read part {split.get('part')!r} of a split of the same dataset, "
            "and the model's card does not list its samples",
            None,
        )
    if shared:
        return _answer(
            f"transductive: pretraining read the pixels (no labels) of {shared} of {len(test)} "
            f"test samples (same dataset, {filtered})",
            shared,
        )
    return _answer(
        f"not transductive: pretraining used the same dataset {filtered}, which holds no test "
        f"sample",
        0,
    )


def _cells(other: str, seen: dict[str, Any], data: Data, test: np.ndarray) -> dict[str, Any]:
    """Compare location cells where both sides have them."""
    from fm.geo import block_id  # here, because it loads pyproj

    cells, size = seen.get("cells") or [], seen.get("cell_km")
    lonlat = places(data, test) if cells and size else np.zeros((0, 2))
    known = np.isfinite(lonlat).all(1)
    if not known.all() or not cells or not size:
        side = "the benchmark" if not known.all() else "its card"
        return _answer(
            f"{other}; whether it covers the same ground is unknown: {side} has no locations", None
        )
    shared = int(np.isin(block_id(lonlat, float(size)), np.array(cells)).sum())
    if shared:
        return _answer(
            f"{other} with images in the {size:g} km cells of {shared} of {len(test)} test "
            f"samples, perhaps of the same ground",
            shared,
        )
    return _answer(f"not transductive: {other}; no test sample lies in its {size:g} km cells", 0)


def places(data: Data, rows: np.ndarray) -> np.ndarray:
    """Places [n, 2] of samples, NaN where the benchmark does not tell them."""
    if data.lonlat is not None:
        return data.lonlat(rows)
    try:
        ds = shards.open(data.folder)
    except FMError:  # a published folder without places, not a dataset of ours
        return np.full((len(rows), 2), np.nan)
    place = dict(zip(ds.keys, np.asarray(ds.lonlat, np.float64), strict=True))
    return np.array([place[key] for key in data.shards[rows]]).reshape(-1, 2)


def _answer(statement: str, shared: int | None) -> dict[str, Any]:
    transductive = bool(shared) and statement.startswith("transductive")
    return {"statement": statement, "shared_samples": shared, "transductive": transductive}
