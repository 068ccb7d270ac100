"""A dataset without the samples that cannot be read any more, put in the place of the old one.

The tars that held them are written again without them, and with them the index, its copy and the
description; all else is linked. The new folder is made beside the old one and exchanged with it in
one step (`renameat2`, Linux), so a reader finds one or the other, also after a kill. File systems
that cannot exchange get two renames; a kill between them leaves the folder away, until the next
repair puts it back.
"""

import ctypes
import dataclasses
import datetime
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from fm.errors import FMError
from fm.files import fsync_folder, fsync_tree, sha256_file
from shards.codecs.codec import CorruptError
from shards.format import COLUMNS, DESCRIPTION, INDEX, DatasetInfo, ShardInfo, write_info
from shards.index.parquet import GROUP_ROWS, bounds
from shards.integrity.mend import PARTIAL, Assembly
from shards.sample import format_time
from shards.tar import end_of_archive

_OLD = ".repair.old"
_EXCHANGE = 2
NOTE = "statistics in this description are still those of all samples, with the dropped ones"


def check_droppable(info: DatasetInfo, table: pa.Table) -> None:
    """Raise `FMError` when the tars are not ours, or a sample does not lie in one tar."""
    elsewhere = any(
        f"{member}.shard" in table.column_names
        and table.column(f"{member}.shard").null_count < len(table)
        for member in info.members
    )
    if info.root is not None or table.column("sample.offset").null_count or elsewhere:
        raise FMError(
            f"{info.name}: its tars are somebody else's and are never rewritten; copy what is "
            "broken again (--from), or make the index again without it (`fm shards index`)"
        )


def drop(
    folder: Path,
    info: DatasetInfo,
    table: pa.Table,
    lost: Mapping[int, str],
    assemblies: Sequence[Assembly],
) -> DatasetInfo:
    """Replace a dataset by one without some samples.

    Args:
        folder: of the dataset.
        info: its description.
        table: its index.
        lost: the rows to drop, and why.
        assemblies: of every tar that holds one of them.

    Returns:
        the new description.

    Raises:
        FMError: nothing would be left, or bytes that were whole a moment ago are not any more.
    """
    kept = np.ones(len(table), bool)
    kept[list(lost)] = False
    if not kept.any():
        raise FMError(
            f"{folder}: no sample is whole, nothing would be left; copy the dataset again"
        )
    staging = folder.with_name(f".{folder.name}{PARTIAL}")
    staging.mkdir()
    changed = {assembly.shard.name: assembly for assembly in assemblies}
    _link(folder, staging, {*changed, INDEX, COLUMNS, DESCRIPTION})
    moved = np.zeros(len(table), np.int64)
    shards = []
    for shard in info.shards:
        if shard.name not in changed:
            shards.append(shard)
        elif (new := _rewrite(staging, changed[shard.name], kept, moved)) is not None:
            shards.append(new)
    rows = table.column("key").to_pylist()
    path = staging / INDEX
    pq.write_table(
        _index(table, info, kept, moved), path, compression="zstd", row_group_size=GROUP_ROWS
    )
    now = format_time(datetime.datetime.now(datetime.UTC))
    dropped = [{"key": rows[row], "reason": lost[row]} for row in sorted(lost)]
    past = list(info.provenance.get("repairs", ()))
    repairs = [*past, {"time": now, "dropped": dropped, "note": NOTE}]
    new_info = dataclasses.replace(
        info,
        shards=tuple(shards),
        index_sha256=sha256_file(path),
        provenance={**info.provenance, "repairs": repairs},
    )
    if (folder / COLUMNS).exists():
        from shards.index.columns_build import write_columns

        write_columns(path, new_info, staging / COLUMNS)
    write_info(staging, new_info)
    fsync_tree(staging)
    _exchange(staging, folder)
    shutil.rmtree(staging, ignore_errors=True)
    return new_info


def put_back(folder: Path) -> None:
    """Put the old dataset back when a repair was killed between two renames."""
    old = folder.with_name(f".{folder.name}{_OLD}")
    if old.exists() and not folder.exists():
        os.replace(old, folder)
        fsync_folder(folder.parent)


def clean_up(folder: Path) -> None:
    """Remove what a repair that was killed left behind; no other may be at work."""
    for name in (f".{folder.name}{PARTIAL}", f".{folder.name}{_OLD}"):
        if (leftover := folder.with_name(name)).exists():
            shutil.rmtree(leftover)
    for pattern in (f".*{PARTIAL}", f"*/.*{PARTIAL}"):
        for aside in folder.glob(pattern):
            aside.unlink()


