"""From parts to a dataset: `index.parquet`, `index.bin`, merged statistics, `dataset.json` last.

Parts are read one after another in shard order, so the bytes depend on nothing but the parts, and
what is held of a sample is its hashes (about 120 bytes while they are compared).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from fm.errors import FMError, UsageError
from fm.files import sha256_file
from fm.statistics import Statistics
from shards.building.copies import Near, first_equal, near_equal
from shards.building.part import NAMED, Part, Place, Recipe
from shards.codecs.quality import Quality
from shards.format import (
    COLUMNS,
    INDEX,
    DatasetInfo,
    LabelInfo,
    ModalityInfo,
    write_info,
)
from shards.index import parquet as index
from shards.index.columns_build import write_columns

QUALITY = "quality"
"""Key of the provenance under which skipped samples and copies are counted."""
LISTED = 20
"""Things that one message or the description names; more are counted."""


@dataclass(frozen=True)
class Hashes:
    """Hashes of every sample that was made, in order.

    Attributes:
        keys: xxh3-64 of the sample keys, `[N]`.
        first: for each sample the first one with the same pixels, `[N]`.
        looks: perceptual hashes, `[N]`.
        labels: xxh3-64 of what is known of the sample, masks too, `[N]`.
        kept: false for samples that were left out as copies, `[N]`.
    """

    keys: np.ndarray
    first: np.ndarray
    looks: np.ndarray
    labels: np.ndarray
    kept: np.ndarray

    @property
    def later(self) -> np.ndarray:
        """Places of the samples that have come before."""
        return np.flatnonzero(self.first != np.arange(len(self.first)))


def read_hashes(place: Place, parts: Sequence[Part]) -> Hashes:
    """Compare the samples of all parts."""
    count = sum(part.made for part in parts)
    keys, high, low, looks, labels = (np.empty(count, np.uint64) for _ in range(5))
    kept = np.empty(count, bool)
    for part, start, state in _states(place, parts):
        span = slice(start, start + part.made)
        keys[span], high[span], low[span], looks[span] = state["hashes"].T
        labels[span], kept[span] = state["labels"], state["kept"]
    return Hashes(keys, first_equal(high, low), looks, labels, kept)


def to_leave_out(hashes: Hashes, parts: Sequence[Part]) -> dict[int, tuple[int, ...]]:
    """Return for each part, by number, which of its samples are copies of earlier ones."""
    ends = np.cumsum([part.made for part in parts])
    pieces = np.split(hashes.later, np.searchsorted(hashes.later, ends))
    return {
        part.number: tuple((piece - (end - part.made)).tolist())
        for part, end, piece in zip(parts, ends, pieces, strict=False)
    }


def check_provenance(provenance: Mapping[str, Any]) -> None:
    """Raise `UsageError` when a provenance is no JSON, or has the key that the writer adds."""
    if QUALITY in provenance:
        raise UsageError(
            f"the provenance key {QUALITY!r} is the writer's own; name yours otherwise"
        )
    try:
        json.dumps(dict(provenance), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the provenance is no JSON ({error}); give plain values") from None


def assemble(
    recipe: Recipe,
    place: Place,
    parts: Sequence[Part],
    provenance: Mapping[str, Any],
    licence: str,
) -> DatasetInfo:
    """Write the index and the description beside the tars.

    Args:
        recipe: of the dataset.
        place: where the parts lie.
        parts: in shard order.
        provenance: where the data came from (JSON); `quality` is added.
        licence: of the data.

    Raises:
        FMError: no sample, a key that comes twice, a member with two types or of no sample.
    """
    if QUALITY in provenance:
        raise UsageError(
            f"the provenance key {QUALITY!r} is the writer's own; name yours otherwise"
        )
    shards = tuple(part.shard for part in parts if part.shard is not None)
    if not shards:
        raise FMError(f"no samples came; nothing was written{_skips_in_words(parts)}")
    dtypes = _dtypes(recipe, parts)
    hashes = read_hashes(place, parts)
    _check_keys(place, parts, hashes)
    near = _near(hashes)
    named = _write_index(recipe, place, parts, hashes, near.pairs)
    statistics, lost = _merge(recipe, place, parts)
    labels = {label.name: _stored(recipe, dtypes, label) for label in recipe.labels.values()}
    differ = hashes.labels[hashes.later] != hashes.labels[hashes.first[hashes.later]]
    report = {
        "min_valid": recipe.min_valid,
        "skipped": _skipped(parts),
        "duplicates": len(hashes.later),
        "dropped_duplicates": int((~hashes.kept).sum()),
        "duplicates_with_other_labels": int(differ.sum()),
        "near_duplicates": near.count,
        "near_duplicate_pairs": [[named[a], named[b]] for a, b in near.pairs],
    }
    info = DatasetInfo(
        name=recipe.name,
        modalities={
            name: _modality(recipe, name, dtypes[name], statistics[name], lost.get(name))
            for name in recipe.modalities
        },
        labels=labels,
        provenance=json.loads(json.dumps({**provenance, QUALITY: report}, allow_nan=False)),
        licence=licence,
        shards=shards,
        index_sha256=sha256_file(place.folder / INDEX),
    )
    write_columns(place.folder / INDEX, info, place.folder / COLUMNS)
    write_info(place.folder, info)
    return info


def _modality(
    recipe: Recipe, name: str, dtype: str, statistics: Statistics, lost: Quality | None
) -> ModalityInfo:
    known = recipe.modalities[name]
    return ModalityInfo(
        name=name,
        sensor=known.sensor,
        bands=known.bands,
        dtype=dtype,
        codec=recipe.codec_of(name, dtype),
        scale=known.scale,
        offset=known.offset,
        gsd_m=known.gsd_m,
        statistics=statistics.to_dict(),
        nodata=known.nodata,
        table=known.table,
        quality=None if lost is None else lost.to_dict(),
    )


def _stored(recipe: Recipe, dtypes: Mapping[str, str], label: LabelInfo) -> LabelInfo:
    if label.member is None:
        return label
    dtype = dtypes[label.member]
    return replace(label, dtype=dtype, codec=recipe.codec_of(label.member, dtype))


def _states(
    place: Place, parts: Sequence[Part]
) -> Iterator[tuple[Part, int, Mapping[str, np.ndarray]]]:
    start = 0
    for part in parts:
        with np.load(place.file(part.number, "npz"), allow_pickle=False) as state:
            yield part, start, state
        start += part.made


def _tables(place: Place, parts: Sequence[Part]) -> Iterator[tuple[np.ndarray, pa.Table]]:
    """Yield the places of a part's rows, and the rows."""
    for part, start, state in _states(place, parts):
        rows = start + np.flatnonzero(state["kept"])
        with pa.OSFile(str(place.file(part.number, "arrow"))) as file:
            yield rows, pa.ipc.open_file(file).read_all()


