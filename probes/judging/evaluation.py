"""`probes.evaluate`: a model, a benchmark and a protocol become a result with floors."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fm
from fm import weights as carried
from fm.errors import FMError, UsageError
from fm.files import sha256_file
from probes import backbones
from probes.axes import vary
from probes.backbones.adapter import Adapter
from probes.benchmarks import get_benchmark
from probes.checks import bands
from probes.checks.carded import told
from probes.checks.contamination import Rule
from probes.features import floors
from probes.geolocation.pictures import draw
from probes.judging.earlier import refuse_others
from probes.judging.judge import check, floors_of
from probes.judging.kept import beside, differ
from probes.judging.rehearsal import rehearsal
from probes.judging.session import Row, Session, Subject
from probes.location import is_location
from probes.location.verb import is_benchmark, refusal
from probes.protocols import Protocol, get_protocol
from probes.result import Result
from probes.statistics.places import PlaceAnswers


def evaluate(
    model: Any,
    benchmark: str,
    protocol: str,
    *,
    data: str | os.PathLike[str],
    seed: int = 0,
    cache: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    adapt: bool | str = False,
    with_floors: bool = True,
    axes: Mapping[str, Any] | None = None,
    processes: int = 1,
    scratch: str | None = None,
    robustness: bool = False,
    exclude_near: str | None = None,
    command: str | None = None,
    name: str | None = None,
) -> Result:
    """Judge a model by one protocol.

    Args:
        model: a checkpoint folder, `eofm/NAME`, a model with `encode` (`probes.backbones.load` for
            those of others), or None for a floor.
        benchmark: such as `"indian-pines"` or `"indian-pines@1"`.
        protocol: such as `"linear"` or `"linear@1"`.
        data: the dataset folder the benchmark reads.
        seed: of everything that is random, the random-initialised floor and the bootstrap too.
        cache: folder for features; None keeps none.
        out: folder for the result's JSON and the floors'; None writes nothing.
        adapt: let a model with other bands be adapted by the bands it shares; a policy such as
            `"response"` or `"nearest:40"` also estimates those it lacks (`fm.adapt`).
        with_floors: also judge the floors and put the paired differences into the result.
        axes: how pixels come to the model where it is not the protocol's way, see
            `probes.settings.features.Axes`.
        processes: that share the encoding; no number depends on it.
        scratch: a protocol that trains all weights: beside the floors the same architecture is
            trained by it from random weights, on the benchmark's labels alone.
        robustness: also score disturbed test images (`probes.checks.robustness`), the floors' too.
        exclude_near: `KM` or `KM,DAYS`: test samples that may lie so near what the model's card
            says it saw leave the score, the floors' too (`probes.checks.contamination`).
        command: the command line, for the record.
        name: of the model in results; None takes the card's.

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
        scratch=scratch,
        robustness=robustness,
        exclude_near=exclude_near,
        command=command,
        name=name,
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
    adapt: bool | str = False,
    with_floors: bool = True,
    cells: Sequence[Mapping[str, Any]] = ({},),
    processes: int = 1,
    scratch: str | None = None,
    robustness: bool = False,
    exclude_near: str | None = None,
    command: str | None = None,
    name: str | None = None,
    session: Session | None = None,
    maps: str | os.PathLike[str] | None = None,
) -> list[Result]:
    """Judge a model by several protocols; the floors are judged once. Arguments as `evaluate`.

    `cells` are the axes of each cell of a table, as `axes` of `evaluate`: every protocol on a model
    is run in each. `session` is a benchmark opened by `opened`, for several models one after the
    other: its pixel floors are judged once for all of them, and `data`, `seed`, `cache`,
    `processes`, `robustness` and `command` are those it was opened with. `maps` is a folder for a
    picture of each of the model's rows, where places are asked for.

    Returns:
        the model's results in the order of `protocols` and cells, then those of the floors.
    """
    rule = None if exclude_near is None else Rule.parse(exclude_near)
    untrained = None if scratch is None else get_protocol(scratch).from_scratch()
    if scratch is not None and untrained is None:
        raise UsageError(f"--scratch {scratch} trains no backbone; name one such as finetune")
    if scratch is not None and not (with_floors and model is not None):
        raise UsageError("--scratch is a floor beside a model; name a model and leave floors on")
    if is_location(model) or is_benchmark(benchmark):
        raise UsageError(
            refusal(model if isinstance(model, str) else None, benchmark)
            or f"{model}: location encoders are judged by `fm probe {model}`, or by "
            f"probes.location.suite.run"
        )
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
        check(recipe, chosen)
    if untrained is not None:
        check(untrained, chosen)
    if maps is not None and chosen.task != "geolocation":
        raise UsageError(f"--maps draws places, and {chosen.full_name} is one of {chosen.task}")
    varied = [vary(recipe, cell) for recipe in recipes for cell in cells]
    varied = [one for n, one in enumerate(varied) if one not in varied[:n]]
    if session is None:
        session = opened(
            benchmark,
            data,
            seed=seed,
            cache=cache,
            processes=processes,
            robustness=robustness,
            command=command,
        )
    elif session.benchmark is not chosen or rule is not None:
        raise UsageError(
            f"{chosen.full_name}: a session of {session.benchmark.full_name} is shared by models; "
            f"give the benchmark it was opened for, and no exclude_near"
        )
    seed = session.seed
    subject = None
    if any(recipe.needs_model for recipe in recipes):
        subject = _subject(session, model, adapt, name)
        if untrained and isinstance(subject.model, Adapter) and subject.model.fresh is None:
            raise UsageError(
                f"--scratch: {subject.about['name']} has no architecture to train; leave it out"
            )
        session.look_near(subject, rule)
    elif rule is not None:
        raise UsageError("--exclude-near asks what a model saw; name a model, or leave it out")
    if out is not None:
        on_model = [(recipe, changed) for recipe, changed in varied if recipe.needs_model]
        on_pixels = [recipe for recipe in recipes if not recipe.needs_model]
        for recipe, _ in on_model if with_floors else ():
            on_pixels += [get_protocol(name) for name in floors_of(recipe, chosen)[0]]
        refuse_others(Path(out), session, subject, on_model, on_pixels)
    rows: list[Row] = [
        session.row(recipe, subject if recipe.needs_model else None, changed)
        for recipe, changed in varied
    ]
    extra = _floor_rows(session, subject, rows, adapt, untrained) if with_floors and subject else []
    for row in rows:
        shown, _ = floors_of(row.protocol, chosen)
        against = [
            e
            for e in extra
            if (
                e.result.model["kind"] == "supervised"
                or (e.protocol.full_name == row.protocol.full_name and e.changed == row.changed)
                if e.subject
                else e.protocol.name in shown
            )
        ]
        row.result.versus = [v for e in against if row.subject and (v := _versus(row, e, seed))]
    every = list({id(row): row for row in (*rows, *extra)}.values())
    if out is not None:
        for row in every:
            row.kept.save(beside(row.result.save(out)))
    if maps is not None:
        for row in rows:
            assert isinstance(row.kept.answers, PlaceAnswers)
            draw(session.data, row.kept.answers, row.result.id, maps)
    return [row.result for row in every]