def _link(folder: Path, staging: Path, but: set[str]) -> None:
    """Give the new folder every other file of the old one, by a link where that is possible."""
    for root, _, names in os.walk(folder):
        inside = Path(root).relative_to(folder)
        (staging / inside).mkdir(exist_ok=True)
        for name in names:
            if str(inside / name) in but or name.endswith(PARTIAL):
                continue
            try:
                os.link(folder / inside / name, staging / inside / name, follow_symlinks=False)
            except OSError:
                shutil.copy2(folder / inside / name, staging / inside / name, follow_symlinks=False)


def _rewrite(
    staging: Path, assembly: Assembly, kept: np.ndarray, moved: np.ndarray
) -> ShardInfo | None:
    """Write a tar without the lost samples; note by how many bytes each other one moved."""
    digest, size, count = hashlib.sha256(), 0, 0
    target = staging / assembly.shard.name
    target.parent.mkdir(exist_ok=True)
    with open(target, "xb") as stream:

        def write(piece: memoryview | bytes) -> None:
            stream.write(piece)
            digest.update(piece)

        for at, row in enumerate(assembly.spans.row.tolist()):
            if not kept[row]:
                continue
            check = xxhash.xxh3_64()
            try:
                for piece in assembly.range(at):
                    check.update(piece)
                    write(piece)
            except (OSError, CorruptError) as error:
                raise FMError(f"{assembly.shard.name}: {error}; run repair again") from None
            if check.intdigest() != int(assembly.spans.xxh3[at]):
                raise FMError(f"{assembly.shard.name} changed meanwhile; run repair again")
            moved[row] = size - int(assembly.spans.start[at])
            size, count = size + int(assembly.spans.size[at]), count + 1
        write(bytes(end_of_archive(size)))
    if not count:
        target.unlink()
        return None
    total = size + end_of_archive(size)
    return ShardInfo(assembly.shard.name, count, total, digest.hexdigest())


def _index(table: pa.Table, info: DatasetInfo, kept: np.ndarray, moved: np.ndarray) -> pa.Table:
    """Return the rows that are kept, with the places where their bytes are now."""
    for name in ("sample", *info.members):
        place = table.schema.get_field_index(f"{name}.offset")
        old = table.column(place).combine_chunks()
        null = old.is_null().to_numpy(zero_copy_only=False)
        new = old.fill_null(0).to_numpy(zero_copy_only=False) + moved
        table = table.set_column(
            place, table.schema.field(place), pa.array(new, pa.int64(), mask=null)
        )
    if "duplicate_of" in table.column_names:
        place = table.schema.get_field_index("duplicate_of")
        keys, first = table.column("key").to_pylist(), table.column(place).to_pylist()
        gone = {key for key, stays in zip(keys, kept.tolist(), strict=True) if not stays}
        heirs: dict[str, str] = {}
        for row in np.flatnonzero(kept).tolist():
            if first[row] in gone:  # its own pixels are the first now, or its heir's
                heir = heirs.setdefault(first[row], keys[row])
                first[row] = None if heir == keys[row] else heir
        table = table.set_column(place, table.schema.field(place), pa.array(first, pa.string()))
    table = table.filter(pa.array(kept))
    metadata = dict(table.schema.metadata or {})
    geo = json.loads(metadata.get(b"geo", b"{}"))
    if "bbox" in geo.get("columns", {}).get("geometry", {}) and (box := bounds(table)):
        geo["columns"]["geometry"]["bbox"] = box
        metadata[b"geo"] = json.dumps(geo).encode()
    return table.replace_schema_metadata(metadata)


def _exchange(new: Path, folder: Path) -> None:
    """Let two folders change places in one step, or in two where that cannot be."""
    libc: Any = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        here = -100  # AT_FDCWD
        paths = (os.fsencode(new), os.fsencode(folder))
        if libc.renameat2(here, paths[0], here, paths[1], _EXCHANGE) == 0:
            fsync_folder(folder.parent)
            return
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise FMError(
                f"{folder}: cannot be replaced ({os.strerror(code)}); nothing was changed"
            )
    old = folder.with_name(f".{folder.name}{_OLD}")
    os.replace(folder, old)
    os.replace(new, folder)
    fsync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)
