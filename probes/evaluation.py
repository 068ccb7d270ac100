"""`probes.evaluate`: a model, a benchmark and a protocol become a result with floors."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fm
from fm.errors import FMError, UsageError
from fm.files import sha256_file
from probes import backbones, bands, floors, overlap
from probes.answers import Scored
from probes.axes import vary
from probes.backbones.adapter import Adapter
from probes.benchmarks import Benchmark, Data, get_benchmark
from probes.families.job import Job
from probes.feeding import fed, priced
from probes.judge import judge
from probes.protocols import Protocol, get_protocol
from probes.result import Result, environment
from probes.statistics import LEVEL, RESAMPLES, intervals, paired


def evaluate(
    model: Any,
    benchmark: str,
    protocol: str,
    *,
    data: str | os.PathLike[str],
    seed: int = 0,
    cache: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    adapt: bool = False,
    with_floors: bool = True,
    axes: Mapping[str, Any] | None = None,
    processes: int = 1,
    command: str | None = None,
) -> Result:
    """Judge a model by one protocol.

    Args:
        model: a checkpoint folder, a model with `encode` (`probes.backbones.load` for those of
            others), or None for a floor.
        benchmark: such as `"indian-pines"` or `"indian-pines@1"`.
        protocol: such as `"linear"` or `"linear@1"`.
        data: the dataset folder the benchmark reads.
        seed: of everything that is random, the random-initialised floor and the bootstrap too.
        cache: folder for features; None keeps none.
        out: folder for the result's JSON and the floors'; None writes nothing.
        adapt: let a model with other bands be adapted by the bands it shares.
        with_floors: also judge the floors and put the paired differences into the result.
        axes: how pixels come to the model where it is not the protocol's way, see
            `probes.settings.features.Axes`.
        processes: that share the encoding; no number depends on it.
        command: the command line, for the record.

    Returns:
        the model's result.

    Raises:
        UsageError: an unknown name, or bands, benchmark and protocol that do not go together.
        FMError: the data or the checkpoint cannot be read.
    """
    return evaluate_many(
        model,
        benchmark,
        [protocol],
        data=data,
        seed=seed,
        cache=cache,
        out=out,
        adapt=adapt,
        with_floors=with_floors,
        cells=[axes or {}],
        processes=processes,
        command=command,
    )[0]


def evaluate_many(
    model: Any,
    benchmark: str,
    protocols: Sequence[str],
    *,
    data: str | os.PathLike[str],
    seed: int = 0,
    cache: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    adapt: bool = False,
    with_floors: bool = True,
    cells: Sequence[Mapping[str, Any]] = ({},),
    processes: int = 1,
    command: str | None = None,
) -> list[Result]:
    """Judge a model by several protocols; the floors are judged once. Arguments as `evaluate`.

    `cells` are the axes of each cell of a table, as `axes` of `evaluate`: every protocol on a model
    is run in each.

    Returns:
        the model's results in the order of `protocols` and cells, then those of the floors.
    """
    chosen = get_benchmark(benchmark)
    recipes = [get_protocol(name) for name in dict.fromkeys(protocols)]
    for recipe in recipes:
        if chosen.protocols is not None and recipe.name not in chosen.protocols:
            raise UsageError(
                f"{chosen.full_name} takes the protocol {', '.join(chosen.protocols)} alone, not "
                f"{recipe.name}: {chosen.why_only}"
            )
        if recipe.needs_model and model is None:
            raise UsageError(f"the protocol {recipe.full_name} needs a model; name its folder")
    varied = [vary(recipe, cell) for recipe in recipes for cell in cells]
    varied = [one for n, one in enumerate(varied) if one not in varied[:n]]
    session = _Session(chosen, chosen.load(Path(data)), seed, _path(cache), command, processes)
    subject = None
    if any(recipe.needs_model for recipe in recipes):
        subject = _subject(session, model, adapt)
    rows: list[_Row] = [
        session.row(recipe, subject if recipe.needs_model else None, changed)
        for recipe, changed in varied
    ]
    extra = _floor_rows(session, subject, rows, adapt) if with_floors and subject else []
    for row in rows:
        beside = row.protocol.floors
        against = [
            e
            for e in extra
            if (
                e.protocol.full_name == row.protocol.full_name and e.changed == row.changed
                if e.subject
                else e.protocol.name in beside
            )
        ]
        row.result.versus = [v for e in against if row.subject and (v := _versus(row, e, seed))]
    results = [row.result for row in (*rows, *extra)]
    if out is not None:
        for result in results:
            result.save(out)
    return results


def _path(value: str | os.PathLike[str] | None) -> Path | None:
    return None if value is None else Path(value)


@dataclass
class _Subject:
    """A model and how it is told of in results."""

    model: Any
    about: dict[str, Any]
    folder: Path | None


@dataclass
class _Row:
    protocol: Protocol
    subject: _Subject | None
    answers: Scored
    result: Result
    changed: dict[str, Any] = field(default_factory=dict)


def _subject(session: "_Session", model: Any, adapt: bool) -> _Subject:
    if backbones.is_backbone(model):
        model = backbones.load(str(model))
    folder = Path(model) if isinstance(model, str | os.PathLike) else None
    loaded = fm.load(folder) if folder is not None else model
    for needed in ("encode", "bands", "state_dict"):
        if not hasattr(loaded, needed):
            raise UsageError(f"{type(loaded).__name__} has no {needed}; give a folder or a model")
    card = getattr(loaded, "card", None)
    name = getattr(card, "name", None) or (folder.name if folder else type(loaded).__name__)
    fitted, report = bands.fit(
        loaded, session.data.bands, benchmark=session.benchmark.full_name, adapt=adapt
    )
    weights = getattr(card, "weights_sha256", None) or None
    if folder is not None and weights is None:
        weights = sha256_file(folder / "model.safetensors")
    about = {
        "name": name,
        "kind": "pretrained" if getattr(loaded, "pretrained", True) else "random-init",
        "path": str(folder) if folder is not None else getattr(loaded, "source", None),
        "weights_sha256": weights,
        **_size(fitted),
        "adapted": report,
    }
    return _Subject(fitted, about, folder)


def _size(model: Any) -> dict[str, Any]:
    architecture = getattr(model, "architecture", None) or {}
    return {
        "parameters": sum(p.numel() for p in model.parameters()) or None,
        "architecture": architecture.get("name", type(model).__name__),
    }


def _floor_rows(
    session: "_Session", subject: _Subject, rows: Sequence[_Row], adapt: bool
) -> list[_Row]:
    """Judge the random-initialised backbone by the model's protocols, and the pixel floors."""
    done = {row.protocol.name for row in rows if row.subject is None}
    wanted = dict.fromkeys(name for row in rows if row.subject for name in row.protocol.floors)
    floor_rows = [session.row(get_protocol(name), None) for name in wanted if name not in done]
    floor_rows += [row for row in rows if row.subject is None]
    source = subject.model if subject.folder is None else None
    if isinstance(source, Adapter) and (source.fresh is None or not source.pretrained):
        if source.fresh is None:
            for row in rows:
                row.result.benchmark["notes"].append(f"{source.source} has no random-init floor")
        return [row for row in floor_rows if id(row) not in {id(one) for one in rows}]
    if isinstance(source, Adapter) and source.fresh is not None:
        fresh: Any = source.fresh(session.seed)
    else:
        fresh = floors.random_init(source, subject.folder, session.seed)
    fitted, report = bands.fit(
        fresh, session.data.bands, benchmark=session.benchmark.full_name, adapt=adapt
    )
    own = dict(subject.about, kind="random-init", path=None, weights_sha256=None)
    own |= {"adapted": report or subject.about["adapted"]}
    for row in rows:
        if row.subject is None:
            continue
        scratch = row.protocol.from_scratch()
        word = "from-scratch" if scratch else "random-init"
        about = dict(own, name=f"{subject.about['name']}-{word}")
        floor_rows.append(
            session.row(scratch or row.protocol, _Subject(fitted, about, None), row.changed)
        )
    known = {id(row) for row in rows}
    return [row for row in floor_rows if id(row) not in known]