def _dtypes(recipe: Recipe, parts: Sequence[Part]) -> dict[str, str]:
    found: dict[str, tuple[str, int]] = {}
    for part in parts:
        for member, dtype in part.dtypes.items():
            before, number = found.setdefault(member, (dtype, part.number))
            if before != dtype:
                raise FMError(
                    f"{member} is {before} in {recipe.shard(number)} but {dtype} in "
                    f"{recipe.shard(part.number)}; a member has one dtype"
                )
    if missing := [member for member in recipe.members if member not in found]:
        raise FMError(f"no sample holds {missing[0]!r}; declare only what there is")
    return {member: dtype for member, (dtype, _) in found.items()}


def _check_keys(place: Place, parts: Sequence[Part], hashes: Hashes) -> None:
    rows = np.flatnonzero(hashes.kept)
    keys = hashes.keys[rows]
    first = first_equal(keys, np.zeros_like(keys))
    again = np.flatnonzero(first != np.arange(len(first)))
    if not again.size:
        return
    suspects = np.unique(rows[np.concatenate([again, first[again]])])
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for key in _keys(place, parts, suspects).values():
        if key in seen:
            twice[key] = None
        seen.add(key)
    if twice:
        names = ", ".join(repr(key) for key in list(twice)[:LISTED])
        more = f" and {len(twice) - LISTED} more" if len(twice) > LISTED else ""
        raise FMError(f"sample key {names}{more} comes twice; keys must be unique")


