"""Building a dataset from a source: in parallel, and again from where it was stopped.

Every shard is made alone (`shards.building.part`) in a work folder beside the dataset,
`.NAME.building`. A build that was killed goes on from the shards that are there and whole; the
bytes of the result depend on the source and the options only, not on how many processes made it or
how often.
"""

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import pickle
import shutil
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fm.console import note, progress
from fm.errors import FMError, UsageError
from fm.files import fsync_folder, fsync_tree, read_json, write_json
from shards.building.assemble import LISTED, assemble, check_provenance, read_hashes, to_leave_out
from shards.building.executors import cores, open_executor
from shards.building.inputs import Files, stamp
from shards.building.part import Part, PartWriter, Place, Recipe
from shards.building.writer import make_recipe
from shards.codecs.codec import AUTO
from shards.codecs.video import Video
from shards.format import FORMAT_VERSION, DatasetInfo, read_info
from shards.sample import Sample
from shards.sources.base import Content, Skip

CODE = 2
"""Raised when the same source and options begin to give other bytes."""
_AHEAD = 3
"""Shards handed out for each that is being made, so that no worker waits."""


@dataclass(frozen=True)
class _Failed:
    problems: tuple[str, ...]


def build(
    out: str | os.PathLike[str],
    content: Content,
    *,
    codec: str = AUTO,
    video: Video | None = None,
    samples_per_shard: int = 128,
    workers: int | None = None,
    dask: str | None = None,
    min_valid: float = 0.0,
    drop_duplicates: bool = False,
) -> DatasetInfo:
    """Make a dataset of what a source has found.

    Args:
        out: the new folder; it appears when everything is written.
        content: what a source's `read` gave.
        codec: `auto` (the best for each dtype) or one of `shards.format.CODECS`.
        video: what the codec `video` may lose; nothing when None.
        samples_per_shard: consecutive tasks whose samples share a tar.
        workers: processes; 0 works in this one. None: one a core.
        dask: `local` or the address of a Dask scheduler, whose workers see the same folders.
        min_valid: samples with a smaller valid fraction are skipped.
        drop_duplicates: leave out samples whose pixels have come before, instead of naming the
            first one under `duplicate_of`.

    Returns:
        the description that was written. Its provenance counts skipped samples and copies under
        `quality`.

    Raises:
        FMError: samples that cannot be made (the first 20 are listed), another build's unfinished
            work in the way, or what `write_dataset` raises. What was made stays for the restart.
        UsageError: an option or a declaration is wrong.
    """
    out = Path(out).absolute()  # workers may stand elsewhere
    if samples_per_shard < 1:
        raise UsageError(f"samples_per_shard={samples_per_shard}: give at least 1")
    if not 0.0 <= min_valid <= 1.0:
        raise UsageError(f"min_valid={min_valid}: give a fraction from 0 to 1")
    if workers is not None and workers < 0:
        raise UsageError(f"workers={workers}: give 0 for this process, or a number of processes")
    recipe = make_recipe(
        content.name,
        content.modalities,
        content.labels,
        codec,
        video,
        min_valid=min_valid,
        durable=True,
    )
    check_provenance(content.provenance)
    identity = _identity(recipe, content, samples_per_shard, drop_duplicates)
    with _opened(out, identity) as work:
        if work is None:
            return read_info(out)
        place = Place(work / "dataset", work / "parts")
        jobs = _Jobs(recipe, place, content, samples_per_shard)
        lanes = min(cores() if workers is None else workers, jobs.count)
        here = lanes if dask or workers is not None or jobs.count > 1 else 0
        try:
            with open_executor(here, dask, work / "dask") as (executor, width):
                parts = jobs.run(executor, width, dict.fromkeys(range(jobs.count), None))
                if drop_duplicates:
                    parts = _without_copies(jobs, executor, width, parts)
        except KeyboardInterrupt:
            note(f"stopped; the same command goes on from {work}")
            raise
        except BrokenExecutor:
            raise FMError(
                "a worker ended without a word (out of memory?); the same command goes on from "
                f"{work}, perhaps with fewer --workers"
            ) from None
        info = assemble(recipe, place, parts, content.provenance, content.licence)
        _publish(place.folder, {shard.name for shard in info.shards}, out)
    return info


