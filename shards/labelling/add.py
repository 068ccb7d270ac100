"""A dataset with one more label: a new folder, whose tars are those of the old one.

Tars are linked, not copied; where they cannot be (another disk, a URL, somebody else's), the new
description says where they lie. The folder appears when it is complete, or not at all.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fm.errors import FMError
from fm.files import atomic_folder, sha256_file
from shards.dataset import Dataset
from shards.format import COLUMNS, INDEX, DatasetInfo, LabelInfo, check_labels, write_info
from shards.index import parquet as index_file
from shards.index.columns_build import write_columns
from shards.sample import check_label


def add_label(
    ds: Dataset,
    label: LabelInfo,
    values: Sequence[Any],
    out: str | os.PathLike[str],
    about: Mapping[str, Any],
) -> DatasetInfo:
    """Write a dataset with a further label.

    Args:
        ds: all its samples, not some.
        label: new, of any kind but a mask.
        values: one a sample in the order of the index, as `Sample.labels` has them; None where
            unknown.
        out: folder of the new dataset.
        about: goes into the provenance, under `labels_added`.

    Returns:
        the new description; its manifest hash is another one.

    Raises:
        FMError: the name is taken, a value is not of the label's kind, `out` exists.
    """
    info = ds.info
    if info.format_version < 2:
        raise FMError(f"{ds.place}: written in format 1; build it again to label it")
    if label.name in info.labels:
        raise FMError(f"{ds.place} has a label {label.name} already; name the new one otherwise")
    if Path(out).resolve() == Path(ds.place).resolve():
        raise FMError(f"{out} is the dataset itself; name a new folder (its tars are linked)")
    labels = {**info.labels, label.name: label}
    check_labels(labels, info.modalities)
    table = index_file.read(ds.parquet, info)
    keys = table.column("key").to_pylist()
    checked = [
        None if value is None else check_label(f"sample {key}", value, label)
        for key, value in zip(keys, values, strict=True)
    ]
    kind = index_file.schema(info.members, labels).field(label.name)
    table = table.append_column(kind, pa.array(checked, kind.type))
    past = list(info.provenance.get("labels_added", ()))
    with atomic_folder(out) as staging:
        root = info.root if info.root is not None else _linked(ds, staging)
        path = staging / INDEX
        pq.write_table(table, path, compression="zstd", row_group_size=index_file.GROUP_ROWS)
        new = dataclasses.replace(
            info,
            labels=labels,
            index_sha256=sha256_file(path),
            root=root,
            provenance={
                **info.provenance,
                "labels_added": [*past, {"label": label.name, "to": info.manifest_hash, **about}],
            },
        )
        write_columns(path, new, staging / COLUMNS)
        write_info(staging, new)
    return new


def _linked(ds: Dataset, staging: Path) -> str | None:
    """Link the tars into the new folder; return where they lie if they cannot be."""
    if "://" in ds.place:
        return ds.place
    folder = Path(ds.place).resolve()
    made: list[Path] = []
    try:
        for shard in ds.info.shards:
            target = staging / shard.name
            target.parent.mkdir(exist_ok=True)
            os.link(folder / shard.name, target)
            made.append(target)
    except FileNotFoundError as error:
        raise FMError(f"{folder}: {error.filename} is missing; copy the dataset again") from None
    except OSError:  # another disk, or a file system without links
        for target in made:
            target.unlink()
        return str(folder)
    return None