def opened(
    benchmark: str,
    data: str | os.PathLike[str],
    *,
    seed: int = 0,
    cache: str | os.PathLike[str] | None = None,
    processes: int = 1,
    robustness: bool = False,
    command: str | None = None,
    rehearse: bool = False,
) -> Session:
    """Open a benchmark for several models; arguments as `evaluate`.

    With `rehearse` val is scored in the place of test (`probes.judging.rehearsal`); such results
    are not to be kept beside others.

    Raises:
        UsageError: an unknown benchmark, or one that cannot be rehearsed.
        FMError: the data cannot be read.
    """
    chosen = get_benchmark(benchmark)
    found = chosen.load(Path(data))
    if rehearse:
        found = rehearsal(chosen, found, seed)
    return Session(chosen, found, seed, _path(cache), command, processes, robustness)


def _path(value: str | os.PathLike[str] | None) -> Path | None:
    return None if value is None else Path(value)


def _subject(session: Session, model: Any, adapt: bool | str, called: str | None) -> Subject:
    if backbones.is_backbone(model):
        model = backbones.load(str(model))
    folder = carried.place(model) if isinstance(model, str | os.PathLike) else None
    loaded = fm.load(folder) if folder is not None else model
    for needed in ("encode", "bands", "state_dict"):
        if not hasattr(loaded, needed):
            raise UsageError(f"{type(loaded).__name__} has no {needed}; give a folder or a model")
    card = getattr(loaded, "card", None)
    place = folder.name if folder else type(loaded).__name__
    name = called or getattr(card, "name", None) or place
    fitted, report = bands.fit(
        loaded, session.data.bands, benchmark=session.benchmark.full_name, adapt=adapt
    )
    weights = getattr(card, "weights_sha256", None) or None
    if folder is not None and weights is None:
        weights = sha256_file(folder / "model.safetensors")
    about = {
        "name": name,
        "kind": "pretrained" if getattr(loaded, "pretrained", True) else "random-init",
        "path": str(model) if folder is not None else getattr(loaded, "source", None),
        "weights_sha256": weights,
        **_size(fitted),
        "adapted": report or getattr(card, "adapted_from", None),
        **told(card),
    }
    return Subject(fitted, about, folder)


