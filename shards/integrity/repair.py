"""Repair: what is broken is copied again from another copy, and what cannot be is dropped.

Every byte that is taken is compared with a checksum of the dataset's own index or description
first, so the other copy may be damaged too, or be of another state. A tar is put together range by
range (`shards.integrity.mend`), from whichever side has each one whole. What was copied again is
what was written, so each file is put in place on its own. Dropping samples changes several files at
once (`shards.integrity.drop`).
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from fm.console import note
from fm.errors import FMError, UsageError
from fm.files import sha256_file, write_atomic
from shards.format import COLUMNS, DESCRIPTION, INDEX, DatasetInfo
from shards.index.columns_build import write_columns
from shards.integrity.drop import check_droppable, clean_up, drop, put_back
from shards.integrity.mend import PARTIAL, Assembly, replace
from shards.integrity.spans import Catalogue
from shards.integrity.verify import THREADS, Report, check, describe, read_description, read_index
from shards.storage.local import LocalStorage, Storage, open_storage

_LISTED = 10
_PIECE = 1 << 20


@dataclass
class Repaired:
    """What `repair` did, or would do.

    Attributes:
        path: the dataset folder.
        mended: files that are whole again.
        dropped: why each sample was dropped, by key.
        left: what is still broken, and what would mend it.
        dry_run: nothing was written.
    """

    path: str
    mended: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    dry_run: bool = False

    @property
    def ok(self) -> bool:
        """True when nothing is (or would be) left broken."""
        return not self.left

    def to_dict(self) -> dict[str, Any]:
        """Return this for `--json`."""
        return {"format_version": 1, "ok": self.ok, **dataclasses.asdict(self)}


def repair(
    path: str | os.PathLike[str],
    copy: str | os.PathLike[str] | None = None,
    *,
    drop_lost: bool = False,
    dry_run: bool = False,
    threads: int = THREADS,
    journal: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> Repaired:
    """Make a dataset whole again.

    What needs no copy is mended in any case: `index.bin`, and the end of a tar.

    Args:
        path: the dataset folder.
        copy: another copy of it, a folder or URL; it may be damaged itself.
        drop_lost: drop the samples that are whole in neither; the dataset is another one then,
            with another manifest hash, and its provenance lists them.
        dry_run: only say what would be done.
        threads: tars that are read at the same time to find what is broken.
        journal: of an earlier `verify`, to pass over tars that have not changed since.
        cache: folder for what is fetched from a URL.

    Returns:
        what was done, and what is left.

    Raises:
        FMError: no such dataset; it is at a URL; its description cannot be read and `copy` has
            none that fits; nothing would be left; or another repair is at work.
        UsageError: `copy` is the dataset itself.
    """
    if "://" in os.fspath(path):
        raise FMError(f"{path}: only a folder can be repaired; repair the one that is served there")
    folder = Path(path).absolute()
    folder = folder.resolve() if folder.is_symlink() else folder
    if not dry_run:
        put_back(folder)
    if not folder.is_dir():
        raise FMError(f"{folder}: no such dataset folder")
    if copy is not None and "://" not in os.fspath(copy) and Path(copy).resolve() == folder:
        raise UsageError(f"--from {copy} is the dataset itself; name another copy")
    with _locked(folder), contextlib.ExitStack() as stack:
        if not dry_run:
            clean_up(folder)
        here = stack.enter_context(contextlib.closing(open_storage(folder)))
        there = None
        if copy is not None:
            there = stack.enter_context(contextlib.closing(open_storage(copy, cache)))
        work = _Work(folder, here, there, Repaired(str(folder), dry_run=dry_run))
        work.run(drop_lost, threads, journal, cache)
        return work.result


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FMError(f"{folder}: another repair is at work; wait for it") from None
        except OSError:  # a file system without locks
            note(f"{folder}: cannot be locked; run no other repair meanwhile")
        yield
    finally:
        os.close(descriptor)


def _copied(source: Path, target: Path) -> str:
    """Copy a file, and return the SHA-256 of what was written."""
    digest = hashlib.sha256()
    with open(source, "rb") as stream, open(target, "wb") as out:
        while piece := stream.read(_PIECE):
            digest.update(piece)
            out.write(piece)
    return digest.hexdigest()


class _Work:
    def __init__(
        self, folder: Path, here: Storage, there: Storage | None, result: Repaired
    ) -> None:
        self._folder, self._here, self._there, self.result = folder, here, there, result
        self._left = result.left.append

    def run(self, drop_lost: bool, threads: int, journal: Any, cache: Any) -> None:
        info = self._description()
        with contextlib.ExitStack() as stack:
            tars, others = self._here, self._there
            if info.root is not None:
                tars = stack.enter_context(contextlib.closing(open_storage(info.root, cache)))
            if others is not None:
                with contextlib.suppress(FMError):  # a folder with the tars alone is a copy, too
                    if (root := describe(others).root) is not None:
                        others = open_storage(root, cache)
                        stack.enter_context(contextlib.closing(others))
            report, table = check(self._here, tars, info, threads=threads, journal=journal)
            if table is None:
                table = self._index(info)
            if table is not None:
                self._columns(info, report)
            self._tars(info, report, table, (tars, others), drop_lost)
        for problem in report.problems:
            if problem.kind == "extra":
                self._left(f"{problem.shard}: no part of the dataset; remove it yourself")
            elif problem.kind == "index" and problem.shard is None and not self._replaced(table):
                self._left(f"{problem}; build the dataset again")

    def _replaced(self, table: pa.Table | None) -> bool:
        """Say whether problems of the index are told or mended already."""
        return table is None or INDEX in self.result.mended

    def _description(self) -> DatasetInfo:
        """Return the description, from the other copy when the own one is broken."""
        try:
            return describe(self._here)
        except FMError as error:
            if self._there is None:
                raise FMError(f"{error}; give another copy with --from") from None
        info, data = read_description(self._there)
        if not any(self._fits(info, name) for name in (INDEX, *(s.name for s in info.shards))):
            raise FMError(
                f"{self._there.url} describes another dataset than {self._folder} holds; "
                "name a copy of this one"
            )
        if not self.result.dry_run:
            write_atomic(self._folder / DESCRIPTION, data)
        self.result.mended.append(DESCRIPTION)
        return info

    def _fits(self, info: DatasetInfo, name: str) -> bool:
        wanted = {shard.name: shard.sha256 for shard in info.shards} | {INDEX: info.index_sha256}
        path = self._folder / name
        return path.is_file() and sha256_file(path) == wanted[name]

    def _index(self, info: DatasetInfo) -> pa.Table | None:
        """Take the index from the other copy, when it is the one that is described."""
        if self._there is None:
            self._left(f"{INDEX}: is broken; give a copy with --from")
            return None
        report = Report(self._there.url)
        table = read_index(self._there, info, report)
        if table is None:
            self._left(f"{INDEX}: is broken here and in the copy; give another copy with --from")
            return None
        if not self.result.dry_run:
            aside = self._folder / f".{INDEX}{PARTIAL}"
            # read again, so compared again: what is put in place is what was looked into
            if _copied(self._there.local(INDEX), aside) != info.index_sha256:
                aside.unlink()
                raise FMError(f"{self._there.url}/{INDEX} changed meanwhile; run repair again")
            replace(aside, self._folder / INDEX)
        self.result.mended.append(INDEX)
        return table

    def _columns(self, info: DatasetInfo, report: Report) -> None:
        """Make `index.bin` again where it does not agree with the index."""
        stale = INDEX in self.result.mended and (self._folder / COLUMNS).exists()
        if not stale and not any(problem.kind == "columns" for problem in report.problems):
            return
        if not self.result.dry_run:
            aside = self._folder / f".{COLUMNS}{PARTIAL}"
            write_columns(self._folder / INDEX, info, aside)
            replace(aside, self._folder / COLUMNS)
        self.result.mended.append(COLUMNS)

    def _tars(
        self,
        info: DatasetInfo,
        report: Report,
        table: pa.Table | None,
        copies: tuple[Storage, Storage | None],
        drop_lost: bool,
    ) -> None:
        """Mend every tar that has a problem, and drop or list what cannot be mended."""
        catalogue = None if table is None else Catalogue(table, info)
        lost: dict[int, str] = {}
        broken: list[Assembly] = []
        for shard in info.shards:
            problems = [problem for problem in report.problems if problem.shard == shard.name]
            if not problems:
                continue
            assembly = Assembly(shard, catalogue, *copies)
            if isinstance(copies[0], LocalStorage):
                if assembly.mend(copies[0].local(shard.name), dry_run=self.result.dry_run):
                    self.result.mended.append(shard.name)
                    continue
            else:
                self._left(f"{shard.name}: lies at {copies[0].url}; mend it there")
                continue
            broken.append(assembly)
            reasons = {problem.key: problem.detail for problem in problems if problem.key}
            for row in assembly.lost.tolist():
                key = catalogue.key(row) if catalogue else ""
                lost[row] = reasons.get(key, problems[0].detail)
            if catalogue:
                # its range is whole, and still the index contradicts itself about it
                whole = assembly.spans.row[assembly.source == 0].tolist()
                named = {
                    row: reasons[key] for row in whole if (key := catalogue.key(row)) in reasons
                }
                lost = named | lost
        if not broken:
            return
        if drop_lost and table is not None and catalogue is not None and lost:
            check_droppable(info, table)
            self.result.dropped = {catalogue.key(row): why for row, why in sorted(lost.items())}
            if not self.result.dry_run:
                drop(self._folder, info, table, lost, broken)
            return
        for assembly in broken:
            self._left(self._needs(assembly, catalogue, lost))

    def _needs(self, assembly: Assembly, catalogue: Catalogue | None, lost: Any) -> str:
        """Say what would mend a tar."""
        name, rows = assembly.shard.name, [r for r in assembly.spans.row.tolist() if r in lost]
        copy = "the copy has them broken too: name another one" if self._there else "name a copy"
        if catalogue is None or not rows:
            return f"{name}: is broken; {copy.replace('has them', 'has it')} with --from"
        keys = ", ".join(catalogue.key(row) for row in rows[:_LISTED])
        more = ", ..." if len(rows) > _LISTED else ""
        return f"{name}: {len(rows)} samples ({keys}{more}); {copy} with --from, or --drop them"
