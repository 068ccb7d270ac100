"""Third-party tars into a dataset that reads them where they lie.

    index_tars(["S2L2A", "S1GRD"], "my-index", layout("ssl4eo-s12-v1.1"), name=..., licence=...)

The output is `dataset.json` (whose `root` says where the tars are), `index.parquet` and
`index.bin`; no byte of a tar is changed or copied. Tars are read in parallel, one fragment each,
and an interrupted run goes on with the tars that are missing. Series of tars (one a modality) are
joined by sample key.
"""

import dataclasses
import hashlib
import os
import shutil
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fm.console import progress
from fm.errors import FMError, UsageError
from fm.files import atomic_folder, sha256_file
from fm.statistics import Statistics
from shards.foreign import fragment as fragments
from shards.foreign.declare import ArrayMember, Declaration
from shards.foreign.fragment import Fragment
from shards.foreign.join import Joined, join
from shards.foreign.survey import Tars, find_tars, same_place, survey
from shards.format import (
    COLUMNS,
    DESCRIPTION,
    INDEX,
    DatasetInfo,
    ModalityInfo,
    ShardInfo,
    check_dataset_name,
    write_info,
)
from shards.sources.sensor_file import listed
from shards.storage.local import Storage, open_storage

_FORMAT = "2"
"""Of fragments; another number makes them all again."""


@dataclass(frozen=True)
class Indexed:
    """What was made.

    Attributes:
        info: the description.
        absent: by modality or mask, how many samples have none.
        ignored: by ending, how many members were passed over.
    """

    info: DatasetInfo
    absent: dict[str, int]
    ignored: dict[str, int]


def index_tars(
    places: list[str],
    out: str | os.PathLike[str],
    declared: Declaration,
    *,
    name: str = "",
    licence: str = "",
    split: str | None = None,
    every: int = 1,
    workers: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Indexed:
    """Index tars in place.

    Args:
        places: tars, folders with tars, or URLs of tars.
        out: folder for the index; the tars' own folder is allowed.
        declared: what the members are.
        name: of the dataset; the declaration's when empty.
        licence: of the data; the declaration's when empty.
        split: written for every sample that does not say its own.
        every: statistics are of one in so many samples; 0 for none, and nothing is decoded.
        workers: threads; the number of cores, at most 8, when None.
        cache: folder for tars behind URLs.
        overwrite: replace an index that is there.

    Raises:
        FMError: problems of the tars or of the declaration, the first 20 of them; the tars that
            were read are not read again when it is started again.
        UsageError: no name or licence, or places that cannot stand together.
    """
    out, tars = Path(out), find_tars(places)
    name, licence = name or declared.name, licence or declared.licence
    if every < 0:
        raise UsageError("statistics of one sample in how many: give a whole number, 0 for none")
    if not name or not licence:
        raise UsageError("say --name and --licence of the data; the declaration does not")
    check_dataset_name(name)
    inside = same_place(tars.root, out)
    taken = [out / part for part in ((DESCRIPTION, INDEX, COLUMNS) if inside else ("",))]
    if not overwrite and (there := [path for path in taken if path.exists()]):
        raise FMError(f"{there[0]} exists already; name another --out or remove it first")
    storage = open_storage(tars.root, cache=cache)
    seen = survey(storage, tars, declared)
    work = out.absolute().parent / f".{out.name}.indexing"
    work.mkdir(parents=True, exist_ok=True)
    found = _read_all(storage, tars, declared, work, seen.members, every, workers)
    storage.close()
    joined = join(found, declared, split)
    if inside:
        with atomic_folder(work / "made", overwrite=True) as folder:
            info = _write(folder, joined, found, declared, name, licence, every, None)
        for part in (INDEX, COLUMNS, DESCRIPTION):
            os.replace(work / "made" / part, out / part)
    else:
        root = tars.root if "://" in tars.root else os.path.abspath(tars.root)
        with atomic_folder(out, overwrite=overwrite, ours=(DESCRIPTION,)) as folder:
            info = _write(folder, joined, found, declared, name, licence, every, root)
    shutil.rmtree(work, ignore_errors=True)
    absent = {member: joined.count - joined.present[member] for member in info.members}
    return Indexed(info, {k: v for k, v in absent.items() if v}, dict(seen.ignored))


def _read_all(
    storage: Storage,
    tars: Tars,
    declared: Declaration,
    work: Path,
    counts: Mapping[str, int],
    every: int,
    workers: int | None,
) -> list[Fragment]:
    bands = {
        member.name: tuple(band.name for band in member.table)
        for member in declared.all()
        if isinstance(member, ArrayMember) and member.label is None
    }
    lock = threading.Lock()

    def one(number: int) -> Fragment | str:
        tar, series = tars.names[number], tars.series[number]
        stem = work / hashlib.sha256(tar.encode()).hexdigest()[:24]
        path = storage.local(tar)
        stat = path.stat()
        mark = _mark(tar, stat.st_size, stat.st_mtime_ns, declared, every, number)
        known = fragments.load(stem, mark, bands)
        if known is not None:
            with lock:
                bar.advance(counts[tar])
            return known
        try:
            made = fragments.make(
                path,
                tar,
                series,
                declared,
                stream=number,
                every=every,
                advance=step,
            )
        except (FMError, OSError) as error:
            return str(error)
        made.save(stem, mark)
        return made

    def step() -> None:
        with lock:
            bar.advance()

    threads = workers or min(8, os.cpu_count() or 1)
    total = sum(counts.values())
    with progress("reading members", total) as bar, ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(one, range(len(tars.names))))
    problems = [result for result in results if isinstance(result, str)]
    if problems:
        raise FMError(listed(problems))
    return [result for result in results if isinstance(result, Fragment)]