def _versus(row: _Row, other: _Row, seed: int) -> dict[str, Any] | None:
    """The paired difference of two rows; None where it has no value."""
    metric = row.result.primary
    found = paired(row.answers, other.answers, metric, seed)
    if found["difference"] is None:
        return None
    return {
        "name": other.result.model["name"],
        "kind": other.result.model["kind"],
        "metric": metric,
        **found,
        "paired": f"{row.result.benchmark['unit']} bootstrap",
    }


class _Session:
    """One benchmark opened for some rows."""

    def __init__(
        self,
        benchmark: Benchmark,
        data: Data,
        seed: int,
        cache: Path | None,
        command: str | None,
        processes: int,
    ) -> None:
        self.benchmark, self.data, self.seed = benchmark, data, seed
        self.cache, self.command, self.processes = cache, command, processes

    def row(
        self,
        protocol: Protocol,
        subject: _Subject | None,
        changed: dict[str, Any] | None = None,
    ) -> _Row:
        """Judge one model (None for a floor) by one protocol, some of its axes changed."""
        begun = time.perf_counter()
        label = subject.about["name"] if subject else protocol.name
        job = Job(
            settings=protocol.settings,
            benchmark=self.benchmark,
            data=self.data,
            model=subject.model if subject else None,
            seed=self.seed,
            cache=self.cache,
            label=label,
            processes=self.processes,
        )
        job = fed(job)
        outcome = judge(protocol, job)
        axes, cost = priced(job, changed or {})
        answers = job.task.answers(self.data, self.data.of("test"), outcome.predictions)
        metrics = {
            name: value
            for name, value in intervals(answers, self.seed).items()
            if value["value"] is not None
        }
        if self.benchmark.primary not in metrics:
            raise FMError(
                f"{self.benchmark.full_name}: {self.benchmark.primary} has no value on this test "
                f"set; it needs positive samples"
            )
        rows, matrix = job.task.details(self.data, answers, outcome.predictions)
        result = Result(
            model=subject.about if subject else _floor(protocol),
            benchmark=self._about([*job.account.notes, *outcome.notes]),
            protocol={
                "name": protocol.name,
                "version": protocol.version,
                "settings": protocol.settings.model_dump(mode="json"),
            },
            seed=self.seed,
            metrics=metrics,
            primary=self.benchmark.primary,
            overlap=self._overlap(subject, protocol),
            interval={
                "kind": "percentile bootstrap",
                "unit": self.benchmark.unit,
                "units": answers.units,
                "resamples": RESAMPLES,
                "level": LEVEL,
            },
            selection=outcome.selection,
            environment=environment(),
            seconds=round(time.perf_counter() - begun, 3),
            per_class=rows,
            confusion=matrix,
            axes=axes,
            cost=cost,
            command=self.command,
        )
        return _Row(protocol, subject, answers, result, changed or {})

    def _overlap(self, subject: _Subject | None, protocol: Protocol) -> dict[str, Any]:
        if subject is None:
            return overlap.none(protocol.name)
        if subject.about["kind"] != "pretrained":
            return overlap.none("a model with random weights")
        return overlap.describe(subject.model, self.data)

    def _about(self, notes: Sequence[str]) -> dict[str, Any]:
        benchmark, data = self.benchmark, self.data
        return {
            "name": benchmark.name,
            "version": benchmark.version,
            "dataset": data.dataset,
            "manifest_hash": data.manifest_hash,
            "task": benchmark.task,
            "n_train": len(data.of("train")),
            "n_val": len(data.of("val")),
            "n_test": len(data.of("test")),
            "classes": list(data.classes),
            "verified": benchmark.verified,
            "split": benchmark.split,
            "unit": benchmark.unit,
            "split_lists": data.split_lists(),
            "notes": [*data.notes, *notes],
        }


def _floor(protocol: Protocol) -> dict[str, Any]:
    keys = ("path", "weights_sha256", "parameters", "architecture", "adapted")
    return {"name": protocol.name, "kind": "floor", **dict.fromkeys(keys)}
