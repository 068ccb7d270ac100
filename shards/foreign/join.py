"""Fragments of several series of tars, joined by sample key.

Published series keep the same samples in tars of the same file name, so fragments are joined name
by name, which needs the memory of one group; where a key is in tars of different names, all are
joined at once.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fm.errors import FMError
from shards.foreign.declare import ArrayMember, Declaration
from shards.foreign.fragment import FAR, SHARE, Fragment
from shards.format import LabelInfo
from shards.index.parquet import IndexWriter, bounds, schema
from shards.sources.sensor_file import listed


@dataclass
class Joined:
    """Index rows, one a sample.

    Attributes:
        tables: of them, in order.
        counts: samples of each tar (those whose `shard` it is).
        present: how many samples have each array member.
    """

    tables: list[pa.Table]
    counts: Counter[str]
    present: Counter[str]

    @property
    def count(self) -> int:
        """Number of samples."""
        return sum(table.num_rows for table in self.tables)

    def write(self, path: Path, members: Sequence[str], labels: Mapping[str, LabelInfo]) -> None:
        """Write `index.parquet` with the columns of these members and labels."""
        names, box = schema(members, labels).names, None
        for table in self.tables:
            box = bounds(table, box)
        with IndexWriter(path, members, labels, box) as writer:
            for table in self.tables:
                writer.write(table.select(names))


def join(found: Sequence[Fragment], declared: Declaration, split: str | None) -> Joined:
    """Join fragments.

    Args:
        found: one a tar.
        declared: what the members are; series come in the order of its patterns.
        split: for samples that do not say theirs.

    Raises:
        FMError: a key comes twice with the same member, or members of one key lie apart.
    """
    members = [m.name for m in declared.all() if isinstance(m, ArrayMember)]
    order = {name: place for place, name in enumerate(members)}
    ranked = sorted(found, key=lambda f: min((order[m] for m in f.dtypes), default=len(order)))
    groups: dict[str, list[Fragment]] = {}
    for name in sorted({one.tar.rpartition("/")[2] for one in found}):
        groups[name] = [one for one in ranked if one.tar.rpartition("/")[2] == name]
    keys = [_keys(group) for group in groups.values()]
    if len(pc.unique(pa.concat_arrays(keys))) < sum(map(len, keys)):
        groups, keys = {"": list(ranked)}, [_keys(ranked)]
    result = Joined([], Counter(), Counter())
    for group, own in zip(groups.values(), keys, strict=True):
        table = _join(group, own, members, split)
        for item in table.column("shard").value_counts().to_pylist():
            result.counts[item["values"]] += item["counts"]
        for member in members:
            result.present[member] += len(own) - table.column(f"{member}.offset").null_count
        result.tables.append(table)
    return result


def _keys(group: Sequence[Fragment]) -> pa.Array:
    """Every key of a group once, in the order in which they come."""
    columns = [one.table.column("key").combine_chunks() for one in group]
    return pc.unique(pa.concat_arrays(columns))


def _join(
    group: Sequence[Fragment], keys: pa.Array, members: Sequence[str], split: str | None
) -> pa.Table:
    columns: dict[str, pa.Array] = {}
    names = group[0].table.column_names
    for one in group:
        place = pc.index_in(keys, value_set=one.table.column("key").combine_chunks())
        taken = one.table.take(place)
        new = {name: taken.column(name).combine_chunks() for name in names if name != "key"}
        if not columns:
            columns = new
            continue
        _check(columns, new, keys, members, one.tar)
        later = columns["time"].is_valid()  # `time` and `times` come from one member
        new["times"] = pc.if_else(later, pa.scalar(None, new["times"].type), new["times"])
        for name, values in new.items():
            if name == SHARE:
                columns[name] = pc.min_element_wise(columns[name], values)  # skips nulls
            else:
                columns[name] = pc.coalesce(columns[name], values)
    columns["key"] = keys
    share = columns[SHARE].cast(pa.float32())
    columns["valid_fraction"] = pc.coalesce(columns["valid_fraction"], share)
    if split is not None:
        columns["split"] = columns["split"].fill_null(split)
    for member in members:
        own = columns[f"{member}.shard"]
        here = pc.equal(own, columns["shard"]).fill_null(False)
        columns[f"{member}.shard"] = pc.if_else(here, pa.scalar(None, pa.string()), own)
    wanted = [name for name in names if name != SHARE]
    table = pa.table({name: columns[name] for name in wanted})
    return table.cast(group[0].table.select(wanted).schema)


def _check(
    one: Mapping[str, pa.Array],
    other: Mapping[str, pa.Array],
    keys: pa.Array,
    members: Sequence[str],
    tar: str,
) -> None:
    problems = []
    for member in members:
        both = pc.and_(one[f"{member}.offset"].is_valid(), other[f"{member}.offset"].is_valid())
        if pc.any(both).as_py():
            key = keys.filter(both)[0].as_py()
            before = one[f"{member}.shard"].filter(both)[0].as_py()
            problems.append(f"{member} of sample {key!r} is in {before} and in {tar}")
    places = []
    for table in (one, other):
        pair = [
            table[name].fill_null(np.nan).to_numpy(zero_copy_only=False) for name in ("lon", "lat")
        ]
        places.append(np.stack(pair))
    apart = np.abs(places[0] - places[1])
    apart[0] = np.minimum(apart[0], 360 - apart[0])
    far = np.flatnonzero(np.nan_to_num(apart).max(axis=0) > FAR)
    if len(far):
        row = int(far[0])
        before, here = (tuple(place[:, row].tolist()) for place in places)
        problems.append(
            f"sample {keys[row].as_py()!r} lies at {here} in {tar}, at {before} in another tar "
            f"({len(far)} samples differ)"
        )
    if problems:
        raise FMError(listed(problems))