def _without_copies(jobs: "_Jobs", executor: Executor, width: int, parts: list[Part]) -> list[Part]:
    """Make those shards again that hold samples whose pixels have come before."""
    wanted = to_leave_out(read_hashes(jobs.place, parts), parts)
    again = {p.number: wanted[p.number] for p in parts if p.left_out != wanted[p.number]}
    made = {part.number: part for part in jobs.run(executor, width, again)} if again else {}
    return [made.get(part.number, part) for part in parts]


class _Jobs:
    """The shards of a build and how they are handed out."""

    def __init__(self, recipe: Recipe, place: Place, content: Content, per_shard: int) -> None:
        if not len(content.tasks):
            raise FMError(f"{content.name}: the source has found no samples")
        self.recipe, self.place = recipe, place
        self._content, self._per_shard = content, per_shard
        self.count = -(-len(content.tasks) // per_shard)

    def _span(self, number: int) -> range:
        first = number * self._per_shard
        return range(first, min(first + self._per_shard, len(self._content.tasks)))

    def run(
        self, executor: Executor, width: int, wanted: Mapping[int, Collection[int] | None]
    ) -> list[Part]:
        """Make parts and return them in order.

        Args:
            executor: where they are made.
            width: how many at a time.
            wanted: numbers of the parts, and which of their samples to leave out; None takes a
                finished part as it is.
        """
        parts: dict[int, Part] = {}
        problems: list[str] = []
        waiting: dict[Future[Part | _Failed], int] = {}
        order, started, done = iter(wanted.items()), time.monotonic(), 0
        with progress("writing shards", sum(len(self._span(k)) for k in wanted)) as bar:
            while len(problems) < LISTED:
                for number, left_out in itertools.islice(
                    order, max(1, _AHEAD * width) - len(waiting)
                ):
                    span = self._span(number)
                    tasks = [self._content.tasks[k] for k in span]
                    content = self._content
                    words = (self.recipe, self.place, number, content.make, content.files, tasks)
                    waiting[executor.submit(_make_part, *words, span.start, left_out)] = len(span)
                if not waiting:
                    break
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    count, result = waiting.pop(future), future.result()
                    if isinstance(result, _Failed):
                        problems += result.problems
                        continue
                    parts[result.number] = result
                    done += count
                    rate = done / max(time.monotonic() - started, 1e-3)
                    bar.advance(count, **{"samples/s": f"{rate:.0f}"})
        if problems:
            raise FMError(self._failure(problems, len(parts)))
        return [parts[number] for number in sorted(parts)]

    def _failure(self, problems: list[str], done: int) -> str:
        count = f"{LISTED} or more" if len(problems) >= LISTED else str(len(problems))
        return (
            f"{count} samples could not be made: {'; '.join(problems[:LISTED])}; mend the input "
            f"and run the same command again, {done} of {self.count} shards are kept in "
            f"{self.place.parts.parent}"
        )


def _make_part(
    recipe: Recipe,
    place: Place,
    number: int,
    make: Callable[[Any], Sample],
    files: Files | None,
    tasks: Sequence[Any],
    first: int,
    left_out: Collection[int] | None,
) -> Part | _Failed:
    """Make one part, or take the finished one of the same inputs; runs in any process."""
    inputs = stamp(files, tasks)
    if left_out is None:
        found = Part.read(place, number)
        if found is not None and found.inputs == inputs and found.intact(place):
            return found
    writer = PartWriter(recipe, place, number, left_out or ())
    problems: list[str] = []
    try:
        for k, task in enumerate(tasks, start=first):
            try:
                writer.add(make(task))
            except Skip as skip:
                writer.skip(str(skip), skip.name or f"task {k}")
            except FMError as error:
                problems.append(str(error))
            except Exception as error:
                at = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{Path(at.filename).name}:{at.lineno}"
                problems.append(f"task {k}: {type(error).__name__}: {error} ({where})")
            if len(problems) >= LISTED:
                break
        return (
            _Failed(tuple(" ".join(p.split()) for p in problems))
            if problems
            else writer.finish(inputs)
        )
    finally:
        writer.abandon()


def work_folder(out: Path) -> Path:
    """Return the folder where the unfinished state of a build lies."""
    return out.parent / f".{out.name}.building"


@contextlib.contextmanager
def _opened(out: Path, identity: Mapping[str, str]) -> Iterator[Path | None]:
    """Open and lock the work folder; None when the build had been finished before."""
    work = work_folder(out)
    state = work / "build.json"
    before = read_json(state, "state of a build") if state.exists() else None
    finished = out.exists() and before == identity and not (work / "dataset").exists()
    if out.exists() and not finished:
        raise FMError(f"{out} exists already; name another folder or remove it first")
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FMError(f"{work}: another process is building here; wait for it") from None
        if before is not None and before != identity:
            changed = [key for key in identity if before.get(key) != identity[key]]
            raise FMError(
                f"{work} holds an unfinished build with another {' and '.join(changed)}; run that "
                "one to its end, or remove the folder"
            )
        if finished:
            yield None
        else:
            for folder in ("dataset", "parts"):
                (work / folder).mkdir(exist_ok=True)
            for leftover in (work / "parts").glob("*.partial"):
                leftover.unlink()
            write_json(state, dict(identity))
            yield work
        for folder in ("parts", "dask"):
            shutil.rmtree(work / folder, ignore_errors=True)
        state.unlink()  # last: until now the same command tidies up
        shutil.rmtree(work)


def _publish(folder: Path, shards: set[str], out: Path) -> None:
    """Move the finished folder to its place."""
    for path in folder.iterdir():
        if path.suffix == ".tar" and path.name not in shards:
            path.unlink()  # a shard whose samples have all been left out since
    fsync_tree(folder)
    if out.exists():
        raise FMError(f"{out} appeared while it was being made; it is left as it is")
    os.replace(folder, out)
    fsync_folder(out.parent)


def _identity(
    recipe: Recipe, content: Content, samples_per_shard: int, drop_duplicates: bool
) -> dict[str, str]:
    """Digest everything that decides the bytes of a build, under names for the person."""
    return {
        "source": f"{content.name}: {_digest(content.make)}",
        "options": _digest((recipe, samples_per_shard, drop_duplicates)),
        "list of samples": _digest(content.tasks),
        "provenance or licence": _digest((dict(content.provenance), content.licence)),
        "version of eofm": f"format {FORMAT_VERSION}, builder {CODE}",
    }


def _digest(value: Any) -> str:
    digest = hashlib.sha256()
    items: Iterable[Any] = value if isinstance(value, Sequence) else [value]
    for item in items:
        try:
            text = json.dumps(item, sort_keys=True, default=_plain)
        except TypeError:  # keys that are no strings; a pickle is as good within one version
            text = pickle.dumps(item, protocol=4).hex()
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, partial):
        return ["partial", _plain(value.func), list(value.args), dict(value.keywords)]
    if is_dataclass(value) and not isinstance(value, type):
        named = {field.name: getattr(value, field.name) for field in fields(value)}
        return [type(value).__qualname__, named]
    if isinstance(value, (set, frozenset)):
        return ["set", sorted(json.dumps(item, default=_plain) for item in value)]
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.ndarray):
        content = hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()
        return ["array", value.dtype.str, list(value.shape), content]
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return [type(value).__qualname__, pickle.dumps(value, protocol=4).hex()]