def _keys(place: Place, parts: Sequence[Part], wanted: np.ndarray) -> dict[int, str]:
    """Look up the keys of some samples by place (rising, of samples that were kept)."""
    found: dict[int, str] = {}
    for rows, table in _tables(place, parts):
        at = _among(rows, wanted)
        keys = table.column("key").take(pa.array(at)).to_pylist()
        found |= zip(rows[at].tolist(), keys, strict=True)
    return found


def _among(rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return where in `rows` the wanted ones are (both rise; a part has all of its range)."""
    if not rows.size:
        return rows
    low, high = np.searchsorted(wanted, (rows[0], rows[-1] + 1))
    return np.searchsorted(rows, wanted[low:high])


def _near(hashes: Hashes) -> Near:
    places = np.flatnonzero(hashes.first == np.arange(len(hashes.first)))
    return near_equal(hashes.looks[places], places)


def _write_index(
    recipe: Recipe,
    place: Place,
    parts: Sequence[Part],
    hashes: Hashes,
    pairs: Sequence[tuple[int, int]],
) -> dict[int, str]:
    """Write the index; return the keys of the samples in `pairs`."""
    firsts = np.unique(hashes.first[hashes.later])
    named = np.array(sorted({k for pair in pairs for k in pair}), np.int64)
    wanted = np.union1d(firsts, named)
    keys: dict[int, str] = {}
    boxes = [part.box for part in parts if part.box is not None]
    box = None
    if boxes:
        west, south, east, north = zip(*boxes, strict=True)
        box = [min(west), min(south), max(east), max(north)]
    waiting: list[pa.Table] = []
    path = place.folder / INDEX
    path.unlink(missing_ok=True)
    with index.IndexWriter(path, recipe.members, recipe.labels, box) as writer:
        for rows, table in _tables(place, parts):
            mine = table.column("key").to_pylist()
            at = _among(rows, wanted)
            keys |= {int(rows[k]): mine[k] for k in at}
            origin = hashes.first[rows]
            names = [
                None if row == before else keys[before]
                for row, before in zip(rows.tolist(), origin.tolist(), strict=True)
            ]
            column = table.schema.get_field_index("duplicate_of")
            field = table.schema.field(column)
            waiting.append(table.set_column(column, field, pa.array(names, field.type)))
            _write_groups(writer, waiting, index.GROUP_ROWS)
        _write_groups(writer, waiting, 1)
    return keys


def _write_groups(writer: index.IndexWriter, waiting: list[pa.Table], enough: int) -> None:
    """Write full row groups; keep the rest waiting (nothing when `enough` is 1)."""
    count = sum(table.num_rows for table in waiting)
    if count < enough:
        return
    table = pa.concat_tables(waiting).combine_chunks()
    whole = count - count % index.GROUP_ROWS if enough > 1 else count
    writer.write(table.slice(0, whole))
    waiting[:] = [table.slice(whole)] if whole < count else []


def _merge(
    recipe: Recipe, place: Place, parts: Sequence[Part]
) -> tuple[dict[str, Statistics], dict[str, Quality]]:
    merged = {name: Statistics(known.bands) for name, known in recipe.modalities.items()}
    lost: dict[str, Quality] = {}
    for _, _, state in _states(place, parts):
        for name, statistics in merged.items():
            arrays = _of(state, f"{name}.")
            statistics.merge(Statistics.from_arrays(recipe.modalities[name].bands, arrays))
            if sums := _of(state, f"{name}.lost."):
                more = Quality.from_arrays(sums)
                lost[name] = lost[name] + more if name in lost else more
    return merged, lost


def _of(state: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}


def _skipped(parts: Sequence[Part]) -> dict[str, dict[str, Any]]:
    """Add the reasons of all parts; past `LISTED` reasons the rest is one."""
    result: dict[str, dict[str, Any]] = {}
    for part in parts:
        for reason, one in part.skipped.items():
            known = reason in result or len(result) < LISTED
            entry = result.setdefault(
                reason if known else "other reasons", {"count": 0, "first": []}
            )
            entry["count"] += one["count"]
            entry["first"] = [*entry["first"], *one["first"]][:NAMED]
    return result


def _skips_in_words(parts: Sequence[Part]) -> str:
    skipped = _skipped(parts)
    if not skipped:
        return ""
    reasons = "; ".join(f"{reason} ({one['count']})" for reason, one in skipped.items())
    return f": all were skipped: {reasons}"