def _size(model: Any) -> dict[str, Any]:
    architecture = getattr(model, "architecture", None) or {}
    return {
        "parameters": sum(p.numel() for p in model.parameters()) or None,
        "architecture": architecture.get("name", type(model).__name__),
    }


def _floor_rows(
    session: Session,
    subject: Subject,
    rows: Sequence[Row],
    adapt: bool | str,
    untrained: Protocol | None,
) -> list[Row]:
    """Judge the random-initialised backbone by the model's protocols, and the pixel floors."""
    rows = [row for row in rows if row.subject]
    wanted: dict[str, None] = {}
    for row in rows:
        found, missing = floors_of(row.protocol, session.benchmark)
        wanted |= dict.fromkeys(found)
        if missing:
            row.result.benchmark["notes"].append(
                f"no floor on pixels: {', '.join(missing)} do not answer {session.benchmark.task}"
            )
    floor_rows: list[Row] = []
    for name in wanted:
        try:
            floor_rows.append(session.row(get_protocol(name), None))
        except FMError as error:  # such as pictures smaller than a kernel: the model is judged yet
            for row in rows:
                row.result.benchmark["notes"].append(f"no floor {name}: {error}")
    source = subject.model if subject.folder is None else None
    if isinstance(source, Adapter):
        if source.fresh is None:
            for row in rows:
                row.result.benchmark["notes"].append(f"{source.source} has no random-init floor")
            return floor_rows
        fresh: Any = source.fresh(session.seed)
        if not source.pretrained:
            rows = []  # they are their own floor
    else:
        fresh = floors.random_init(source, subject.folder, session.seed)
    fitted, report = bands.fit(
        fresh, session.data.bands, benchmark=session.benchmark.full_name, adapt=adapt
    )
    own = dict(subject.about, kind="random-init", path=None, weights_sha256=None)
    own |= {"adapted": report or subject.about["adapted"]}
    own.pop("card", None)  # it is of the trained weights
    for row in rows:
        scratch = row.protocol.from_scratch()
        if scratch and scratch == untrained:
            untrained = None  # it stands there already
        word = "from-scratch" if scratch else "random-init"
        about = dict(own, name=f"{subject.about['name']}-{word}")
        floor_rows.append(
            session.row(
                scratch or row.protocol, Subject(fitted, about, subject.folder), row.changed
            )
        )
    if untrained is not None:
        name = f"{subject.about['name']}-from-scratch"
        about = dict(own, kind="supervised", name=name)
        floor_rows.append(session.row(untrained, Subject(fitted, about, subject.folder)))
    return floor_rows


def _versus(row: Row, other: Row, seed: int) -> dict[str, Any] | None:
    """The paired difference of two rows; None where it has no value."""
    metric = row.result.primary
    found = differ(row.kept, other.kept, metric, seed)
    if found["difference"] is None:
        return None
    return {
        "name": other.result.model["name"],
        "kind": other.result.model["kind"],
        "metric": metric,
        **found,
        "paired": f"{row.result.benchmark['unit']} bootstrap",
    }