def _mark(tar: str, size: int, changed: int, declared: Declaration, every: int, number: int) -> str:
    """What a fragment depends on."""
    members = repr(sorted(declared.members.items())) + repr(declared.ignore)
    text = "\n".join(map(str, (_FORMAT, tar, size, changed, members, every, number)))
    return hashlib.sha256(text.encode()).hexdigest()


def _write(
    folder: Path,
    joined: Joined,
    found: list[Fragment],
    declared: Declaration,
    name: str,
    licence: str,
    every: int,
    root: str | None,
) -> DatasetInfo:
    dtypes = _dtypes(found)
    members = [m for m in declared.all() if isinstance(m, ArrayMember) and m.name in dtypes]
    modalities = {
        m.name: ModalityInfo(
            name=m.name,
            sensor=m.sensor,
            bands=tuple(band.name for band in m.table),
            dtype=dtypes[m.name],
            codec=m.codec,
            scale=1.0 if m.scale is None else float(m.scale),
            offset=0.0 if m.offset is None else float(m.offset),
            gsd_m=float(m.gsd_m),
            statistics=_statistics(m, found),
            nodata=m.nodata,
            table=m.table,
        )
        for m in members
        if m.label is None
    }
    masks = {m.name: m for m in members if m.label is not None}
    labels = {
        label.name: dataclasses.replace(
            label, dtype=dtypes[label.member], codec=masks[label.member].codec
        )
        if label.member in masks
        else label
        for label in declared.labels.values()
        if label.member is None or label.member in masks
    }
    if not modalities:
        raise FMError("no tar holds a declared modality; nothing was written")
    path = folder / INDEX
    joined.write(path, [*modalities, *masks], labels)
    info = DatasetInfo(
        name=name,
        modalities=modalities,
        labels=labels,
        provenance=_provenance(declared, every),
        licence=licence,
        shards=tuple(ShardInfo(f.tar, joined.counts[f.tar], f.size, f.sha256) for f in found),
        index_sha256=sha256_file(path),
        root=root,
    )
    from shards.index.columns_build import write_columns

    write_columns(path, info, folder / COLUMNS)
    write_info(folder, info)
    return info


def _dtypes(found: list[Fragment]) -> dict[str, str]:
    result: dict[str, tuple[str, str]] = {}
    problems = []
    for one in found:
        for member, dtype in one.dtypes.items():
            before, tar = result.setdefault(member, (dtype, one.tar))
            if before != dtype:
                problems.append(f"{member} is {before} in {tar} but {dtype} in {one.tar}")
    if problems:
        raise FMError(listed(problems))
    return {member: dtype for member, (dtype, _) in result.items()}


def _statistics(member: ArrayMember, found: list[Fragment]) -> dict[str, Any]:
    parts = [f.statistics[member.name] for f in found if member.name in f.statistics]
    if not parts:
        return {}
    whole = Statistics([band.name for band in member.table])
    for part in parts:
        whole.merge(part)
    return whole.to_dict()


def _provenance(declared: Declaration, every: int) -> dict[str, Any]:
    return {
        "source": declared.source,
        "made_by": "fm shards index (tars of others, read in place)",
        "statistics_of_one_sample_in": every,
        "members": {pattern: len(found) for pattern, found in declared.members.items()},
    }
